"""L-BFGS: compared with SciPy by hand and with least squares in closed form; what it leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = X @ RNG.normal(size=(4, 2)) + 0.1 * RNG.normal(size=(60, 2))
LABELS = (X[:, 0] * X[:, 1] > 0).astype(int)


def test_it_finds_ridge_regression(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, "half_squared_error", gf.LBFGS(gradient_tolerance=1e-10), l2=0.3)
    history = trainer.fit(X, Y, epochs=1, batch_size=None, progress=False)
    centered = X - X.mean(axis=0)
    weight = np.linalg.solve(centered.T @ centered + 60 * 0.3 * np.eye(4), centered.T @ (Y - Y.mean(axis=0)))
    found = network.get_weights()
    assert_allclose(found["0.weight"], weight, rtol=1e-5, atol=1e-6)
    assert_allclose(found["0.bias"], Y.mean(axis=0) - X.mean(axis=0) @ weight, rtol=1e-5, atol=1e-6)
    # The loss in the history is that of these very weights, without the penalty.
    assert_allclose(history["loss"], [trainer.evaluate(X, Y)["loss"]], rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_small_network_is_fitted_to_the_end(dtype: str, backend_name: str) -> None:
    network = gf.MLP([4, 12, 2], "tanh", dtype=dtype, seed=1, backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "lbfgs")
    history = trainer.fit(X, LABELS, epochs=2, batch_size=None, validation_data=(X, LABELS), progress=False)
    assert history["accuracy"] == [1, 1]
    assert history["loss"][1] <= history["loss"][0] < 0.01
    assert_allclose(history["loss"], history["val_loss"], rtol=1e-5)


def test_weights_of_rows_count(backend_name: str) -> None:
    twice = np.concatenate([X, X[:20]]), np.concatenate([Y, Y[:20]])
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    found = []
    for data, arguments in ((twice, {}), ((X, Y), {"sample_weight": weight})):
        network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", seed=1, backend=backend_name)
        trainer = gf.Trainer(network, "mean_squared_error", gf.LBFGS(gradient_tolerance=1e-9))
        trainer.fit(*data, epochs=1, batch_size=None, progress=False, **arguments)
        found.append(network.get_weights()["0.weight"])
    assert_allclose(found[0], found[1], rtol=1e-4)


def test_training_can_continue_with_another_optimizer(tmp_path: Path, backend_name: str) -> None:
    network = gf.MLP([4, 6, 2], "tanh", seed=1, backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.LBFGS(max_iterations=3))
    first = trainer.fit(X, LABELS, epochs=4, batch_size=None, output=tmp_path, progress=False)
    assert (np.diff(first["loss"]) < 0).all()
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["optimizer"]["name"] == "lbfgs"
    assert config["optimizer"]["max_iterations"] == 3
    second = gf.Trainer(network, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=2, progress=False)
    assert second["loss"][0] < 1.5 * first["loss"][-1]


def test_interruption_keeps_the_best_weights(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.MLP([4, 6, 2], "tanh", seed=1, dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.LBFGS())
    before = trainer.evaluate(X, LABELS)["loss"]
    minimize = gf.LBFGS.minimize

    def interrupted(self: gf.LBFGS, evaluate: Any, start: np.ndarray) -> np.ndarray:
        calls = []

        def counted(point: np.ndarray) -> tuple[float, np.ndarray]:
            calls.append(point)
            if len(calls) == 6:
                import signal

                signal.raise_signal(signal.SIGINT)
            return evaluate(point)

        return minimize(self, counted, start)

    monkeypatch.setattr(gf.LBFGS, "minimize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, LABELS, epochs=3, batch_size=None, progress=False)
    assert trainer.history is not None
    assert (trainer.history.stopped_by, trainer.history.epochs) == ("interrupted", 0)
    assert trainer.evaluate(X, LABELS)["loss"] < before


def test_a_loss_that_is_infinite_from_the_start_is_divergence(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2, initializer=1e30)], backend=backend_name)
    before = network.get_weights()
    with pytest.raises(gf.DivergedError, match="in epoch 1, at step 1 of 1"):
        gf.Trainer(network, "mean_squared_error", "lbfgs").fit(X, Y, epochs=1, batch_size=None, progress=False)
    for name, weight in network.get_weights().items():
        assert weight.tobytes() == before[name].tobytes()


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({}, {"batch_size": 32}, "L-BFGS needs all 60 rows as one batch; pass batch_size=None .* got batches of 32"),
        ({}, {"accumulate": 2}, "in 2 parts"),
        ({"l1": 0.1}, {}, "l1 is not supported with L-BFGS"),
        ({"clip_norm": 1.0}, {}, "clip_norm is not supported with L-BFGS"),
        ({"clip_value": 1.0}, {}, "clip_value is not supported with L-BFGS"),
        ({"average": 0.9}, {}, "average is not supported with L-BFGS"),
    ],
)
def test_incompatible_settings_are_refused(settings: Any, arguments: Any, message: str) -> None:
    network = gf.MLP([4, 6, 2], backend="numpy")
    before = network.get_weights()["0.weight"]
    trainer = gf.Trainer(network, "mean_squared_error", "lbfgs", **settings)
    with pytest.raises(gf.DataError, match=message):
        trainer.fit(X, Y, **{"epochs": 1, "batch_size": None, **arguments})
    assert network.get_weights()["0.weight"].tobytes() == before.tobytes()


def test_dropout_and_sources_are_refused() -> None:
    trainer = gf.Trainer(gf.MLP([4, 6, 2], dropout=0.5, backend="numpy"), "mean_squared_error", "lbfgs")
    with pytest.raises(gf.DataError, match=r"Dropout\(rate=0.5\) makes the loss random"):
        trainer.fit(X, Y, epochs=1, batch_size=None)
    trainer = gf.Trainer(gf.MLP([4, 6, 2], backend="numpy"), "mean_squared_error", "lbfgs")
    with pytest.raises(gf.DataError, match="pass arrays in memory"):
        trainer.fit(gf.data.Arrays(X, Y), epochs=1, batch_size=None)


def test_wrong_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, message in (
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        ({"memory": 0}, "memory must be between 1 and 10000, got 0"),
        ({"memory": 10**12}, "memory must be between 1 and 10000, got 1000000000000"),
        ({"gradient_tolerance": -1e-5}, "gradient_tolerance must be at least 0"),
    ):
        with pytest.raises(gf.DataError, match=message):
            gf.LBFGS(**arguments)
    with pytest.raises(gf.DataError, match="uses a line search and takes no learning rate"):
        gf.optimizers.get_optimizer("lbfgs", 0.1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(gf.DataError, match=r"not installed: pip install .*\[scipy\]"):
        gf.LBFGS()
