"""scikit-learn's checks of estimators."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sklearn")
from sklearn.utils.estimator_checks import parametrize_with_checks

from gradflow.sklearn import MLPClassifier, MLPRegressor, PackSearchCV

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_estimator_keeps_what_scikit_learn_asks(estimator: Any, check: Any) -> None:
    check(estimator)


SEARCHED = {"max_iter": 150, "learning_rate_init": 0.01, "random_state": 0, "backend": "numpy"}


@parametrize_with_checks(
    [
        PackSearchCV(kind(**SEARCHED), {"alpha": [1e-4, 1e-3]}, n_iter=2, cv=2, random_state=0)
        for kind in (MLPClassifier, MLPRegressor)
    ]
)
@pytest.mark.filterwarnings(
    "ignore::gradflow.SlowPathWarning",
    "ignore::sklearn.exceptions.FitFailedWarning",
    "ignore:The least populated class in y",
    "ignore:Scoring failed",
    "ignore:invalid value encountered in cast",  # by scikit-learn
    "ignore:One or more of the test scores are non-finite",
)
def test_search_keeps_what_scikit_learn_asks(estimator: Any, check: Any) -> None:
    check(estimator)
