"""Mish (Misra, 2020).

References:
    D. Misra, "Mish", BMVC (2020).
"""

from __future__ import annotations

import numpy as np

from gradflow.functions import softplus
from gradflow.layers.base import Activation
from gradflow.ops import SATURATED, Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def mish_forward(x: Array, y: Array) -> None:
    """y = x tanh(log(1 + exp(x))), and 0 at minus infinity"""
    y[...] = np.maximum(x, -SATURATED) * np.tanh(softplus(x))


@op(shapes="x, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def mish_backward(x: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = (tanh(p) + x sigmoid(x) / cosh²(p)) dL/dy with p = log(1 + exp(x)), sigmoid(x) = 1 - exp(-p)"""
    z = np.clip(x, -SATURATED, SATURATED)
    p = softplus(z)
    small = np.exp(-2 * p)
    d_x[...] = (np.tanh(p) - z * np.expm1(-p) * 4 * small / (1 + small) ** 2) * d_y


class Mish(Activation):
    """y = x tanh(log(1 + exp(x))), for x of shape (batch, n): a smooth ReLU with minimum -0.309 at x = -1.192."""

    name = "mish"
    backward_reads = ("x",)
    forward_op, backward_op = mish_forward, mish_backward
    preferred_initializer = "he_normal"
