"""A user may have NumPy raise whenever a result rounds to zero: valid inputs raise nothing, however small the
numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.losses import LOSSES
from gradflow.losses.base import RegressionLoss

pytestmark = pytest.mark.filterwarnings("ignore::gradflow.TrainingWarning")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
NUMBERS = np.exp(X[:, :2])
TINY, NOTHING = X * 1e-40, X * 1e-300
"""Below the smallest normal number of float32, and negligible in float64."""
WEIGHTS = RNG.uniform(0, 2, 60) * 1e-310
SHARES = np.where(np.eye(3)[CLASSES] == 1, 1 - 2e-42, 1e-42)


def network(n_out: int, backend: str = "numpy", *, activation: str = "relu", **arguments: Any) -> gf.Sequential:
    return gf.MLP([4, 8, n_out], activation, seed=1, backend=backend, **arguments)


def classify(backend: str, dtype: str, activation: str) -> None:
    trainer = gf.Trainer(
        network(3, backend, activation=activation, dtype=dtype),
        gf.SoftmaxCrossEntropy(label_smoothing=0.1, focal_gamma=2.0),
        gf.Adam(0.1),
        metrics=["f1", "roc_auc", "log_loss", "top_2_accuracy", "balanced_accuracy"],
        l1=1e-30,
        clip_norm=1e-20,
        average=0.9,
        layer_statistics=True,
    )
    data = {"validation_data": (TINY, CLASSES, WEIGHTS), "sample_weight": WEIGHTS, "class_weight": {0: 1e-300, 1: 1e-9}}
    trainer.fit(30 * X, CLASSES, epochs=2, **data)
    trainer.fit(TINY, SHARES, epochs=2)
    trainer.evaluate(1e3 * X, CLASSES)
    for x in (1e3 * X, TINY, NOTHING):
        trainer.network.predict(x)
        trainer.network.predict_classes(x)


def regress(backend: str, dtype: str, loss: str) -> None:
    metrics = ["r2", "mean_squared_error", "mean_absolute_error"] if LOSSES[loss].predicts_targets else []
    for y, scaled in ((NUMBERS, LOSSES[loss].takes_any_scale), (TINY[:, :2] ** 2 / 1e-40, False)):
        trainer = gf.Trainer(
            network(2, backend, dtype=dtype), loss, "adam", metrics=metrics, standardize_targets=scaled
        )
        trainer.fit(TINY, y, epochs=2, validation_data=(X, y))
        trainer.network.predict(NOTHING)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "softplus"])
def test_classification(activation: str, dtype: str, backend_name: str) -> None:
    with np.errstate(all="raise"):
        classify(backend_name, dtype, activation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if issubclass(loss, RegressionLoss)])
def test_regression(loss: str, dtype: str, backend_name: str) -> None:
    with np.errstate(all="raise"):
        regress(backend_name, dtype, loss)


SCHEDULES = {
    "exponential": gf.ExponentialSchedule(0.1, 1e-30),
    "exponential that begins low": gf.ExponentialSchedule(1e-300, 0.01),
    "step": gf.StepSchedule(0.1, every=1, factor=1e-100),
    "plateau": gf.PlateauSchedule(0.1, patience=1, factor=1e-200),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_that_end_at_zero(name: str) -> None:
    with np.errstate(all="raise"):
        SCHEDULES[name].rates(np.linspace(0, 30, 100), 30, gf.History())
        gf.Trainer(network(3), "softmax_cross_entropy", gf.SGD(SCHEDULES[name])).fit(X, CLASSES, epochs=15)


def preprocessed() -> None:
    columns = np.c_[NOTHING, X[:, :1]]
    preprocessing = gf.data.fit_preprocessing(columns, {4: gf.data.RobustScale()})
    assert abs(preprocessing.transform(columns)).max() < 10
    made = gf.MLP([5, 3], backend="numpy")
    made.preprocessing = preprocessing
    gf.Trainer(made, "softmax_cross_entropy", "adam").fit(columns, CLASSES, epochs=2)
    made.predict(columns)


def looked_at() -> None:
    tanh = network(3, activation="tanh")
    gf.check_gradients(tanh, "softmax_cross_entropy", TINY, CLASSES)
    gf.inspect.gradient_norms(tanh, "softmax_cross_entropy", TINY, CLASSES)
    gf.inspect.dead_units(tanh, TINY)
    gf.inspect.saturated_units(tanh, TINY)
    gf.learning_rate_range_test(gf.Trainer(tanh, "softmax_cross_entropy", "adam"), X, CLASSES, steps=20, lowest=1e-300)


CALLS: dict[str, Callable[[], object]] = {
    "preprocessing": preprocessed,
    "looks at a network": looked_at,
    "weights": lambda: gf.MLP([4, 3]).set_weights({"0.weight": np.full((4, 3), 1e-42), "0.bias": np.full(3, 1e-300)}),
    "an initializer": lambda: gf.MLP([4, 3], initializer=1e-42),
    "Arrays": lambda: gf.Trainer(network(3), "softmax_cross_entropy", "adam").fit(
        gf.data.Arrays(TINY, CLASSES, WEIGHTS), epochs=2, class_weight="balanced"
    ),
    "Batches": lambda: gf.Trainer(network(3), "softmax_cross_entropy", "adam").fit(
        gf.data.Batches([(TINY, CLASSES, WEIGHTS)]), epochs=2
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    with np.errstate(all="raise"):
        CALLS[name]()


def test_reports_of_a_fit_that_stalls_or_explodes() -> None:
    with np.errstate(all="raise"):
        gf.Trainer(network(3, activation="tanh"), "softmax_cross_entropy", gf.SGD(1e-30)).fit(X, CLASSES, epochs=12)
        with pytest.raises(gf.DivergedError):
            gf.Trainer(network(2), "mean_squared_error", gf.SGD(1e30)).fit(X, NUMBERS, epochs=9)


def test_a_run_folder(tmp_path: Path) -> None:
    with np.errstate(all="raise"):
        trainer = gf.Trainer(network(3), gf.SoftmaxCrossEntropy(label_smoothing=0.1), "adam")
        trainer.fit(TINY, SHARES, epochs=2, output=tmp_path, checkpoint=gf.Checkpoint(every_epochs=1))
        gf.load(tmp_path / "model.safetensors").predict(TINY)
