"""Arrays of other libraries, with and without scikit-learn's dispatch on them."""

from __future__ import annotations

import os
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
import sklearn
from sklearn.datasets import load_iris
from sklearn.model_selection import cross_val_score

from gradflow.sklearn import MLPClassifier, MLPRegressor
from tests.docs.pages import ROOT

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
X, Y = load_iris(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)
WEIGHT = np.linspace(0.1, 2, len(X))
LIBRARIES = pytest.mark.parametrize("library", ["array_api_strict", pytest.param("torch", marks=pytest.mark.peers)])
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "early stopping": {"early_stopping": True},
    "standardize": {"standardize": True},
    "lbfgs": {"solver": "lbfgs"},
}


def check(library: ModuleType) -> None:
    """Check that estimators give the same bits for arrays of a library as for those of NumPy."""
    for make in (MLPClassifier, MLPRegressor):
        for settings in SETTINGS.values():
            for dtype in ("float32", "float64"):
                given = [X.astype(dtype), Y, WEIGHT.astype(dtype)]
                x, y, weight = map(library.asarray, given)
                model, other = (make(max_iter=10, random_state=0, **settings) for _ in range(2))
                model.fit(x, y, weight)
                other.fit(*given)
                assert model.network_.dtype == other.network_.dtype
                assert model.predict(x).tobytes() == other.predict(given[0]).tobytes()
                assert model.predict(given[0]).tobytes() == other.predict(given[0]).tobytes()
                np.testing.assert_allclose(float(model.score(x, y)), other.score(*given[:2]), rtol=1e-6)
                if make is MLPClassifier:
                    assert model.predict_proba(x).tobytes() == other.predict_proba(given[0]).tobytes()
                    assert type(model.classes_) is np.ndarray
    passes = MLPClassifier(random_state=0).partial_fit(x, y, weight, classes=library.asarray([0, 1, 2]))
    assert passes.predict(x).shape == (150,)
    if sklearn.get_config()["array_api_dispatch"]:  # without it, scikit-learn cannot select rows of strict arrays
        assert cross_val_score(MLPRegressor(max_iter=3), x, y, cv=2).shape == (2,)


@LIBRARIES
def test_arrays_of_other_libraries_give_the_same_bits(library: str) -> None:
    check(pytest.importorskip(library))


DISPATCHED = """
import importlib, sys, warnings
warnings.simplefilter("ignore")
import sklearn
from tests.sklearn.test_array_api import check
with sklearn.config_context(array_api_dispatch=True):
    check(importlib.import_module(sys.argv[1]))
"""


def run(*arguments: str) -> None:
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}  # which SciPy reads once, when it is imported
    ran = subprocess.run([sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]


@LIBRARIES
def test_they_do_under_dispatch_too(library: str) -> None:
    pytest.importorskip(library)
    run("-c", DISPATCHED, library)


def test_scikit_learn_s_checks_pass_where_scipy_takes_array_api_inputs() -> None:
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sklearn/test_checks.py")
