"""The rectified linear unit (Nair & Hinton, 2010).

References:
    V. Nair & G. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML (2010).
"""

from __future__ import annotations

import numpy as np

from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def relu_forward(x: Array, y: Array) -> None:
    """y = max(x, 0)"""
    np.maximum(x, 0, out=y)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def relu_backward(y: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = dL/dy where y > 0, else 0; the derivative at 0 is taken as 0"""
    d_x[...] = np.where(y <= 0, 0, d_y)


class ReLU(Activation):
    """y = max(x, 0), for x of shape (batch, n). A unit whose x is negative for every row is dead: its gradient is 0."""

    name = "relu"
    forward_op, backward_op = relu_forward, relu_backward
    preferred_initializer = "he_normal"
