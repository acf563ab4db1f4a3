"""Softplus (Dugas, Bengio, Bélisle, Nadeau & Garcia, 2001).

References:
    C. Dugas et al., "Incorporating second-order functional knowledge for better option pricing", NIPS (2001).
"""

from __future__ import annotations

import numpy as np

from gradflow.functions import softplus
from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def softplus_forward(x: Array, y: Array) -> None:
    """y = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))"""
    y[...] = softplus(x)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def softplus_backward(y: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = sigmoid(x) dL/dy = (1 - exp(-y)) dL/dy"""
    d_x[...] = -np.expm1(-y) * d_y


class Softplus(Activation):
    """y = log(1 + exp(x)), for x of shape (batch, n): a smooth ReLU, above 0 everywhere."""

    name = "softplus"
    forward_op, backward_op = softplus_forward, softplus_backward
    preferred_initializer = "he_normal"
