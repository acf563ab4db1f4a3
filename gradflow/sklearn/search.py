"""`PackSearchCV`: a randomized search whose fits share the processors of this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from joblib import parallel_config
from sklearn.model_selection import RandomizedSearchCV

from gradflow.backends import get_backend
from gradflow.checks import positive_integer
from gradflow.errors import SlowPathWarning, warn
from gradflow.pack.threads import one_thread_each
from gradflow.sklearn.estimator import MLPEstimator
from gradflow.sklearn.members import may_use_gpu


class PackSearchCV(RandomizedSearchCV):  # type: ignore[misc]
    """scikit-learn's `RandomizedSearchCV`, with all candidates and folds trained side by side, one on each processor.

    No processes are started and nothing is sent to them: the fits run on threads of this process, which gradflow's
    kernels let run at the same time, each on one of them, with the BLAS held to one thread. Attributes, methods and
    results are those of `RandomizedSearchCV` on estimators with ``threads=1``. The estimator may be part of a pipeline.
    Estimators of other libraries, and those on a GPU, are fitted one after the other, with a `SlowPathWarning`.

    Args:
        estimator: an `MLPClassifier` or `MLPRegressor` of gradflow, or a pipeline with one.
        param_distributions: the values or distributions of each parameter; or a list of such dicts.
        n_iter: number of candidates.
        scoring, refit, cv, verbose, random_state, error_score, return_train_score: as in `RandomizedSearchCV`.
        threads: number of fits at a time; None for one on each processor that gradflow may use.
    """

    n_jobs = None
    pre_dispatch = "2*n_jobs"

    def __init__(
        self,
        estimator: Any,
        param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        n_iter: int = 10,
        scoring: Any = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        threads: int | None = None,
    ) -> None:
        given = locals()
        self.__dict__.update({name: given[name] for name in PackSearchCV._get_param_names()})

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:  # noqa: N803
        """Fit all candidates on all folds, then the best one on all rows; arguments as for `RandomizedSearchCV`.

        Raises:
            ValueError: if parameters or data are invalid.
        """
        threads = None if self.threads is None else positive_integer("threads", self.threads)
        if problem := self._why_alone():
            warn(f"{problem}, so the fits run one after the other", SlowPathWarning)
            threads = 1
        with one_thread_each(get_backend("numpy"), threads) as most, parallel_config("threading", n_jobs=most):
            super().fit(X, y, **params)
        return self

    def _why_alone(self) -> str | None:
        """Return why fits cannot run side by side; None if they can."""
        parts = [self.estimator, *self.estimator.get_params(deep=True).values()]
        ours = next((part for part in parts if isinstance(part, MLPEstimator)), None)
        if ours is None:
            return f"{type(self.estimator).__name__} is no estimator of gradflow"
        if may_use_gpu(ours):
            return "the estimator may train on the GPU"
        return None
