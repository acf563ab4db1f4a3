"""The leaky rectified linear unit (Maas, Hannun & Ng, 2013).

References:
    A. L. Maas, A. Y. Hannun & A. Y. Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML (2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import non_negative
from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def leaky_relu_forward(x: Array, y: Array, slope: float) -> None:
    """y = x where x > 0, else slope x"""
    y[...] = np.where(x <= 0, slope * x, x)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def leaky_relu_backward(y: Array, d_y: Array, d_x: Array, slope: float) -> None:
    """dL/dx = dL/dy where y > 0, else slope dL/dy; y has the sign of x since slope >= 0"""
    d_x[...] = np.where(y <= 0, slope * d_y, d_y)


class LeakyReLU(Activation):
    """y = x where x > 0, else slope x, for x of shape (batch, n). The slope gives inactive units a gradient.

    Args:
        slope: the slope for negative inputs, at least 0.
    """

    name = "leaky_relu"
    forward_op, backward_op = leaky_relu_forward, leaky_relu_backward
    preferred_initializer = "he_normal"

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = non_negative("slope", slope)

    def config(self) -> dict[str, Any]:
        return {"slope": self.slope}
