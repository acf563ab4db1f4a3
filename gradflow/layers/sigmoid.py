"""The logistic sigmoid."""

from __future__ import annotations

from gradflow.functions import sigmoid
from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def sigmoid_forward(x: Array, y: Array) -> None:
    """y = 1 / (1 + exp(-x)), written exp(x) / (1 + exp(x)) for negative x against overflow"""
    y[...] = sigmoid(x)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def sigmoid_backward(y: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = y (1 - y) dL/dy"""
    d_x[...] = y * (1 - y) * d_y


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), for x of shape (batch, n). Its derivative is at most ¼: gradients shrink with depth."""

    name = "sigmoid"
    forward_op, backward_op = sigmoid_forward, sigmoid_backward
