"""Metrics: scikit-learn's values, from any batches, weighted or not, in training, validation and evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.losses import get_loss
from gradflow.metrics import METRICS, get_metrics
from gradflow.metrics.base import larger_is_better
from gradflow.metrics.regression import moments_of_sums
from gradflow.names import is_built_in

RNG = np.random.default_rng(0)
ROWS = 90
X = RNG.normal(size=(ROWS, 4))
NUMBERS = 3 + 20 * X @ RNG.normal(size=(4, 2)) + RNG.normal(size=(ROWS, 2))
CLASSES = np.digitize(X[:, 0] + X[:, 1] ** 2, [-0.3, 0.5, 1.2])
LABELS = np.stack([X[:, 0] > 0, X[:, 1] + X[:, 2] > 0.4, X[:, 3] < -0.8], axis=1).astype(int)
WEIGHTS = RNG.uniform(0, 2, ROWS) * (RNG.random(ROWS) > 0.2)

# By kind of task: the loss, the targets, the outputs, and the metrics.
TASKS: dict[str, tuple[str, np.ndarray, int, list[str]]] = {
    "classes": (
        "softmax_cross_entropy",
        CLASSES,
        5,  # one more than occurs: scikit-learn excludes it from its means, and so must we
        ["balanced_accuracy", "precision", "recall", "f1", "log_loss", "top_1_accuracy", "top_3_accuracy", "roc_auc"],
    ),
    "binary": (
        "binary_cross_entropy",
        LABELS[:, 0],
        1,
        ["balanced_accuracy", "precision", "recall", "f1", "log_loss", "roc_auc"],
    ),
    "multi-label": ("binary_cross_entropy", LABELS, 3, ["precision", "recall", "f1", "roc_auc"]),
    "numbers": (
        "mean_squared_error",
        NUMBERS,
        2,
        ["mean_squared_error", "root_mean_squared_error", "mean_absolute_error", "r2"],
    ),
}


def expected(kind: str, y: np.ndarray, p: np.ndarray, weight: np.ndarray | None) -> dict[str, float]:
    """Return scikit-learn's values for predictions p, as returned by the network's predict."""
    from sklearn import metrics as theirs

    w = {"sample_weight": weight}
    if kind == "numbers":
        return {
            "mean_squared_error": theirs.mean_squared_error(y, p, **w),
            "root_mean_squared_error": theirs.root_mean_squared_error(y, p, **w),
            "mean_absolute_error": theirs.mean_absolute_error(y, p, **w),
            "r2": theirs.r2_score(y, p, **w),
        }
    if kind == "classes":
        classes, labels, average = p.argmax(axis=1), np.arange(5), "macro"
        one_hot = np.eye(5)[y]
        areas = [theirs.roc_auc_score(one_hot[:, c], p[:, c], **w) for c in range(4)]
        scores = {
            "accuracy": theirs.accuracy_score(y, classes, **w),
            "balanced_accuracy": theirs.balanced_accuracy_score(y, classes, **w),
            "log_loss": theirs.log_loss(y, p, labels=labels, **w),
            "top_1_accuracy": theirs.top_k_accuracy_score(y, p, k=1, labels=labels, **w),
            "top_3_accuracy": theirs.top_k_accuracy_score(y, p, k=3, labels=labels, **w),
            "roc_auc": float(np.mean(areas)),
        }
    elif kind == "binary":
        p = p[:, 0]
        classes, average = (p > 0.5).astype(int), "binary"
        scores = {
            "accuracy": theirs.accuracy_score(y, classes, **w),
            "balanced_accuracy": theirs.balanced_accuracy_score(y, classes, **w),
            "log_loss": theirs.log_loss(y, p, **w),
            "roc_auc": theirs.roc_auc_score(y, p, **w),
        }
    else:
        classes, average = (p > 0.5).astype(int), "macro"
        scores = {
            "accuracy": 1 - theirs.hamming_loss(y, classes, **w),
            "roc_auc": theirs.roc_auc_score(y, p, average="macro", **w),
        }
    for name in ("precision", "recall", "f1"):
        scores[name] = getattr(theirs, f"{name}_score")(y, classes, average=average, zero_division=0.0, **w)
    return scores


def make_trainer(
    kind: str, backend: str, rate: float = 0.05, metrics: list[str] | None = None, **arguments: Any
) -> gf.Trainer:
    loss, _, n_out, all_metrics = TASKS[kind]
    layers = [gf.Dense(4, 6), gf.Tanh(), gf.Dense(6, n_out)]
    network = gf.Sequential(layers, dtype="float64", seed=1, backend=backend)
    return gf.Trainer(network, loss, gf.Adam(rate), metrics=metrics or all_metrics, **arguments)


@pytest.mark.peers
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_values_are_those_of_scikit_learn(kind: str, weighted: bool, backend_name: str) -> None:
    y, weight = TASKS[kind][1], WEIGHTS if weighted else None
    trainer = make_trainer(kind, backend_name)
    history = trainer.fit(X, y, epochs=3, batch_size=32, validation_data=(X, y, weight))
    found = trainer.evaluate(X, y, sample_weight=weight)
    for name, value in expected(kind, y, trainer.network.predict(X), weight).items():
        assert_allclose(found[name], value, rtol=1e-9, err_msg=name)
        assert_allclose(history[f"val_{name}"][-1], value, rtol=1e-9, err_msg=name)
    assert found.keys() == {"loss", *expected(kind, y, trainer.network.predict(X), weight)}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("kind", TASKS)
def test_training_values_are_exact_over_shuffled_batches(kind: str, accumulate: int, backend_name: str) -> None:
    # The weights do not change, so that the values of the epoch are those of one set of predictions.
    y = TASKS[kind][1]
    trainer = make_trainer(kind, backend_name, rate=1e-300)
    history = trainer.fit(X, y, epochs=2, batch_size=32, sample_weight=WEIGHTS, accumulate=accumulate)
    for name, value in expected(kind, y, trainer.network.predict(X), WEIGHTS).items():
        assert_allclose(history[name], [value] * 2, rtol=1e-9, err_msg=name)


@pytest.mark.peers
def test_errors_are_on_the_scale_of_the_targets(backend_name: str) -> None:
    y = 1e5 + 100 * NUMBERS
    trainer = make_trainer("numbers", backend_name, standardize_targets=True)
    trainer.fit(X, y, epochs=3)
    found = trainer.evaluate(X, y)
    for name, value in expected("numbers", y, trainer.network.predict(X), None).items():
        assert_allclose(found[name], value, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("kind", ["classes", "one-hot", "binary", "multi-label"])
def test_metrics_ignore_label_smoothing(kind: str, backend_name: str) -> None:
    """Label smoothing and focal weights belong to the loss; scikit-learn computes metrics from targets and
    predictions."""
    name, y, n_out, metrics = TASKS["classes" if kind == "one-hot" else kind]
    y = np.eye(5)[y] if kind == "one-hot" else y
    network = gf.Sequential([gf.Dense(4, 6), gf.Tanh(), gf.Dense(6, n_out)], dtype="float64", backend=backend_name)
    metrics = sorted({*metrics, "log_loss"})
    plain = gf.Trainer(network, name, "adam", metrics=metrics).evaluate(X, y, sample_weight=WEIGHTS)
    loss = type(get_loss(name))(label_smoothing=0.4, focal_gamma=2.0)
    smoothed = gf.Trainer(network, loss, "adam", metrics=metrics).evaluate(X, y, sample_weight=WEIGHTS)
    assert_allclose([smoothed[metric] for metric in metrics], [plain[metric] for metric in metrics], rtol=1e-14)

    network.output_activation = loss.output_activation
    p = network.predict(X)
    if loss.output_activation == "softmax":
        losses = -np.log(p[np.arange(ROWS), CLASSES])
    else:
        is_one = y.reshape(ROWS, n_out) == 1
        losses = -np.log(np.where(is_one, p, 1 - p)).mean(axis=1)
    assert_allclose(smoothed["log_loss"], np.average(losses, weights=WEIGHTS), rtol=1e-10)


def test_one_hot_targets_have_the_same_values(backend_name: str) -> None:
    trainer = make_trainer("classes", backend_name)
    assert trainer.evaluate(X, np.eye(5)[CLASSES]) == pytest.approx(trainer.evaluate(X, CLASSES), rel=1e-12)


def test_ties_count_half(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 1, initializer=1.0)], dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, "binary_cross_entropy", "adam", metrics=["roc_auc"])
    x, y = np.array([[1.0], [2], [2], [2], [3], [3]]), np.array([0, 1, 0, 0, 1, 0])
    # Pairs of a positive and a negative: 2 beats 1 and ties twice, 3 beats 1, 2, 2 and ties once.
    assert_allclose(trainer.evaluate(x, y)["roc_auc"], (1 + 2 / 2 + 3 + 1 / 2) / 8)
    assert math.isnan(trainer.evaluate(x, np.ones(6))["roc_auc"])


def test_a_constant_target_has_r2_0_or_1(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 1, initializer=0.0)], backend=backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", "adam", metrics=["r2"])
    x = np.ones((3, 1))
    assert trainer.evaluate(x, np.zeros(3))["r2"] == 1
    assert trainer.evaluate(x, np.full(3, 0.1))["r2"] == 0


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 90])
@pytest.mark.parametrize("offset", [0.0, 1e7, -1e10])
def test_r2_does_not_depend_on_where_the_targets_lie(
    offset: float, batch_size: int, weighted: bool, backend_name: str
) -> None:
    """The spread of targets is not computed as the small difference of large sums."""
    network = gf.Sequential([gf.Dense(4, 2, initializer=0.0)], dtype="float64", backend=backend_name)
    network.set_weights({"0.weight": np.ones((4, 2)), "0.bias": np.full(2, offset)})
    x, weight = X.round(3), np.r_[0.0, WEIGHTS[1:]] if weighted else np.ones(ROWS)
    y = offset + (x.sum(axis=1, keepdims=True) + np.random.default_rng(1).normal(size=(ROWS, 2))).round(3)
    y[weight == 0] = 1e9  # including the first row, so the sums must not be taken about it
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(1e-300), metrics=["r2", "mean_squared_error"])
    arguments = {"sample_weight": weight} if weighted else {}
    history = trainer.fit(x, y, epochs=1, batch_size=batch_size, shuffle=False, **arguments)
    errors = np.average((network.predict(x) - y) ** 2, axis=0, weights=weight)
    spread = np.average((y - np.average(y, axis=0, weights=weight)) ** 2, axis=0, weights=weight)
    for found in (history["r2"][0], trainer.evaluate(x, y, **arguments)["r2"]):
        assert_allclose(found, (1 - errors / spread).mean(), rtol=1e-6)
    assert_allclose(history["mean_squared_error"][0], errors.mean(), rtol=1e-9)


def test_r2_of_a_constant_far_from_0_is_0_from_any_batches(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 1, initializer=0.0)], dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(1e-300), metrics=["r2"])
    weight = RNG.uniform(0, 1, 1001)
    assert trainer.fit(np.ones((1001, 1)), np.full(1001, 0.1), epochs=1, sample_weight=weight)["r2"] == [0]


def test_sums_of_earlier_versions_become_moments() -> None:
    y, t, w = NUMBERS + 1, NUMBERS, WEIGHTS[:, None]
    terms = ((y - t) ** 2, abs(y - t), t, t**2, np.ones_like(t))
    found = moments_of_sums(np.stack([(w * term).sum(axis=0) for term in terms]))
    mean = np.average(t, axis=0, weights=WEIGHTS)
    expected = [(w * term).sum(axis=0) for term in ((y - t) ** 2, abs(y - t), (t - mean) ** 2, np.ones_like(t))]
    assert_allclose(found, [*expected[:2], mean, *expected[2:]], rtol=1e-12)
    assert not moments_of_sums(np.zeros((5, 2))).any()


@pytest.mark.parametrize("monitor", ["val_f1", "val_log_loss", "roc_auc", "top_3_accuracy"])
def test_early_stopping_watches_any_metric(monitor: str, backend_name: str) -> None:
    trainer = make_trainer("classes", backend_name, rate=0.3, metrics=[monitor.removeprefix("val_")])
    stopping = gf.EarlyStopping(monitor, patience=3)
    history = trainer.fit(X, CLASSES, epochs=15, batch_size=100, validation_data=(X, CLASSES), early_stopping=stopping)
    values = np.array(history[monitor])
    best = values.argmin() if "loss" in monitor else values.argmax()
    assert history.best_epoch == best + 1
    if monitor.startswith("val_"):
        assert_allclose(trainer.evaluate(X, CLASSES)[monitor.removeprefix("val_")], values[best], rtol=1e-12)


@pytest.mark.parametrize("watcher", ["early stopping", "the plateau schedule"])
@pytest.mark.parametrize(
    ("kind", "metric", "missing"),
    [
        ("classes", "roc_auc", "rows of two classes"),
        ("binary", "roc_auc", "rows of two classes"),
        ("multi-label", "roc_auc", "label with rows of 0 and of 1"),
        ("binary", "precision", "rows of class 1"),
        ("binary", "recall", "rows of class 1"),
        ("binary", "f1", "rows of class 1"),
        ("multi-label", "f1", "rows with a label"),
        ("numbers", "r2", "two rows with different targets"),
    ],
)
def test_watching_a_metric_that_the_data_lacks_is_reported_once(
    kind: str, metric: str, missing: str, watcher: str, backend_name: str
) -> None:
    trainer = make_trainer(kind, backend_name, metrics=[metric])
    monitor = f"val_{metric}"
    stopping = gf.EarlyStopping(monitor, patience=5) if watcher == "early stopping" else None
    if stopping is None:
        trainer.optimizer.schedule = gf.PlateauSchedule(0.01, monitor=monitor)
    y = TASKS[kind][1]
    arguments = {"epochs": 3, "early_stopping": stopping}
    without = (X[:1], y[:1]) if kind == "numbers" else (X, np.zeros_like(y))
    expected = f"{watcher} monitors '{monitor}', but the validation data has no {missing}: .* such as 'val_loss'"
    with pytest.warns(gf.TrainingWarning, match=expected) as caught:
        trainer.fit(X, y, validation_data=without, **arguments)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
    with pytest.warns(gf.TrainingWarning, match="the validation data has no"):
        trainer.fit(X, y, validation_data=gf.data.Arrays(*without), **arguments)
    trainer.fit(X, y, validation_data=(X, y), **arguments)


def test_watching_a_metric_that_the_training_data_lacks_is_reported(backend_name: str) -> None:
    trainer = make_trainer("binary", backend_name, metrics=["roc_auc"])
    with pytest.warns(gf.TrainingWarning, match="monitors 'roc_auc', but the data has no rows of two classes"):
        trainer.fit(X, np.zeros(ROWS), epochs=2, early_stopping=gf.EarlyStopping("roc_auc"))


def test_a_plateau_of_a_score_lowers_the_rate(backend_name: str) -> None:
    trainer = make_trainer("classes", backend_name, metrics=["f1"])
    trainer.optimizer.schedule = gf.PlateauSchedule(0.01, monitor="val_f1", patience=1, factor=0.5)
    history = trainer.fit(X, CLASSES, epochs=12, batch_size=100, validation_data=(X, CLASSES))
    better = np.diff(np.maximum.accumulate(history["val_f1"])) > 0
    halved = np.concatenate([[0, 0], np.cumsum(~better)])[:12]
    assert_allclose(history["learning_rate"], 0.01 * 0.5**halved)


def test_accuracy_may_be_named(backend_name: str) -> None:
    network = gf.MLP([4, 5], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", metrics=["accuracy", gf.metrics.TopKAccuracy(2)])
    assert list(trainer.evaluate(X, CLASSES)) == ["loss", "accuracy", "top_2_accuracy"]


@pytest.mark.parametrize(
    ("kind", "metrics", "message"),
    [
        (
            "numbers",
            ["f1"],
            "a task with numbers to predict has no metric 'f1'; it has mean_absolute_error",
        ),
        ("numbers", ["accuracy"], "loss 'mean_squared_error' has no accuracy"),
        ("classes", ["r2"], "a task with several classes has no metric 'r2'; it has balanced_accuracy"),
        ("binary", ["top_k_accuracy"], "a task with two classes and one output has no metric 'top_k_accuracy'"),
        ("multi-label", ["balanced_accuracy"], "a task with several labels at once has no metric 'balanced_accuracy'"),
        ("classes", ["top_5_accuracy"], "k must be below the number of classes, which is 5, got 5"),
        ("classes", ["rocauc"], "unknown metric 'rocauc'. Did you mean 'roc_auc'"),
        ("classes", ["f1", gf.metrics.F1()], "metrics must be distinct, got 'f1' twice"),
        ("classes", "f1", "metrics must be a list of names, functions or gradflow metrics, got 'f1'"),
        ("classes", [gf.metrics.F1], "metric must be a name or a gradflow Metric, got"),
    ],
)
def test_refused(kind: str, metrics: Any, message: str) -> None:
    loss, _, n_out, _ = TASKS[kind]
    with pytest.raises(gf.DataError, match=message):
        gf.Trainer(gf.MLP([4, n_out], backend="numpy"), loss, "adam", metrics=metrics)


@pytest.mark.parametrize("loss", ["poisson", gf.QuantileLoss([0.1, 0.9])])
def test_outputs_that_are_no_predictions_of_the_targets_have_no_metrics(loss: Any) -> None:
    with pytest.raises(gf.DataError, match="are not direct predictions of the targets"):
        gf.Trainer(gf.MLP([4, 2], backend="numpy"), loss, "adam", metrics=["r2"])


def test_every_metric_declares_which_direction_is_better() -> None:
    assert {name for name, metric in METRICS.items() if is_built_in(metric) and not larger_is_better(name)} == {
        "log_loss",
        "mean_squared_error",
        "root_mean_squared_error",
        "mean_absolute_error",
    }
    assert larger_is_better("val_top_3_accuracy")
    assert not larger_is_better("val_loss")
    assert repr(get_metrics(["top_3_accuracy", "f1"])) == "[TopKAccuracy(k=3), F1()]"
