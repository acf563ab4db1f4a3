"""`PackSearchCV` against scikit-learn's `RandomizedSearchCV`, whose results it must have."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import gradflow as gf
from gradflow.backends.blas import numpy_blas
from gradflow.sklearn import MLPClassifier, MLPRegressor, PackSearchCV

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]
DRAWN = {"alpha": loguniform(1e-5, 1e-1), "hidden_layer_sizes": [(8,), (16,), (8, 8)]}
TIMES = ("fit_time", "score_time")


def classifier(**settings: Any) -> MLPClassifier:
    return MLPClassifier(max_iter=8, random_state=0, backend="numpy", **settings)


def assert_same_results(ours: Any, theirs: Any, x: np.ndarray = X) -> None:
    assert ours.best_params_ == theirs.best_params_
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for name, values in ours.cv_results_.items():
        if not any(time in name for time in TIMES):
            np.testing.assert_array_equal(np.asarray(values), np.asarray(theirs.cv_results_[name]), err_msg=name)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


@pytest.fixture(autouse=True)
def _not_converged() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
        yield


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_results_are_those_of_scikit_learn(threads: int | None) -> None:
    settings: dict[str, Any] = {"n_iter": 4, "random_state": 1, "cv": 3}
    ours = PackSearchCV(classifier(), DRAWN, threads=threads, **settings).fit(X, NAMES)
    theirs = RandomizedSearchCV(classifier(threads=1), DRAWN, n_jobs=1, **settings).fit(X, NAMES)
    assert_same_results(ours, theirs)
    assert ours.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_several_scores_weights_and_a_pipeline() -> None:
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    drawn = {f"mlpclassifier__{name}": values for name, values in DRAWN.items()}
    settings: dict[str, Any] = {
        "n_iter": 3, "random_state": 2, "cv": 3, "scoring": ["accuracy", "f1_macro"], "refit": "accuracy",
        "return_train_score": True,
    }  # fmt: skip
    fit: dict[str, Any] = {"mlpclassifier__sample_weight": weight}
    ours = PackSearchCV(make_pipeline(StandardScaler(), classifier()), drawn, **settings).fit(X, Y, **fit)
    pipeline = make_pipeline(StandardScaler(), classifier(threads=1))
    assert_same_results(ours, RandomizedSearchCV(pipeline, drawn, n_jobs=1, **settings).fit(X, Y, **fit))


def test_a_regression() -> None:
    x, y = load_diabetes(return_X_y=True)
    settings: dict[str, Any] = {"n_iter": 2, "random_state": 3, "cv": 3}
    regressor = MLPRegressor(max_iter=8, random_state=0, standardize=True, backend="numpy")
    ours = PackSearchCV(regressor, {"alpha": [1e-4, 1e-2]}, **settings).fit(x, y)
    theirs = RandomizedSearchCV(clone(regressor).set_params(threads=1), {"alpha": [1e-4, 1e-2]}, **settings).fit(x, y)
    assert_same_results(ours, theirs, x)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_candidate_that_fails_has_no_score() -> None:
    search = PackSearchCV(classifier(), {"alpha": [-1.0, 1e-4]}, n_iter=2, cv=3)
    with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
        search.fit(X, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [
        a < 0 for a in search.cv_results_["param_alpha"]
    ]


def test_what_cannot_run_side_by_side_says_so() -> None:
    search = PackSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, n_iter=2, cv=3)
    with pytest.warns(gf.SlowPathWarning, match="LogisticRegression is no estimator of gradflow, so the fits run one"):
        search.fit(X, Y)
    assert search.best_score_ > 0.9
    on_gpu = PackSearchCV(MLPClassifier(backend="cupy"), DRAWN)
    assert on_gpu._why_alone() == "the estimator may train on the GPU"
    with pytest.raises(gf.DataError, match="threads must be at least 1"):
        PackSearchCV(classifier(), DRAWN, threads=0).fit(X, Y)


@pytest.mark.skipif(numpy_blas() is None, reason="the threads of this BLAS are unknown")
def test_the_threads_of_the_blas_are_restored() -> None:
    blas = numpy_blas()
    assert blas is not None
    before = blas.threads
    PackSearchCV(classifier(), DRAWN, n_iter=1, cv=2, random_state=0).fit(X, Y)
    assert blas.threads == before


def test_it_is_an_estimator_of_scikit_learn() -> None:
    search = PackSearchCV(classifier(), {"alpha": [1e-4, 1e-3]}, n_iter=2, cv=2, random_state=0, threads=2)
    again = clone(search)
    assert again.get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert again.threads == 2
    fitted = search.set_params(n_iter=1).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.score(X, Y) == fitted.score(X, Y)
    assert "PackSearchCV" in repr(search)
