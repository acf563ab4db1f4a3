"""The scaled exponential linear unit (Klambauer, Unterthiner, Mayr & Hochreiter, 2017).

References:
    G. Klambauer et al., "Self-normalizing neural networks", NIPS (2017).
"""

from __future__ import annotations

import numpy as np

from gradflow.layers.base import Activation
from gradflow.ops import Array, op

POSITIVE_SCALE = 1.0507009873554804934
NEGATIVE_SCALE = 1.7580993408473768599  # scale alpha, with alpha = 1.6732632423543772848


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def selu_forward(x: Array, y: Array) -> None:
    """y = scale x where x > 0, else scale alpha (exp(x) - 1), scale = 1.0507, alpha = 1.6733: equation 2"""
    y[...] = np.where(x <= 0, NEGATIVE_SCALE * np.expm1(x), POSITIVE_SCALE * x)


@op(shapes="y, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def selu_backward(y: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = scale dL/dy where y > 0, else (y + scale alpha) dL/dy, since scale alpha exp(x) = y + scale alpha"""
    d_x[...] = np.where(y <= 0, y + NEGATIVE_SCALE, POSITIVE_SCALE) * d_y


class SELU(Activation):
    """y = scale x where x > 0, else scale alpha (exp(x) - 1), for x of shape (batch, n).

    scale = 1.0507 and alpha = 1.6733 are chosen to preserve mean 0 and variance 1 of the outputs from layer to layer,
    if weights are initialized as N(0, 1 / n_in), the default of a `Dense` before it ("lecun_normal").
    """

    name = "selu"
    forward_op, backward_op = selu_forward, selu_backward
    preferred_initializer = "lecun_normal"
