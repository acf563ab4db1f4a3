"""Copies of estimators, fitted or not, by every way, in pipelines, processes and on other backends."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gradflow as gf
from gradflow.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)


def through_joblib(thing: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(thing, file, compress=3)
    file.seek(0)
    return joblib.load(file)


WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "joblib": through_joblib,
}


class Counts(gf.Callback):
    """Counts epochs."""

    epochs = 0

    def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
        self.epochs += 1


SETTINGS: dict[str, dict[str, Any]] = {
    "adam": {},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.05},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.05},
    "lbfgs": {"solver": "lbfgs"},
    "early stopping": {"early_stopping": True},
    "standardize": {"standardize": True},
    "schedule": {"schedule": gf.OneCycleSchedule(0.02)},
    "average": {"average": 0.9},
    "layers": {"dropout": 0.1, "normalization": "batch", "residual": True, "hidden_layer_sizes": (8, 8)},
    "callbacks": {"callbacks": [Counts()]},
    "float64 loss": {"loss": gf.HuberLoss()},
}


def made(name: str, make: Any = MLPRegressor) -> Any:
    return make(max_iter=5, random_state=0, **SETTINGS[name])


def outputs(model: Any, x: np.ndarray) -> bytes:
    return (model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)).tobytes()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("is_warm", [False, True])
def test_a_copy_is_exact_and_trains_on_as_the_original(name: str, way: str, is_warm: bool) -> None:
    for make in (MLPRegressor, MLPClassifier)[: 1 if "loss" in SETTINGS[name] else 2]:
        unfitted = made(name, make)
        assert outputs(WAYS[way](unfitted).fit(X, Y), X) == outputs(clone(unfitted).fit(X, Y), X)
        model = made(name, make).set_params(warm_start=is_warm).fit(X, Y)
        twin = WAYS[way](model)
        assert outputs(twin, X) == outputs(model, X)
        assert vars(twin).keys() == vars(model).keys()
        before = outputs(model, X)
        twin.fit(X, Y)
        assert outputs(model, X) == before, "the original has changed"
        assert outputs(model.fit(X, Y), X) == outputs(twin, X)
        assert (outputs(model, X) == before) is not is_warm


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_pipeline(way: str) -> None:
    pipeline = make_pipeline(StandardScaler(), made("adam", MLPClassifier)).fit(X, Y)
    assert outputs(WAYS[way](pipeline), X) == outputs(pipeline, X)


def fitted(model: Any) -> Any:
    return model.fit(X, Y)


def test_pipelines_go_to_other_processes_and_come_back() -> None:
    pipeline = make_pipeline(StandardScaler(), made("average", MLPClassifier))
    expected = outputs(fitted(pipeline), X)
    run = joblib.Parallel(n_jobs=2, backend="loky")
    assert run(joblib.delayed(outputs)(pipeline, X) for _ in range(2)) == [expected] * 2
    (twin,) = run([joblib.delayed(fitted)(clone(pipeline))])
    assert outputs(twin, X) == expected


def moved(model: Any, backend: str, folder: Path) -> Any:
    """Return a pickled copy of an estimator, with its network on another backend."""
    gf.save(model.network_, folder / "network.safetensors")
    twin = pickle.loads(pickle.dumps(model))
    twin.set_params(backend=backend).network_ = gf.load(folder / "network.safetensors", backend)
    return pickle.loads(pickle.dumps(twin))


@pytest.mark.parametrize("backend", ["reference", pytest.param("cupy", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", ["adam", "adaptive", "standardize"])
def test_a_copy_on_another_backend_trains_on(name: str, backend: str, tmp_path: Path) -> None:
    model = made(name).set_params(backend="numpy").fit(X, Y)
    twin = moved(model, backend, tmp_path)
    assert twin.network_.backend.name == backend
    np.testing.assert_allclose(twin.predict(X), model.predict(X), rtol=1e-4, atol=1e-5)
    for each in (model, twin):
        for _ in range(3):
            each.partial_fit(X, Y)
    np.testing.assert_allclose(twin.predict(X), model.predict(X), rtol=1e-3, atol=1e-4)
    back = moved(twin, "numpy", tmp_path)
    np.testing.assert_allclose(back.predict(X), model.predict(X), rtol=1e-3, atol=1e-4)
