"""The exponential linear unit (Clevert, Unterthiner & Hochreiter, 2016).

References:
    D.-A. Clevert, T. Unterthiner & S. Hochreiter, "Fast and accurate deep network learning by exponential linear
        units", ICLR (2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive
from gradflow.layers.base import Activation
from gradflow.ops import Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def elu_forward(x: Array, y: Array, alpha: float) -> None:
    """y = x where x > 0, else alpha (exp(x) - 1): equation 15 of the paper"""
    y[...] = np.where(x <= 0, alpha * np.expm1(x), x)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def elu_backward(y: Array, d_y: Array, d_x: Array, alpha: float) -> None:
    """dL/dx = dL/dy where y > 0, else (y + alpha) dL/dy, since alpha exp(x) = y + alpha"""
    d_x[...] = np.where(y <= 0, (y + alpha) * d_y, d_y)


class ELU(Activation):
    """y = x where x > 0, else alpha (exp(x) - 1), for x of shape (batch, n).

    Args:
        alpha: minus the limit of y as x tends to minus infinity, above 0.
    """

    name = "elu"
    forward_op, backward_op = elu_forward, elu_backward
    preferred_initializer = "he_normal"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = positive("alpha", alpha)

    def config(self) -> dict[str, Any]:
        return {"alpha": self.alpha}
