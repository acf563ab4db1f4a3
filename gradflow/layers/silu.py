"""The sigmoid-weighted linear unit, also called Swish (Elfwing, Uchibe & Doya, 2018).

References:
    S. Elfwing, E. Uchibe & K. Doya, "Sigmoid-weighted linear units for neural network function approximation in
        reinforcement learning", *Neural Networks* 107 (2018).
"""

from __future__ import annotations

import numpy as np

from gradflow.functions import sigmoid
from gradflow.layers.base import Activation
from gradflow.ops import SATURATED, Array, op


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def silu_forward(x: Array, y: Array) -> None:
    """y = x sigmoid(x), and 0 at minus infinity"""
    y[...] = np.maximum(x, -SATURATED) * sigmoid(x)


@op(shapes="x, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def silu_backward(x: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = s (1 + x (1 - s)) dL/dy with s = sigmoid(x), 1 - s = sigmoid(-x)"""
    z = np.clip(x, -SATURATED, SATURATED)
    d_x[...] = sigmoid(z) * (1 + z * sigmoid(-z)) * d_y


class SiLU(Activation):
    """y = x sigmoid(x), for x of shape (batch, n): a smooth ReLU with minimum -0.278 at x = -1.278."""

    name = "silu"
    backward_reads = ("x",)
    forward_op, backward_op = silu_forward, silu_backward
    preferred_initializer = "he_normal"
