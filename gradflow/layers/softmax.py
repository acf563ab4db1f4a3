"""Softmax (Bridle, 1990), the activation that outputs a probability for each class.

References:
    J. S. Bridle, "Probabilistic interpretation of feedforward classification network outputs", in *Neurocomputing*
        (1990).
"""

from __future__ import annotations

from gradflow.functions import softmax
from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: rows columns", writes=("y",), in_place=(("x", "y"),))
def softmax_forward(x: Array, y: Array) -> None:
    """y_j = exp(x_j - m) / sum_k exp(x_k - m) in each row, m = max_k x_k against overflow"""
    y[...] = softmax(x)


@op(shapes="y, d_y, d_x: rows columns", writes=("d_x",), in_place=(("d_y", "d_x"),))
def softmax_backward(y: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx_j = y_j (dL/dy_j - sum_k y_k dL/dy_k) in each row"""
    d_x[...] = y * (d_y - (y * d_y).sum(axis=1, keepdims=True))


class Softmax(Activation):
    """y_j = exp(x_j) / sum_k exp(x_k) in each row, for x of shape (batch, n).

    As the last layer before the loss "softmax_cross_entropy" it is folded into the loss, which is faster and
    numerically more stable.
    """

    name = "softmax"
    forward_op, backward_op = softmax_forward, softmax_backward
