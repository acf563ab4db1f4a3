"""The Gaussian error linear unit (Hendrycks & Gimpel, 2016), exact and with the tanh approximation.

References:
    D. Hendrycks & K. Gimpel, "Gaussian error linear units", arXiv:1606.08415 (2016).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.checks import known_name
from gradflow.functions import sigmoid
from gradflow.layers.base import Activation
from gradflow.ops import SATURATED, Array, op

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal(x: Array) -> Array:
    """Return the normal distribution function, in float64."""
    return _erfc(x * -math.sqrt(0.5)) / 2


# Q of kernels/layers/normal.h for float64, the constant first.
NORMAL_TAIL = (
    0.76919304975006297, -0.66538250289005679, 0.49530561596997414, -0.31353315667129711,
    0.16502036617050069, -0.069118638706479819, 0.020795066797569856, -0.0029933767690944728,
    -0.00079786937489119333, 0.00054489906269585206, -5.9375866167360709e-5, -4.9762853165030136e-5,
    1.6681703609772679e-5, 3.9811827415325775e-6, -2.7703209441469523e-6, -3.3749652035246319e-7,
    4.3443907263764585e-7, 4.3758415982855749e-8, -6.6675293392275716e-8, -1.0618274174239376e-8,
    7.6304104178731823e-9, 2.2249387677164433e-9,
)  # fmt: skip


def _normal_and_bell(x: Array) -> tuple[Array, Array]:
    """Return the normal distribution function P(x), as in kernels/layers/normal.h, and exp(-x² / 2), for finite x.

    `_normal` calls Python for each element: a step of network M would take 3.8 times as long with it.
    """
    size = abs(x)
    rounder = 98304.0 if x.dtype == np.float32 else 6442450944.0  # rounds to few enough bits for an exact square
    rounded = (size + rounder) - rounder
    bell = np.exp(rounded * rounded / -2) * np.exp((size - rounded) * (size + rounded) / -2)
    scale = size + 5
    position, tail = (size - 5) / scale, np.full_like(x, NORMAL_TAIL[-1])
    for coefficient in NORMAL_TAIL[-2::-1]:
        tail = tail * position + coefficient
    tail = tail / scale * bell
    return np.where(x < 0, tail, 1 - tail), bell


def _gelu_forward(x: Array, y: Array) -> None:
    normal, _ = _normal_and_bell(np.clip(x, -SATURATED, SATURATED))
    y[...] = np.maximum(x, -SATURATED) * normal


def _gelu_backward(x: Array, d_y: Array, d_x: Array) -> None:
    z = np.clip(x, -SATURATED, SATURATED)
    normal, bell = _normal_and_bell(z)
    d_x[...] = (normal + z * bell / math.sqrt(2 * math.pi)) * d_y


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),), numpy_form=_gelu_forward)
def gelu_forward(x: Array, y: Array) -> None:
    """y = x P(x) with the normal cumulative distribution function P, and 0 at minus infinity"""
    y[...] = np.maximum(x, -SATURATED) * _normal(x.astype(np.float64))


@op(shapes="x, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),), numpy_form=_gelu_backward)
def gelu_backward(x: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = (P(x) + x exp(-x² / 2) / √(2π)) dL/dy"""
    z = np.clip(x, -SATURATED, SATURATED).astype(np.float64)
    d_x[...] = (_normal(z) + z * np.exp(z * z / -2) / math.sqrt(2 * math.pi)) * d_y


@op(shapes="x, y: *shape", writes=("y",), in_place=(("x", "y"),))
def gelu_tanh_forward(x: Array, y: Array) -> None:
    """y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, and 0 at minus infinity; (1 + tanh(v / 2)) / 2 = sigmoid(v)"""
    z = np.clip(x, -SATURATED, SATURATED).astype(np.float64)
    y[...] = np.maximum(x, -SATURATED) * sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z * z * z))


@op(shapes="x, d_y, d_x: *shape", writes=("d_x",), in_place=(("d_y", "d_x"),))
def gelu_tanh_backward(x: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx = (s + x s (1 - s) dv/dx) dL/dy with s = sigmoid(v), v = √(8/π) (x + 0.044715 x³)"""
    z = np.clip(x, -SATURATED, SATURATED).astype(np.float64)
    v = math.sqrt(8 / math.pi) * (z + 0.044715 * z * z * z)
    slope = math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * z**2)
    d_x[...] = sigmoid(v) * (1 + z * sigmoid(-v) * slope) * d_y


_FORMS = {"none": (gelu_forward, gelu_backward), "tanh": (gelu_tanh_forward, gelu_tanh_backward)}


class GELU(Activation):
    """y = x P(x) with the normal distribution function P, for x of shape (batch, n): minimum -0.170 at x = -0.752.

    Args:
        approximate: "none" for the exact form, or "tanh" for y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, which
            differs by at most 0.0005, and which many published networks were trained with.

    Raises:
        DataError: if ``approximate`` has any other value.
    """

    name = "gelu"
    backward_reads = ("x",)
    preferred_initializer = "he_normal"

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = known_name("approximation of GELU", approximate, _FORMS)
        self.forward_op, self.backward_op = _FORMS[approximate]

    def config(self) -> dict[str, Any]:
        return {"approximate": self.approximate}

    def settings(self) -> dict[str, Any]:
        return {}
