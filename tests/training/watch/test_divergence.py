"""A diverged run names the layer where the divergence began."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
Y = X @ RNG.normal(size=(4, 2))


class Exploding(gf.Layer):
    """y = exp(exp(x)), which overflows from x = 5 on."""

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = np.exp(np.exp(x))

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        if d_x is not None:
            d_x[...] = d_y * y * np.exp(x)


def diverged(layers: list[gf.Layer], x: np.ndarray, rate: float, backend: str, **arguments: Any) -> gf.DivergedError:
    trainer = gf.Trainer(gf.Sequential(layers, seed=2, backend=backend), "mean_squared_error", gf.SGD(rate))
    with pytest.raises(gf.DivergedError) as raised:
        trainer.fit(x, Y, **{"epochs": 50, "batch_size": 16, **arguments})
    return raised.value


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_layer_where_a_divergence_began_is_named(accumulate: int, shuffle: bool, backend_name: str) -> None:
    x = np.zeros((70, 4))
    x[41] = 100  # one row out of 70 overflows, whichever batch it comes in
    layers = [gf.Dense(4, 3, initializer=1.0), Exploding(), gf.Dense(3, 2)]
    error = diverged(layers, x, 1e-9, backend_name, shuffle=shuffle, accumulate=accumulate)
    assert "layer 1, Exploding(), was the first with outputs that are not finite" in str(error)
    if not shuffle:
        assert (error.epoch, error.step) == (1, 3)


def test_finite_outputs_are_reported(backend_name: str) -> None:
    with pytest.warns(gf.TrainingWarning, match="the loss has exploded"):
        error = diverged([gf.Dense(4, 2)], X, 1e6, backend_name, batch_size=None)
    assert "the outputs of all layers were finite, up to" in str(error)
    assert "Try a learning rate below 1e+06" in str(error)
