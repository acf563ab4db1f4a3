"""The parameters that scikit-learn's estimators do not have: in searches, clones, pickles and representations."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.utils import estimator_html_repr

import gradflow as gf
from gradflow.sklearn import MLPClassifier, MLPRegressor
from tests.docs.pages import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
BOTH = pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])


def falling(time: float) -> float:
    return 0.02 * 0.8**time


class Rates(gf.Callback):
    """Keeps the learning rate of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def __repr__(self) -> str:
        return f"Rates({self.seen})"

    def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
        self.seen.append(values.get("learning_rate", 0.001))


OWN: dict[str, list[Any]] = {
    "loss": [gf.SoftmaxCrossEntropy(label_smoothing=0.1)],
    "class_weight": ["balanced", {0: 2.0}],
    "scoring": ["neg_log_loss"],
    "standardize": [True],
    "categorical_features": ["from_dtype", "embedding", gf.Embedding(size=2)],
    "rules": [{0: gf.data.RobustScale()}],
    "recipe": [gf.recipes.PlainRecipe(hidden=(8,), epochs=3)],
    "dropout": [0.2],
    "normalization": ["batch", "layer"],
    "residual": [True],
    "n_members": [3],
    "schedule": [
        "cosine",
        "coslog",
        "flat_cosine",
        "one_cycle",
        gf.ExponentialSchedule(0.02, 0.9),
        gf.PlateauSchedule(0.02),
        falling,
    ],
    "clip_norm": [0.1],
    "average": [0.9],
    "precision": ["float32"],
    "backend": ["reference", "numpy"],
    "device": ["cpu"],
    "threads": [1],
    "callbacks": [[Rates()]],
    "output": ["run"],
    "checkpoint": [gf.Checkpoint(every_steps=3)],
}
VALUES = [(name, value) for name, values in OWN.items() for value in values]


def names_of(make: type) -> set[str]:
    return set(inspect.signature(make).parameters)


def test_all_of_them_are_tested_here() -> None:
    assert names_of(MLPClassifier) - names_of(theirs.MLPClassifier) == set(OWN)
    assert names_of(MLPRegressor) - names_of(theirs.MLPRegressor) == set(OWN) - {"class_weight", "loss"}
    assert names_of(MLPClassifier) >= names_of(theirs.MLPClassifier)
    assert names_of(MLPRegressor) >= names_of(theirs.MLPRegressor)


@pytest.mark.parametrize("name", OWN)
def test_each_is_documented(name: str) -> None:
    listed = re.findall(r"^        ([\w, ]+):", MLPClassifier.__doc__, re.MULTILINE)
    assert name in ", ".join(listed).split(", ")
    assert f"`{name}`" in (ROOT / "docs" / "scikit-learn.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_each_can_be_set_cloned_pickled_shown_and_searched(
    name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = MLPClassifier((8,), max_iter=4, random_state=0)
    if name == "checkpoint":
        model.set_params(output="run")
    if name == "scoring":
        model.set_params(early_stopping=True)
    assert model.set_params(**{name: value}).get_params()[name] is value
    for twin in (clone(model), pickle.loads(pickle.dumps(model))):
        assert repr(twin.get_params()) == repr(model.get_params())
    assert f"{name}=" in repr(model) or getattr(MLPClassifier(), name) == value
    assert name in estimator_html_repr(model)
    default = getattr(MLPClassifier(), name)
    search = GridSearchCV(model, {name: [default, value]}, cv=2, error_score="raise").fit(X, Y)
    found = search.best_estimator_
    assert found.fit(X, Y).predict_proba(X).tobytes() == clone(found).fit(X, Y).predict_proba(X).tobytes()


@BOTH
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_schedule_sets_the_rate_of_each_epoch(make: Any, solver: str) -> None:
    settings: dict[str, Any] = {"solver": solver, "max_iter": 5, "batch_size": 150, "n_iter_no_change": np.inf}
    expected = {
        "cosine": 0.03 * 0.5 * (1 + np.cos(np.pi * np.arange(5) / 5)),
        "function": 0.02 * 0.8 ** np.arange(5),
    }
    for schedule, rates in (("cosine", "cosine"), (gf.CosineSchedule(0.03), "cosine"), (falling, "function")):
        seen = Rates()
        model = make(schedule=schedule, learning_rate_init=0.03, callbacks=[seen], random_state=0, **settings)
        model.fit(X, Y)
        np.testing.assert_allclose(seen.seen, expected[rates], rtol=1e-6)


def test_a_rate_in_a_schedule_means_what_learning_rate_init_means() -> None:
    """For several labels, scikit-learn's gradient is a sum over them."""
    labels = (X[:, :3] > 0).astype(int)
    settings: dict[str, Any] = {"solver": "sgd", "max_iter": 5, "random_state": 0}
    plain = MLPClassifier(learning_rate_init=0.03, **settings).fit(X, labels)
    scheduled = MLPClassifier(schedule=gf.StepSchedule(0.03, every=100), **settings).fit(X, labels)
    np.testing.assert_allclose(scheduled.predict_proba(X), plain.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "linear"}, "unknown schedule 'linear'.*Valid names: cosine, coslog, flat_cosine, one_cycle"),
        ({"schedule": 0.1}, "schedule must be a schedule of gradflow.*got 0.1"),
        ({"schedule": gf.CosineSchedule}, "schedule must be a schedule of gradflow"),
        ({"schedule": "cosine", "learning_rate": "adaptive"}, "pass one of them"),
        ({"schedule": gf.CosineSchedule(0.1, epochs=2)}, "ends after 2 epochs"),
        ({"checkpoint": gf.Checkpoint()}, "checkpoint needs a folder; pass output too"),
        ({"checkpoint": 5, "output": "run"}, "checkpoint must be a gradflow.Checkpoint"),
        ({"callbacks": gf.Callback()}, "callbacks must be a list"),
        ({"categorical_features": "all"}, "unknown categorical_features 'all'.*Valid names: embedding, from_dtype"),
        ({"categorical_features": gf.Embedding}, "got the class Embedding; create an object: Embedding"),
        ({"rules": gf.data.Dates()}, "rules must be a dict of rules by column, such as {'day': gradflow.data.Dates"),
        ({"rules": {"age": "mean"}}, "rules must be a dict of rules by column"),
        ({"rules": {"age": gf.data.RobustScale()}}, "rules: unknown column 'age'. Valid names: 0, 1, 2, 3"),
        ({"n_members": 0}, "n_members must be at least 1"),
        ({"n_members": 2, "warm_start": True}, "warm_start does not support n_members=2; omit it"),
        ({"n_members": 2, "output": "run"}, "output does not support n_members=2; omit it"),
        ({"threads": 0, "solver": "lbfgs"}, "threads must be at least 1"),
        ({"precision": "bfloat16", "solver": "lbfgs"}, "solver='lbfgs' does not support precision='bfloat16'"),
    ],
)
@BOTH
def test_wrong_values_are_refused_by_name(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings).fit(X, Y)


@BOTH
@pytest.mark.parametrize("name", ["dropout", "schedule", "clip_norm", "average", "callbacks", "output", "checkpoint"])
def test_what_would_have_no_effect_is_refused(make: Any, name: str, tmp_path: Path) -> None:
    value = tmp_path / "run" if name == "output" else OWN[name][0]
    with pytest.raises(ValueError, match=f"solver='lbfgs' does not support {name}=.*; omit it"):
        make(solver="lbfgs", **{name: value}).fit(X, Y)
    if name in ("dropout", "clip_norm"):
        make(**{name: value}).fit(X, Y).partial_fit(X, Y)
    else:
        with pytest.raises(ValueError, match=f"partial_fit does not support {name}=.*; omit it"):
            make(max_iter=2).fit(X, Y).set_params(**{name: value}).partial_fit(X, Y)
    assert not list(tmp_path.iterdir())


@BOTH
def test_a_killed_fit_leaves_checkpoints_that_load_as_a_network(make: Any, tmp_path: Path) -> None:
    class Killed(BaseException):
        """Nothing that a fit could handle."""

    class Dies(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
            if epoch == 3:
                raise Killed

    model = make(output=tmp_path / "run", checkpoint=gf.Checkpoint(every_epochs=1, keep=9), random_state=0, max_iter=9)
    with pytest.raises(Killed):
        model.set_params(callbacks=[Dies()]).fit(X, Y)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    two = make(random_state=0, max_iter=2).fit(X, Y).network_
    last = sorted((tmp_path / "run" / "checkpoints").glob("*.safetensors"))[-1]
    for network in (gf.load(tmp_path / "run"), gf.load(last)):
        assert network.predict(X).tobytes() == two.predict(X).tobytes()
    model.set_params(callbacks=()).fit(X, Y)
    assert gf.load(tmp_path / "run").predict(X).tobytes() == model.network_.predict(X).tobytes()


def test_a_search_in_processes_with_schedules() -> None:
    grid = {"schedule": [None, "cosine", gf.CosineSchedule(0.02, warmup=1), falling]}
    model = MLPClassifier((8,), max_iter=10, random_state=0)
    apart = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    alone = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y)
    np.testing.assert_array_equal(apart.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hidden_layer_sizes", (8, 8), r"was \[8\] when the network was created, but is \[8, 8\] now; warm_start and"),
        ("activation", "tanh", "was 'relu' when"),
        ("standardize", True, "was False when"),
        ("dropout", 0.5, "was 0.0 when"),
        ("rules", {0: gf.data.RobustScale()}, "was None when"),
    ],
)
def test_a_network_that_is_trained_further_keeps_its_shape(name: str, value: Any, message: str) -> None:
    model = MLPClassifier((8,), max_iter=3, random_state=0, warm_start=True).fit(X, Y)
    model.set_params(hidden_layer_sizes=[8], dropout=0, alpha=0.1).fit(X, Y).partial_fit(X, Y)
    weights = model.coefs_
    model.set_params(**{name: value})
    for train in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=f"{name} {message}"):
            train(X, Y)
    assert all(np.array_equal(before, after) for before, after in zip(weights, model.coefs_, strict=True))
    clone(model).fit(X, Y).partial_fit(X, Y)
    pickle.loads(pickle.dumps(model.set_params(warm_start=False).fit(X, Y))).partial_fit(X, Y)


@BOTH
def test_members_are_trained_from_other_seeds_and_predict_together(make: Any) -> None:
    settings: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 4, "backend": "numpy"}
    model = make(n_members=3, random_state=1, **settings).fit(X, Y)
    seeds = np.random.RandomState(1).randint(2**31 - 1, size=3)
    singles = [make(random_state=int(seed), threads=1, **settings).fit(X, Y) for seed in seeds]
    predict = "predict_proba" if make is MLPClassifier else "predict"
    mean = np.mean([getattr(single, predict)(X) for single in singles], axis=0)
    np.testing.assert_allclose(getattr(model, predict)(X), mean, rtol=1e-6)
    np.testing.assert_array_equal(model.coefs_[0], singles[0].coefs_[0])
    assert len(model.ensemble_) == 3
    assert pickle.loads(pickle.dumps(model)).score(X, Y) == model.score(X, Y)
    with pytest.raises(ValueError, match="partial_fit does not support n_members=3; omit it"):
        model.partial_fit(X, Y)
    model.set_params(n_members=1).fit(X, Y)
    assert not hasattr(model, "ensemble_")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("settings", [{}, {"solver": "lbfgs"}, {"batch_size": 999}])
def test_warnings_name_the_line_of_the_program(settings: dict[str, Any]) -> None:
    with pytest.warns(UserWarning, match="(?i)max_iter|maximum iterations|number of rows") as seen:
        MLPClassifier((8,), max_iter=1, random_state=0, **settings).fit(X, Y)
    assert {warning.filename for warning in seen} == {__file__}
