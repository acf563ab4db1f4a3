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


class Hiding(gf.Layer):
    """y = x where it is finite, else 0. The gradient of the batch with this number is NaN."""

    def __init__(self, batch: int) -> None:
        self.batch, self.batches = batch, 0

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = x
        y[~np.isfinite(x)] = 0

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        d_x[...] = d_y
        self.batches += 1
        if self.batches == self.batch:
            d_x[0, 0] = np.nan


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


@pytest.mark.parametrize("batch", [1, 3, 5, 7, 10])
def test_weights_that_are_not_finite_stop_the_run_even_if_the_loss_is(batch: int, backend_name: str) -> None:
    error = diverged([gf.Dense(4, 3), Hiding(batch), gf.Dense(3, 2)], X, 0.01, backend_name)
    assert (error.epoch, error.step) == ((batch - 1) // 5 + 1, (batch - 1) % 5 + 1)
    assert str(error).startswith(f"a weight became NaN or infinite in epoch {error.epoch}, at step {error.step} of 5")
    assert "0.weight first: the step was too long" in str(error)


def test_weights_that_were_never_finite_are_reported_at_the_first_step(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2)], backend=backend_name)
    nan = np.full(network.n_parameters, np.nan, network.dtype)  # set_weights refuses it
    network.backend.copy(network.backend.from_host(nan), network.parameters)
    with pytest.raises(gf.DivergedError, match="a weight became NaN or infinite in epoch 1, at step 1 of 5"):
        gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(X, Y, epochs=2, batch_size=16)


def test_finite_outputs_are_reported(backend_name: str) -> None:
    with pytest.warns(gf.TrainingWarning, match="the loss has exploded"):
        error = diverged([gf.Dense(4, 2)], X, 1e6, backend_name, batch_size=None)
    assert "the outputs of all layers were finite, up to" in str(error)
    assert "Try a learning rate below 1e+06" in str(error)
