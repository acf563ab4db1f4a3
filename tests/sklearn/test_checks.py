"""scikit-learn's checks of estimators."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sklearn")
from sklearn.utils.estimator_checks import parametrize_with_checks

from gradflow.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)


@parametrize_with_checks([MLPClassifier(max_iter=100), MLPRegressor(max_iter=100)])
def test_estimator_keeps_what_scikit_learn_asks(estimator: Any, check: Any) -> None:
    check(estimator)
