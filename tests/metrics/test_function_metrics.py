"""Functions as metrics: the same as built-in metrics of the same formula, on all rows of an epoch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import metrics as theirs

import gradflow as gf

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(70, 3)), RANDOM.normal(size=(70, 2)) * [1.0, 30.0] + [5.0, -2.0]
LABELS = RANDOM.integers(3, size=70)
WEIGHT = np.linspace(0, 2, 70)


def mean_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(abs(predictions - targets).mean())


def weighted_error(predictions: np.ndarray, targets: np.ndarray, sample_weight: Any = None) -> float:
    return float(np.average(abs(predictions - targets).mean(axis=1), weights=sample_weight))


def trainer(metrics: list[Any], backend: str = "numpy", n_out: int = 2, **settings: Any) -> gf.Trainer:
    network = gf.MLP([3, 8, n_out], "tanh", seed=1, backend=backend)
    return gf.Trainer(network, "mean_squared_error", "adam", metrics=metrics, **settings)


def classifier(metrics: list[Any], loss: str, n_out: int, backend: str = "numpy") -> gf.Trainer:
    return gf.Trainer(gf.MLP([3, 8, n_out], "tanh", seed=1, backend=backend), loss, "adam", metrics=metrics)


def fit(of: gf.Trainer, y: Any = Y, **arguments: Any) -> gf.History:
    return of.fit(X, y, **{"epochs": 3, "batch_size": 16, "progress": False} | arguments)


@pytest.mark.parametrize("settings", [{}, {"standardize_targets": True}], ids=["plain", "standardized"])
@pytest.mark.parametrize("arguments", [{}, {"drop_last": True}, {"shuffle": False, "accumulate": 2}], ids=str)
def test_a_function_measures_as_the_built_in_metric(settings: Any, arguments: Any, backend_name: str) -> None:
    of = trainer(["mean_absolute_error", mean_error, "r2", theirs.r2_score], backend_name, **settings)
    history = fit(of, validation_data=(X[:30], Y[:30]), **arguments)
    for prefix in ("", "val_"):
        assert_allclose(history[f"{prefix}mean_error"], history[f"{prefix}mean_absolute_error"], rtol=1e-5)
        assert_allclose(history[f"{prefix}r2_score"], history[f"{prefix}r2"], rtol=1e-4)
    values = of.evaluate(X, Y)
    assert_allclose(values["mean_error"], theirs.mean_absolute_error(Y, of.network.predict(X)), rtol=1e-5)


def test_weights_are_passed_to_functions_that_take_them(backend_name: str) -> None:
    of = trainer([weighted_error, "mean_absolute_error", theirs.mean_squared_error], backend_name)
    history = fit(of, sample_weight=WEIGHT, validation_data=(X, Y))
    assert_allclose(history["weighted_error"], history["mean_absolute_error"], rtol=1e-5)
    values = of.evaluate(X, Y, sample_weight=WEIGHT)
    expected = theirs.mean_squared_error(Y, of.network.predict(X), sample_weight=WEIGHT)
    assert_allclose(values["mean_squared_error"], expected, rtol=1e-5)


def test_weights_that_a_function_does_not_take_are_refused(backend_name: str) -> None:
    of = trainer([mean_error], backend_name)
    before = of.network.get_weights()
    for call in (lambda: fit(of, sample_weight=WEIGHT), lambda: of.evaluate(X, Y, sample_weight=WEIGHT)):
        with pytest.raises(gf.DataError, match="metric 'mean_error' is a function without an argument sample_weight"):
            call()
    assert all((of.network.get_weights()[name] == value).all() for name, value in before.items())


def test_functions_get_what_predict_returns(backend_name: str) -> None:
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def kept(predictions: np.ndarray, targets: np.ndarray) -> float:
        seen["last"] = predictions, targets
        return 0.0

    for loss, n_out, y in (
        ("softmax_cross_entropy", 3, LABELS),
        ("binary_cross_entropy", 1, LABELS % 2),
        ("binary_cross_entropy", 2, np.stack([LABELS % 2, LABELS > 1], axis=1)),
    ):
        of = classifier([kept], loss, n_out, backend_name)
        fit(of, y, epochs=1)
        of.evaluate(X, y)
        predictions, targets = seen["last"]
        expected = of.network.predict(X)
        assert_allclose(predictions, expected[:, 0] if n_out == 1 else expected, rtol=1e-5)
        np.testing.assert_array_equal(targets, y)


def test_area_under_the_curve_of_scikit_learn(backend_name: str) -> None:
    of = classifier(["roc_auc", theirs.roc_auc_score, theirs.log_loss], "binary_cross_entropy", 1, backend_name)
    history = fit(of, LABELS % 2, class_weight="balanced")
    assert_allclose(history["roc_auc_score"], history["roc_auc"], rtol=1e-6)
    assert_allclose(history["log_loss"], history["loss"], rtol=1e-5)


def test_a_function_may_change_its_arrays(backend_name: str) -> None:
    def careless(predictions: np.ndarray, targets: np.ndarray) -> float:
        predictions -= targets
        targets[...] = 0
        return float(abs(predictions).mean())

    of = trainer([careless, mean_error], backend_name)
    history = fit(of, batch_size=None)
    assert_allclose(history["careless"], history["mean_error"])


def test_early_stopping_and_schedules_need_to_know_what_is_better() -> None:
    def quality(predictions: np.ndarray, targets: np.ndarray) -> float:
        return -mean_error(predictions, targets)

    stopping = gf.EarlyStopping("val_quality", patience=1)
    plateau = gf.Adam(gf.PlateauSchedule(0.01, monitor="quality"))
    arguments: dict[str, Any] = {"validation_data": (X, Y), "early_stopping": stopping, "epochs": 5}
    with pytest.raises(gf.DataError, match=r"better: set quality\.larger_is_better of that function to True or False"):
        fit(trainer([quality]), **arguments)
    network = gf.MLP([3, 2], backend="numpy")
    with pytest.raises(gf.DataError, match="nobody knows if larger values of 'quality' are better"):
        fit(gf.Trainer(network, "mean_squared_error", plateau, metrics=[quality]))
    quality.larger_is_better = True  # type: ignore[attr-defined]
    history = fit(trainer([quality]), **arguments)
    assert history.best_epoch == int(np.argmax(history["val_quality"])) + 1
    fit(gf.Trainer(network, "mean_squared_error", plateau, metrics=[quality]))


@pytest.mark.parametrize("value", [None, "good", [1.0, 2.0], np.zeros(2)])
def test_a_function_returns_a_number(value: Any) -> None:
    def returns(predictions: np.ndarray, targets: np.ndarray) -> Any:
        return value

    with pytest.raises(gf.DataError, match="the value of metric 'returns' must be a number"):
        trainer([returns]).evaluate(X, Y)


def named(name: str) -> Any:
    return FunctionType(mean_error.__code__, {}, name)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda predictions, targets: 0.0, "a metric needs a name in the history.*define a function with def"),
        (partial(mean_error), "a metric needs a name in the history"),
        (named("loss"), "a metric cannot be named 'loss'"),
        (named("val_mine"), "a metric cannot be named 'val_mine'"),
    ],
)
def test_names_that_cannot_be_in_the_history_are_refused(metric: Any, said: str) -> None:
    with pytest.raises(gf.DataError, match=said):
        trainer([metric])
    with pytest.raises(gf.DataError, match="metrics must be distinct, got 'mean_error' twice"):
        trainer([mean_error, mean_error])


def test_a_run_with_a_function_is_saved_resumed_and_repeated(tmp_path: Path, backend_name: str) -> None:
    class Dies(gf.Callback):
        every_steps = 8

        def on_step_end(self, trainer: gf.Trainer, step: int, loss: float) -> None:
            raise ZeroDivisionError

    arguments: dict[str, Any] = {"checkpoint": gf.Checkpoint(every_steps=7)}
    expected = fit(trainer([mean_error], backend_name), output=tmp_path / "whole", **arguments)["mean_error"]
    with pytest.raises(ZeroDivisionError):
        fit(trainer([mean_error], backend_name), output=tmp_path / "run", callbacks=[Dies()], **arguments)
    assert fit(trainer([mean_error], backend_name), resume=tmp_path / "run")["mean_error"] == expected
    path = f"{__name__}:mean_error"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["metrics"] == [path]
    assert gf.repeat(tmp_path / "run", X, Y).is_same
    with pytest.raises(gf.DataError, match="a run folder keeps a function by the name"):
        fit(trainer([named("unknown")], backend_name), output=tmp_path / "other")
