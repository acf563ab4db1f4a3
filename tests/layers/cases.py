"""One case per kind of layer: how to create it, and inputs at which its derivative exists.

A new layer adds one line here, an activation only its row in gradflow/testing/activations.py; the tests in this folder
do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

import gradflow as gf
from gradflow.testing.activations import ACTIVATION_CASES

WIDTH = 5


def away_from_zero(x: np.ndarray) -> np.ndarray:
    """Return the same numbers, moved to at least 0.1 from the kink at zero."""
    return np.sign(x) * (np.abs(x) + 0.1)


@dataclass(frozen=True)
class LayerCase:
    """A layer between two dense ones, and a function that moves ordinary inputs to where it is differentiable."""

    make: Callable[[], gf.Layer]
    adjust: Callable[[np.ndarray], np.ndarray] = lambda x: x


def activations() -> Iterator[tuple[str, LayerCase]]:
    """Yield every elementwise activation, with default settings and with those that its ops are tested with."""
    for case in ACTIVATION_CASES.values():
        for settings in ({}, *case.forward.variants):
            make = partial(case.make, **settings)
            yield repr(make()), LayerCase(make, away_from_zero) if case.has_kink else LayerCase(make)


LAYER_CASES = {
    **dict(activations()),
    "BatchNorm": LayerCase(lambda: gf.BatchNorm(WIDTH, momentum=0.3, epsilon=0.1)),
    "CosineEmbedding": LayerCase(lambda: gf.CosineEmbedding(WIDTH, 3, size=4)),
    "Dense": LayerCase(lambda: gf.Dense(WIDTH, WIDTH)),
    "Dense without bias": LayerCase(lambda: gf.Dense(WIDTH, WIDTH, bias=False)),
    "Dropout": LayerCase(lambda: gf.Dropout(0.4)),
    "EachMember": LayerCase(
        lambda: gf.EachMember(
            [
                gf.Dense(WIDTH, 3),
                gf.MemberScale(3, members=2, bias=True, initializer=0.7),
                gf.Tanh(),
                gf.MemberDense(3, 4, members=2),
            ],
            members=2,
            initial_scale="normal",
        )
    ),
    "Identity": LayerCase(gf.Identity),
    "Increasing": LayerCase(lambda: gf.Increasing(WIDTH)),
    "LayerNorm": LayerCase(lambda: gf.LayerNorm(WIDTH, epsilon=0.1)),
    "Parametric SELU": LayerCase(lambda: gf.Parametric(WIDTH, "selu"), away_from_zero),
    "Parametric Mish": LayerCase(lambda: gf.Parametric(WIDTH, "mish")),
    "Parametric ReLU": LayerCase(lambda: gf.Parametric(WIDTH, "relu"), away_from_zero),
    "PeriodicEmbedding": LayerCase(lambda: gf.PeriodicEmbedding(WIDTH, 3, frequencies=6, size=3)),
    "PeriodicEmbedding with ReLU": LayerCase(lambda: gf.PeriodicEmbedding(WIDTH, form="plr", frequencies=3, std=1)),
    "PiecewiseLinearEmbedding": LayerCase(
        lambda: gf.PiecewiseLinearEmbedding(WIDTH, [[-0.5, 0.3, 0.4, 1.2], [-1, 0]], size=3)
    ),
    "PiecewiseLinearEmbedding with ReLU": LayerCase(
        lambda: gf.PiecewiseLinearEmbedding(WIDTH, [[-1, 0.1, 1.2]] * WIDTH, size=2, relu=True)
    ),
    "Residual": LayerCase(lambda: gf.Residual([gf.Dense(WIDTH, 3), gf.Tanh(), gf.Dense(3, WIDTH)])),
    "Residual with projection": LayerCase(lambda: gf.Residual([gf.Sigmoid(), gf.Dense(WIDTH, 3), gf.Tanh()])),
    "Scale": LayerCase(lambda: gf.Scale(WIDTH)),
    "Softmax": LayerCase(gf.Softmax),
}
