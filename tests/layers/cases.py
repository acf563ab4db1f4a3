"""One case per kind of layer: how to create it, and inputs at which its derivative exists.

A new layer adds one line here; the tests in this folder do the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import gradflow as gf

WIDTH = 5


def away_from_zero(x: np.ndarray) -> np.ndarray:
    """Return the same numbers, moved to at least 0.1 from the kink at zero."""
    return np.sign(x) * (np.abs(x) + 0.1)


@dataclass(frozen=True)
class LayerCase:
    """A layer between two dense ones, and a function that moves ordinary inputs to where it is differentiable."""

    make: Callable[[], gf.Layer]
    adjust: Callable[[np.ndarray], np.ndarray] = lambda x: x


LAYER_CASES = {
    "BatchNorm": LayerCase(lambda: gf.BatchNorm(WIDTH, momentum=0.3, epsilon=0.1)),
    "Dense": LayerCase(lambda: gf.Dense(WIDTH, WIDTH)),
    "Dense without bias": LayerCase(lambda: gf.Dense(WIDTH, WIDTH, bias=False)),
    "Dropout": LayerCase(lambda: gf.Dropout(0.4)),
    "ELU": LayerCase(lambda: gf.ELU(1.0), away_from_zero),
    "ELU with alpha": LayerCase(lambda: gf.ELU(0.7), away_from_zero),
    "GELU": LayerCase(gf.GELU),
    "GELU by tanh": LayerCase(lambda: gf.GELU(approximate="tanh")),
    "Identity": LayerCase(gf.Identity),
    "LayerNorm": LayerCase(lambda: gf.LayerNorm(WIDTH, epsilon=0.1)),
    "LeakyReLU": LayerCase(lambda: gf.LeakyReLU(0.2), away_from_zero),
    "Mish": LayerCase(gf.Mish),
    "ReLU": LayerCase(gf.ReLU, away_from_zero),
    "SELU": LayerCase(gf.SELU, away_from_zero),
    "SiLU": LayerCase(gf.SiLU),
    "Residual": LayerCase(lambda: gf.Residual([gf.Dense(WIDTH, 3), gf.Tanh(), gf.Dense(3, WIDTH)])),
    "Residual with projection": LayerCase(lambda: gf.Residual([gf.Sigmoid(), gf.Dense(WIDTH, 3), gf.Tanh()])),
    "Sigmoid": LayerCase(gf.Sigmoid),
    "Softmax": LayerCase(gf.Softmax),
    "Softplus": LayerCase(gf.Softplus),
    "Tanh": LayerCase(gf.Tanh),
}
