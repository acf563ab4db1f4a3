"""Estimators: the same results as scikit-learn's where both are deterministic, and what they refuse."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression

import gradflow as gf
from gradflow import sklearn as ours

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
X_OF_NUMBERS, NUMBERS = make_regression(80, 5, n_targets=2, random_state=0)
NUMBERS = NUMBERS / NUMBERS.std()
COUNTS = np.random.default_rng(0).poisson(3, 80)
LABELS = (X[:, :3] > 0).astype(int)
FULL: dict[str, Any] = {"batch_size": 80, "shuffle": False, "random_state": 3, "max_iter": 15, "alpha": 0.05}
SGD = {"solver": "sgd", "learning_rate_init": 0.05}
CLASSES: dict[str, tuple[Any, Any]] = {
    "two": (X[:80], NAMES[:80]),
    "three": (X[40:120], NAMES[40:120]),
    "labels": (X[:80], LABELS[:80]),
}
TARGETS: dict[str, tuple[Any, Any, str]] = {
    "one": (X_OF_NUMBERS, NUMBERS[:, 0], "squared_error"),
    "several": (X_OF_NUMBERS, NUMBERS, "squared_error"),
    "counts": (X_OF_NUMBERS, COUNTS, "poisson"),
}


def check_same(mine: Any, other: Any, x: np.ndarray, tolerance: float = 1e-9) -> None:
    """Check that two fitted estimators have the same weights, losses and predictions."""
    for a, b in zip(mine.coefs_ + mine.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(mine.loss_, other.loss_, rtol=tolerance)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(mine, name) == getattr(other, name), name
    if mine.solver != "lbfgs":
        np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=tolerance)
        assert mine.best_loss_ == pytest.approx(other.best_loss_, rel=tolerance)
    if hasattr(mine, "predict_proba"):
        np.testing.assert_allclose(mine.predict_proba(x), other.predict_proba(x), rtol=tolerance, atol=tolerance)
        np.testing.assert_array_equal(mine.predict(x), other.predict(x))
    else:
        np.testing.assert_allclose(mine.predict(x), other.predict(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", CLASSES)
def test_a_classifier_takes_the_steps_of_theirs(kind: str, activation: str) -> None:
    x, y = CLASSES[kind]
    settings = FULL | SGD | {"activation": activation, "hidden_layer_sizes": (7, 5)}
    check_same(ours.MLPClassifier(**settings).fit(x, y), theirs.MLPClassifier(**settings).fit(x, y), x)


@pytest.mark.parametrize("kind", TARGETS)
def test_a_regressor_takes_the_steps_of_theirs(kind: str) -> None:
    x, y, loss = TARGETS[kind]
    settings = FULL | SGD | {"loss": loss, "learning_rate_init": 0.001}
    check_same(ours.MLPRegressor(**settings).fit(x, y), theirs.MLPRegressor(**settings).fit(x, y), x)


@pytest.mark.parametrize("kind", CLASSES)
def test_adam(kind: str) -> None:
    x, y = CLASSES[kind]
    settings = FULL | {"learning_rate_init": 0.01}
    check_same(ours.MLPClassifier(**settings).fit(x, y), theirs.MLPClassifier(**settings).fit(x, y), x, 1e-7)


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("nesterov", [True, False])
def test_momentum(momentum: float, nesterov: bool) -> None:
    settings = FULL | SGD | {"momentum": momentum, "nesterovs_momentum": nesterov, "tol": 0.0}
    x, y = CLASSES["three"]
    check_same(ours.MLPClassifier(**settings).fit(x, y), theirs.MLPClassifier(**settings).fit(x, y), x)


@pytest.mark.parametrize("kind", ["two", "three", "labels"])
def test_weights_of_rows(kind: str) -> None:
    x, y = CLASSES[kind]
    weight = np.random.default_rng(1).uniform(0.1, 3, len(x))
    settings = FULL | SGD
    mine, other = (of.MLPClassifier(**settings).fit(x, y, sample_weight=weight) for of in (ours, theirs))
    check_same(mine, other, x)


def test_lbfgs() -> None:
    x, y = CLASSES["three"]
    settings = FULL | {"solver": "lbfgs", "max_iter": 12, "activation": "tanh"}
    check_same(ours.MLPClassifier(**settings).fit(x, y), theirs.MLPClassifier(**settings).fit(x, y), x, 1e-5)


@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("kind", ["two", "labels"])
def test_learning_rate_that_falls(momentum: float, nesterov: bool, kind: str) -> None:
    x, y = CLASSES[kind]
    settings = FULL | SGD | {"momentum": momentum, "nesterovs_momentum": nesterov, "power_t": 0.3}
    settings |= {"learning_rate": "invscaling"}
    mine, other = (of.MLPClassifier(**settings).fit(x, y) for of in (ours, theirs))
    check_same(mine, other, x)
    for _ in range(3):
        check_same(pickle.loads(pickle.dumps(mine)).partial_fit(x, y), copy.deepcopy(mine).partial_fit(x, y), x)
        check_same(mine.partial_fit(x, y), other.partial_fit(x, y), x)
    settings |= {"learning_rate": "adaptive", "max_iter": 400, "tol": 1e-2, "n_iter_no_change": 3}
    mine, other = (of.MLPClassifier(**settings).fit(x, y) for of in (ours, theirs))
    assert mine._optimizer.learning_rate < 0.05
    check_same(mine, other, x, 1e-6)


def test_early_stopping_keeps_the_weights_of_the_best_score() -> None:
    settings: dict[str, Any] = {"early_stopping": True, "random_state": 0, "max_iter": 60}
    model = ours.MLPClassifier(**settings).fit(X, NAMES)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert len(model.validation_scores_) == model.n_iter_ == len(model.loss_curve_)
    assert model.best_loss_ is None


def test_early_stopping_names_the_class_that_is_too_small() -> None:
    with pytest.raises(ValueError, match=r"only 1 member.*too few members are: \['rare'\]"):
        ours.MLPClassifier(early_stopping=True).fit(X[:20], ["often"] * 19 + ["rare"])


def test_weights_of_classes_go_by_their_names() -> None:
    x, y = X[50:], NAMES[50:]
    plain = ours.MLPClassifier(random_state=0, max_iter=40).fit(x, y)
    weighted = ours.MLPClassifier(random_state=0, max_iter=40, class_weight={"virginica": 50}).fit(x, y)
    assert (weighted.predict(x) == "virginica").sum() > (plain.predict(x) == "virginica").sum()
    with pytest.raises(ValueError, match="'tulip', but the classes are"):
        ours.MLPClassifier(class_weight={"tulip": 2}).fit(x, y)


NAMED = {
    "text": NAMES, "objects": NAMES.astype(object), "two": NAMES == "setosa", "numbers": Y * 2 - 1, "class numbers": Y,
    "floats": Y * 2.0,
}  # fmt: skip


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", NAMED)
def test_the_network_knows_the_classes(kind: str, solver: str, tmp_path: Path) -> None:
    y = NAMED[kind]
    model = ours.MLPClassifier((8,), random_state=0, max_iter=20, solver=solver, class_weight={y[0]: 2.0}).fit(X, y)
    assert model.network_.classes == tuple(np.unique(y).tolist())
    gf.save(model.network_, tmp_path / "model.safetensors")
    for network in (model.network_, gf.load(tmp_path / "model.safetensors")):
        np.testing.assert_array_equal(network.predict_classes(X), model.predict(X))
    if solver == "adam":
        model.partial_fit(X, y)
        assert model.network_.classes == tuple(np.unique(y).tolist())


def test_labels_and_a_single_class_have_no_names() -> None:
    for y in (LABELS, np.full(len(X), "only")):
        model = ours.MLPClassifier(random_state=0, max_iter=2).fit(X, y)
        assert model.network_.classes is None
        np.testing.assert_array_equal(model.predict(X).shape, y.shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_copies_predict_and_continue_in_the_same_way(solver: str, dtype: str) -> None:
    model = ours.MLPRegressor(random_state=0, max_iter=5, solver=solver).fit(X_OF_NUMBERS.astype(dtype), NUMBERS)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert twin.predict(X_OF_NUMBERS).tobytes() == model.predict(X_OF_NUMBERS).tobytes()
        if solver != "lbfgs":
            again = copy.deepcopy(model).partial_fit(X_OF_NUMBERS, NUMBERS)
            twin.partial_fit(X_OF_NUMBERS, NUMBERS)
            assert twin.predict(X_OF_NUMBERS).tobytes() == again.predict(X_OF_NUMBERS).tobytes()


def test_passes_are_the_epochs_of_a_fit() -> None:
    settings: dict[str, Any] = {"random_state": 0, "tol": 0, "max_iter": 6, "batch_size": 32}
    whole, parts = ours.MLPClassifier(**settings), ours.MLPClassifier(**settings)
    whole.fit(X, NAMES)
    for _ in range(6):
        parts.partial_fit(X, NAMES, classes=np.unique(NAMES))
    assert parts.predict_proba(X).tobytes() == whole.predict_proba(X).tobytes()
    assert parts.loss_curve_ == whole.loss_curve_
    assert (parts.t_, parts.n_iter_) == (whole.t_, 1)


def test_a_failed_fit_leaves_the_estimator_as_it_was() -> None:
    model = ours.MLPRegressor(random_state=0, max_iter=3)
    before = dict(vars(model))
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        model.set_params(solver="sgd", learning_rate_init=1e30).fit(X_OF_NUMBERS, NUMBERS)
    model.set_params(solver="adam", learning_rate_init=0.001)
    assert vars(model) == before
    model.fit(X_OF_NUMBERS, NUMBERS)
    predictions = model.predict(X_OF_NUMBERS)
    with pytest.raises(ValueError, match="hidden_layer_sizes must be at least 1"):
        model.set_params(hidden_layer_sizes=(5, 0)).fit(X_OF_NUMBERS, NUMBERS)
    np.testing.assert_array_equal(model.predict(X_OF_NUMBERS), predictions)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_layer_sizes", "100"),
        ("activation", "relu6"),
        ("solver", "newton"),
        ("alpha", -1.0),
        ("batch_size", 0),
        ("learning_rate", "fast"),
        ("learning_rate_init", 0.0),
        ("max_iter", 0),
        ("tol", -1e-3),
        ("momentum", 1.5),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("shuffle", "yes"),
        ("verbose", "loud"),
        ("loss", "hinge"),
        ("normalization", "group"),
        ("dropout", 1.0),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name.replace("_", "[_ ]")):
        ours.MLPClassifier(**{name: value}).fit(X, NAMES)


def test_a_loss_that_does_not_fit_the_task_is_refused() -> None:
    with pytest.raises(ValueError, match="does not train a classifier"):
        ours.MLPClassifier(loss="mean_squared_error").fit(X, NAMES)
    with pytest.raises(ValueError, match="does not train a classifier of 3 classes"):
        ours.MLPClassifier(loss=gf.BinaryCrossEntropy()).fit(X, NAMES)
    with pytest.raises(ValueError, match="trains classifiers"):
        ours.MLPRegressor(loss="softmax_cross_entropy").fit(X, Y)


class Fails(gf.Callback):
    """Raises after two epochs."""

    def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
        if epoch == 2:
            raise OSError("the disk is full")


def test_a_failed_warm_fit_leaves_the_weights_as_they_were() -> None:
    model = ours.MLPClassifier(random_state=0, max_iter=3, warm_start=True).fit(X, NAMES)
    twin = copy.deepcopy(model)
    with pytest.raises(OSError, match="disk is full"):
        model.set_params(callbacks=[Fails()]).fit(X, NAMES)
    model.set_params(callbacks=())
    assert model.predict_proba(X).tobytes() == twin.predict_proba(X).tobytes()
    assert model.loss_curve_ == twin.loss_curve_
    assert model.fit(X, NAMES).predict_proba(X).tobytes() == twin.fit(X, NAMES).predict_proba(X).tobytes()


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0 in every row|at least one non-zero"):
        ours.MLPClassifier().fit(X, NAMES, np.zeros(len(X)))


def test_weights_cannot_be_changed_by_mistake() -> None:
    model = ours.MLPClassifier(max_iter=2).fit(X, NAMES)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][0, 0] = 1
    with pytest.raises(AttributeError, match="not fitted yet"):
        _ = ours.MLPClassifier().coefs_


def test_what_scikit_learn_does_not_have() -> None:
    x, y = X_OF_NUMBERS, NUMBERS[:, 0]
    quantiles = ours.MLPRegressor(loss=gf.QuantileLoss([0.1, 0.9]), random_state=0, max_iter=50).fit(x, y)
    low, high = quantiles.predict(x).T
    assert (low < high).mean() > 0.8
    model = ours.MLPClassifier(
        (16, 16), "gelu", loss=gf.SoftmaxCrossEntropy(label_smoothing=0.1), dropout=0.1, normalization="layer",
        residual=True, clip_norm=1.0, average=0.9, random_state=0, max_iter=60, learning_rate_init=0.01,
    ).fit(X, NAMES)  # fmt: skip
    assert model.score(X, NAMES) > 0.9
    assert [array.shape for array in model.coefs_] == [(4, 16), (16, 16), (16, 3)]
    assert clone(model).get_params()["normalization"] == "layer"


def test_a_run_is_written_to_a_folder(tmp_path: Any) -> None:
    model = ours.MLPClassifier(max_iter=3, random_state=0, output=tmp_path / "run")
    model.fit(X, NAMES).fit(X, NAMES)
    network = gf.load(tmp_path / "run")
    assert network.predict(X).tobytes() == model.network_.predict(X).tobytes()
    model = ours.MLPClassifier(early_stopping=True, n_iter_no_change=2, tol=0.5, output=tmp_path / "stopped")
    model.fit(X, NAMES)
    network = gf.load(tmp_path / "stopped")  # the weights of the best score, not the last ones
    assert network.predict(X).tobytes() == model.network_.predict(X).tobytes()


def test_any_number_of_threads_may_predict() -> None:
    model = ours.MLPClassifier(max_iter=5, random_state=0).fit(X, NAMES)
    expected, answers = model.predict_proba(X), []

    def ask() -> None:
        answers.extend(np.allclose(model.predict_proba(X[:rows]), expected[:rows], rtol=1e-12) for rows in (1, 7, 150))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 24


class Named(ours.MLPClassifier):
    """A subclass with a parameter of its own."""

    def __init__(self, title: str = "net", hidden_layer_sizes: Any = (5,), random_state: Any = 0) -> None:
        super().__init__(hidden_layer_sizes, max_iter=20, random_state=random_state)
        self.title = title

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        return np.char.upper(super().predict(X))


def test_a_subclass_has_parameters_of_its_own() -> None:
    model = clone(Named(title="mine")).fit(X, NAMES)
    assert model.get_params() == {"title": "mine", "hidden_layer_sizes": (5,), "random_state": 0}
    assert set(model.predict(X)) <= {"SETOSA", "VERSICOLOR", "VIRGINICA"}
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))


def test_a_callback_may_stop_training() -> None:
    class Stop(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
            if epoch == 3:
                trainer.stop()

    assert ours.MLPClassifier(random_state=0, callbacks=[Stop()]).fit(X, NAMES).n_iter_ == 3


def test_a_fit_continues_warm() -> None:
    cold = ours.MLPClassifier(random_state=0, max_iter=5).fit(X, NAMES)
    warm = ours.MLPClassifier(random_state=0, max_iter=5, warm_start=True).fit(X, NAMES)
    assert warm.predict_proba(X).tobytes() == cold.predict_proba(X).tobytes()
    loss = warm.loss_
    warm.fit(X, NAMES)
    assert warm.loss_ < loss
    assert (len(warm.loss_curve_), warm.n_iter_, warm.t_) == (10, 5, 10 * len(X))
    again = cold.fit(X, NAMES)
    assert again.loss_ == loss
    with pytest.raises(ValueError, match="features"):
        warm.fit(X[:, :2], NAMES)


def test_warm_starts_with_and_without_early_stopping() -> None:
    model = ours.MLPClassifier(random_state=0, max_iter=4, warm_start=True).fit(X, NAMES)
    model.set_params(early_stopping=True).fit(X, NAMES)
    best = model.best_validation_score_
    assert (len(model.validation_scores_), model.best_loss_, len(model.loss_curve_)) == (4, None, 8)
    model.fit(X, NAMES)
    assert len(model.validation_scores_) == 8
    assert model.best_validation_score_ >= best
    model.set_params(early_stopping=False).partial_fit(X, NAMES)
    assert (model.validation_scores_, model.best_loss_) == (None, model.loss_)


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_on_a_gpu(solver: str) -> None:
    settings: dict[str, Any] = {"solver": solver, "random_state": 0, "max_iter": 10, "alpha": 0.01}
    settings |= {"learning_rate": "invscaling", "learning_rate_init": 0.01}  # for "sgd"
    on_gpu = ours.MLPClassifier(backend="cupy", **settings).fit(X, NAMES)
    on_cpu = ours.MLPClassifier(backend="numpy", **settings).fit(X, NAMES)
    check_same(on_gpu, on_cpu, X, 1e-6)
    on_gpu = pickle.loads(pickle.dumps(on_gpu))
    if solver != "lbfgs":
        on_cpu.partial_fit(X, NAMES)
        check_same(on_gpu.partial_fit(X, NAMES), on_cpu, X, 1e-6)
