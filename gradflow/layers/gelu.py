"""The Gaussian error linear unit (Hendrycks & Gimpel, 2016), exact and approximated by tanh."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.arguments import known_name
from gradflow.layers.base import Activation
from gradflow.ops import SATURATED, Array, op

__all__ = ["GELU", "gelu_backward", "gelu_forward", "gelu_tanh_backward", "gelu_tanh_forward"]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal(x: Array) -> Array:
    """The normal distribution function, in float64."""
    return _erfc(x * -math.sqrt(0.5)) / 2


def _sigmoid(x: Array) -> Array:
    small = np.exp(-abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def gelu_forward(x: Array, y: Array) -> None:
    """y = x P(x) with the normal distribution function P, and 0 at minus infinity"""
    y[...] = np.maximum(x, -SATURATED) * _normal(x.astype(np.float64))


@op(shapes="x, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def gelu_backward(x: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = (P(x) + x exp(-x² / 2) / √(2π)) dL/dy"""
    z = np.clip(x, -SATURATED, SATURATED).astype(np.float64)
    d_x[...] = (_normal(z) + z * np.exp(z * z / -2) / math.sqrt(2 * math.pi)) * d_y


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def gelu_tanh_forward(x: Array, y: Array) -> None:
    """y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, and 0 at minus infinity; (1 + tanh(v / 2)) / 2 = sigmoid(v)"""
    z = np.clip(x, -SATURATED, SATURATED)
    y[...] = np.maximum(x, -SATURATED) * _sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))


@op(shapes="x, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def gelu_tanh_backward(x: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = (s + x s (1 - s) dv/dx) dL/dy with s = sigmoid(v), v = √(8/π) (x + 0.044715 x³)"""
    z = np.clip(x, -SATURATED, SATURATED)
    v = math.sqrt(8 / math.pi) * (z + 0.044715 * z**3)
    slope = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * z**2)
    d_x[...] = _sigmoid(v) * (1 + z * _sigmoid(-v) * slope) * d_y


_FORMS = {"none": (gelu_forward, gelu_backward), "tanh": (gelu_tanh_forward, gelu_tanh_backward)}


class GELU(Activation):
    """y = x P(x) with the normal distribution function P, for x of shape (batch, n): minimum -0.170 at x = -0.752.

    Args:
        approximate: "none" for the exact form, or "tanh" for y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, which is
            within 0.0005 of it and what many published networks were trained with.

    Raises:
        DataError: for any other ``approximate``.
    """

    backward_reads = ("x",)
    preferred_initializer = "he_normal"

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = known_name("approximation of GELU", approximate, _FORMS)
        self.forward_op, self.backward_op = _FORMS[approximate]

    def config(self) -> dict[str, Any]:
        return {"approximate": self.approximate}

    def settings(self) -> dict[str, Any]:
        return {}
