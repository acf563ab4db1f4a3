"""The hyperbolic tangent."""

from __future__ import annotations

import numpy as np

from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def tanh_forward(x: Array, y: Array) -> None:
    """y = tanh(x)"""
    np.tanh(x, out=y)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def tanh_backward(y: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = (1 - y^2) dL/dy, written (1 - y)(1 + y) against cancellation near y = 1"""
    d_x[...] = (1 - y) * (1 + y) * d_y


class Tanh(Activation):
    """y = tanh(x), for x of shape (batch, n)."""

    name = "tanh"
    forward_op, backward_op = tanh_forward, tanh_backward
