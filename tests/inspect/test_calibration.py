"""Temperature scaling: the least log loss, what stays the same, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
LABELS = np.argmax(X + RNG.gumbel(size=X.shape), axis=1)  # the probabilities of a softmax of x


def make_network(scale: float, backend: str = "numpy", *, n_out: int = 3, **settings: Any) -> gf.Sequential:
    """Return a network whose logits are x times a scale: the right ones at 1."""
    layers = [gf.Dense(3, 3), gf.Dense(3, n_out)]
    network = gf.Sequential(layers, dtype="float64", backend=backend, **settings)
    zeros = {"0.bias": np.zeros(3), "1.bias": np.zeros(n_out)}
    network.set_weights({"0.weight": np.eye(3), "1.weight": scale * np.eye(3)[:, :n_out], **zeros})
    network.output_activation = "softmax" if n_out > 1 else "sigmoid"
    return network


def log_loss(network: gf.Sequential, temperature: float, weight: np.ndarray) -> float:
    z = network.logits(X) / temperature
    if z.shape[1] == 1:
        losses = np.logaddexp(0, z[:, 0]) - (LABELS == 0) * z[:, 0]
    else:
        losses = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(z)), LABELS]
    return float((weight * losses).sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_out", [3, 1])
def test_no_other_temperature_has_a_smaller_log_loss(n_out: int, weighted: bool, backend_name: str) -> None:
    network = make_network(5.0, backend_name, n_out=n_out)
    before = network.copy()
    weight = RNG.uniform(0.1, 3, len(X)) if weighted else np.ones(len(X))
    y = LABELS if n_out > 1 else (LABELS == 0).astype(float)
    temperature = gf.calibrate(network, X, y, sample_weight=weight if weighted else None)
    assert temperature > 1
    least = log_loss(before, temperature, weight)
    assert all(log_loss(before, other * temperature, weight) > least for other in (0.9, 0.999, 1.001, 1.1))
    assert_allclose(network.logits(X), before.logits(X) / temperature, rtol=1e-12)
    assert_array_equal(network.predict_classes(X), before.predict_classes(X))
    assert_allclose(gf.calibrate(network, X, y, sample_weight=weight if weighted else None), 1, rtol=1e-9)


def test_it_finds_the_scale_of_logits_that_are_too_large() -> None:
    # With 400 rows the temperature is known to about a tenth.
    assert_allclose(gf.calibrate(make_network(5.0), X, LABELS), 5, rtol=0.3)
    assert_allclose(gf.calibrate(make_network(0.5), X, LABELS), 0.5, rtol=0.3)


def test_class_names_and_a_trailing_softmax(backend_name: str) -> None:
    names = np.array(["a", "b", "c"])[LABELS]
    network = gf.Sequential([gf.Dense(3, 3), gf.Softmax()], seed=1, backend=backend_name)
    gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.1)).fit(X, names, epochs=30, progress=False)
    sure = network.get_weights()
    network.set_weights({name: 8 * weight for name, weight in sure.items()})
    assert_allclose(gf.calibrate(network, X, names), 8, rtol=0.3)
    assert_allclose(network.get_weights()["0.weight"], sure["0.weight"], rtol=0.3, atol=0.05)


def test_rows_that_are_all_right_have_a_limited_temperature() -> None:
    network = make_network(1.0)
    assert_allclose(gf.calibrate(network, X, X.argmax(axis=1)), 0.05, rtol=1e-9)


@pytest.mark.gpu
def test_rows_on_the_gpu() -> None:
    import cupy

    network, other = make_network(5.0, "cupy"), make_network(5.0, "cupy")
    on_device = gf.calibrate(network, cupy.asarray(X), cupy.asarray(LABELS), sample_weight=cupy.ones(len(X)))
    assert_allclose(on_device, gf.calibrate(other, X, LABELS), rtol=1e-9)


def test_what_has_no_probabilities_is_refused() -> None:
    network = gf.Sequential([gf.Dense(3, 2)], backend="numpy")
    with pytest.raises(gf.DataError, match="a trained classifier, with softmax or sigmoid outputs"):
        gf.calibrate(network, X, LABELS)
    last = gf.Sequential([gf.Dense(3, 3), gf.LayerNorm(3), gf.Softmax()], backend="numpy")
    with pytest.raises(gf.DataError, match="the last Dense layer, but the network ends in LayerNorm"):
        gf.calibrate(last, X, LABELS)
