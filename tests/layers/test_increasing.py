"""`Increasing`: the formula, and quantiles that do not cross."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = np.stack([X[:, 0] + 0.3 * RNG.normal(size=120), 100 * X[:, 1] + 30 * RNG.normal(size=120)], axis=1)
QUANTILES = [0.1, 0.4, 0.5, 0.9]


def make_network(backend: str, **settings: Any) -> gf.Sequential:
    layers = [gf.Dense(3, 16), gf.Tanh(), gf.Dense(16, 8), gf.Increasing(4)]
    return gf.Sequential(layers, seed=2, backend=backend, **settings)


def test_the_formula(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(3, 6), gf.Increasing(3)], dtype="float64", backend=backend_name)
    weights = network.get_weights()
    z = (X @ weights["0.weight"] + weights["0.bias"]).reshape(-1, 2, 3)
    expected = np.cumsum(np.concatenate([z[:, :, :1], np.log1p(np.exp(z[:, :, 1:]))], axis=2), axis=2)
    assert_allclose(network.predict(X), expected.reshape(-1, 6), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scaled", [False, True])
def test_quantiles_of_several_targets_do_not_cross(scaled: bool, backend_name: str, tmp_path: Path) -> None:
    network = make_network(backend_name)
    settings = {"standardize_targets": scaled, "clamp_predictions": scaled}
    trainer = gf.Trainer(network, gf.QuantileLoss(QUANTILES), gf.Adam(0.02), **settings)  # type: ignore[arg-type]
    history = trainer.fit(X, Y, epochs=40, validation_data=(X, Y), progress=False)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    far = 1000 * X
    predicted = network.predict(far)
    assert (np.diff(predicted.reshape(-1, 2, 4), axis=2) >= 0).all()
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    for other in (loaded, network.copy(), pickle.loads(pickle.dumps(network))):
        assert other.predict(far).tobytes() == predicted.tobytes()


def test_saturated_steps_round_to_no_decrease(backend_name: str) -> None:
    weights = {"0.weight": np.zeros((1, 6)), "0.bias": [1e7, -1e4, -20, 1e-3, 88, -1e30]}
    network = gf.Sequential([gf.Dense(1, 6), gf.Increasing(6)], weights=weights, backend=backend_name)
    predicted = network.predict(np.zeros((1, 1)))[0]
    assert np.isfinite(predicted).all()
    assert (np.diff(predicted) >= 0).all()


def test_members_that_share_weights_increase_too(backend_name: str) -> None:
    stack = [gf.Dense(3, 8), gf.ReLU(), gf.MemberDense(8, 4, members=5), gf.Increasing(4)]
    network = gf.Sequential([gf.EachMember(stack, members=5), gf.MeanOfMembers(5)], seed=1, backend=backend_name)
    trainer = gf.Trainer(network, gf.QuantileLoss(QUANTILES), gf.Adam(0.02), standardize_targets=True)
    trainer.fit(X, Y[:, 0], epochs=3, progress=False)
    assert (np.diff(network.predict(100 * X), axis=1) >= 0).all()


def test_the_model_in_onnx_keeps_the_order(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    network = make_network("numpy")
    gf.to_onnx(network, tmp_path / "model.onnx")
    x = (100 * X).astype(np.float32)
    (found,) = runtime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": x})
    assert_allclose(found, network.predict(x), rtol=1e-5, atol=1e-5)
    assert (np.diff(found.reshape(-1, 2, 4), axis=2) >= 0).all()


def test_other_orders_and_widths_are_refused() -> None:
    network = make_network("numpy")
    for quantiles in ([0.5, 0.1, 0.4, 0.9], [0.1, 0.9], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]):
        with pytest.raises(gf.DataError, match="the quantiles of the loss must be as many, in ascending order, got"):
            gf.Trainer(network, gf.QuantileLoss(quantiles), "adam")
    with pytest.raises(gf.DataError, match=r"Increasing\(size=3\) needs groups of 3 columns, got 8 columns"):
        gf.Sequential([gf.Dense(3, 8), gf.Increasing(3)])
    gf.Trainer(network, "mean_squared_error", "adam").fit(X, np.repeat(Y, 4, axis=1), epochs=1, progress=False)
