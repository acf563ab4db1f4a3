"""`PackSearchCV`: a randomized search whose fits train side by side, on data that they share."""

from __future__ import annotations

import pickle
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import unwrap
from typing import Any, Self

import numpy as np
from joblib import parallel_config
from joblib.parallel import ParallelBackendBase
from sklearn import config_context, get_config
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from gradflow.backends import get_backend
from gradflow.checks import positive_integer
from gradflow.distributed import World, alone, world
from gradflow.errors import DataError, SlowPathWarning, warn
from gradflow.pack.threads import one_thread_each
from gradflow.sklearn.estimator import MLPEstimator
from gradflow.sklearn.members import fit_at_once, may_use_gpu
from gradflow.sklearn.ranks import check_same, share_out
from gradflow.sklearn.shared_rows import Fit, NotSharedError, SharedRows
from gradflow.training.runs.ranks import one_voice

_Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A call of scikit-learn's function that fits a candidate to a fold and scores it: function and arguments."""
_Run = Callable[[Sequence[_Task]], list[Any]]
"""Returns the results of calls."""
_OF_BEST = ("best_estimator_", "best_index_", "best_params_", "best_score_", "feature_names_in_", "refit_time_")
"""Attributes of a search that has refitted its best candidate."""


class PackSearchCV(RandomizedSearchCV):  # type: ignore[misc]
    """scikit-learn's `RandomizedSearchCV`, with the fits of all candidates and folds side by side, as in a `Pack`.

    The data are validated and held once, of which each fit takes the rows of its fold; several fits run at a time, each
    with its score and callbacks on one thread of this process. Preprocessing inside the estimator, and steps of a
    pipeline in front of it, are fitted on the rows of each fold, once for all candidates. Attributes, methods and
    results are those of `RandomizedSearchCV` on estimators with ``threads=1``.

    Fits that cannot share data run on threads too, each on a copy of its fold, with a `SlowPathWarning` that says why:
    those with ``solver="lbfgs"``, ``n_members`` or ``output``, on large sparse matrices, on folds that lack a class,
    and in pipelines with parameters of other steps among those that are searched, or anything but a pipeline around the
    estimator. Estimators of other libraries, and those on a GPU, are fitted one after the other.

    Several ranks (`gradflow.distributed`) share out the fits; each has all results, which are those of one process.
    Rank 0 fits the best candidate on all rows, and the others get copies, so the estimator must be one that can be
    pickled, unless ``refit=False``. Candidates and folds must be the same on all ranks: pass ``random_state``.

    Args:
        estimator: an `MLPClassifier` or `MLPRegressor` of gradflow, or a pipeline with one.
        param_distributions: the values or distributions of each parameter; or a list of such dicts.
        n_iter: number of candidates.
        scoring, refit, cv, verbose, random_state, error_score, return_train_score: as in `RandomizedSearchCV`.
        threads: number of fits at a time; None for one on each processor that gradflow may use.
    """

    n_jobs = None
    pre_dispatch = "all"
    refit: Any

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
            KeyboardInterrupt: after Ctrl-C, when all fits have ended after their current step.
            RankError: if another rank failed, was interrupted, or has other data, settings, folds or candidates.
        """
        threads, ranks = None if self.threads is None else positive_integer("threads", self.threads), world()
        with ranks.together(), one_voice(ranks), alone():
            if problem := self._why_alone():
                warn(f"{problem}, so the fits run one after the other", SlowPathWarning)
                threads = 1
            with one_thread_each(get_backend("numpy"), threads or ranks.threads) as most:
                on_threads = _RunOnThreads(most, ranks)
                run = partial(_run_in_turn, ranks) if problem else on_threads
                with parallel_config(_Together(partial(self._share_out, [ranks], run))):
                    self._fit_on(ranks, X, y, params)
            on_threads.warn()
        return self

    def _fit_on(self, ranks: World, X: Any, y: Any, params: dict[str, Any]) -> None:  # noqa: N803
        """Call scikit-learn's `fit`; rank 0 alone refits."""
        refit = self.refit
        if ranks.rank > 0:
            self.refit = False
        try:
            super().fit(X, y, **params)
        finally:
            self.refit = refit
        if refit and ranks.size > 1:
            best = {name: value for name in _OF_BEST if (value := vars(self).get(name)) is not None}
            with ranks.patient():
                self.__dict__.update(ranks.gathered(best if ranks.rank == 0 else None)[0])

    def _share_out(self, worlds: list[World], run: _Run, tasks: Sequence[_Task]) -> list[Any]:
        """Return the results of calls that joblib makes together. If they are the fits of all candidates, one of the
        ranks makes each.

        Args:
            worlds: the ranks; empty after that, when rank 0 may fit a search inside this one.
            run: runs fits.
            tasks: the calls.
        """
        if not all({"train", "parameters", "fit_params"} <= kwargs.keys() for _, _, kwargs in tasks):
            return _run_in_turn(World(), tasks)  # something else that is done in parallel
        ranks = worlds.pop() if worlds else World()
        if ranks.size > 1:
            self._check_same(ranks, tasks)
        return share_out(ranks, tasks, run)

    def _check_same(self, ranks: World, tasks: Sequence[_Task]) -> None:
        """Raise on all ranks if one makes another search than rank 0, or has an estimator that cannot be sent."""
        if self.refit:  # on rank 0
            try:
                pickle.dumps(self.estimator)
            except Exception as error:  # of the object's own methods, too
                raise DataError(
                    f"the other ranks cannot get the best estimator from rank 0, since it cannot be pickled: {error}. "
                    "Define its functions and classes at the top level of a module, or pass refit=False"
                ) from error
        (_, (estimator, *data), first), *_ = tasks
        folds = {id(kwargs["train"]): (kwargs["train"], kwargs["test"]) for *_, kwargs in tasks}
        others = {
            "another scoring": [self.scoring, self.return_train_score, self.error_score],
            "other folds": list(folds.values()),
            "other candidates": [kwargs["parameters"] for *_, kwargs in tasks],
        }
        check_same(ranks, estimator, [*data, first["fit_params"], first.get("score_params")], others)

    def _why_alone(self) -> str | None:
        """Return why fits cannot run side by side; None if they can."""
        parts = [self.estimator, *self.estimator.get_params(deep=True).values()]
        ours = next((part for part in parts if isinstance(part, MLPEstimator)), None)
        if ours is None:
            return f"{type(self.estimator).__name__} is no estimator of gradflow"
        if may_use_gpu(ours):
            return "the estimator may train on the GPU"
        return None


class _Together(ParallelBackendBase):  # type: ignore[misc]
    """A backend of joblib that runs all calls of a `joblib.Parallel` together, when the first result is needed.

    Args:
        run: returns the results of calls.
    """

    uses_threads = True
    supports_sharedmem = True

    def __init__(self, run: _Run) -> None:
        super().__init__(nesting_level=0)
        self._run = run
        self._waiting: list[_Job] = []

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        return 2  # joblib itself would make one call after the other for 1

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> _Job:
        self._waiting.append(_Job(self, func, callback))
        return self._waiting[-1]

    apply_async = submit  # its name before joblib 1.5

    def run_all(self) -> None:
        """Run the calls that wait."""
        jobs, self._waiting = self._waiting, []
        with parallel_config("threading", n_jobs=1):  # for what they call
            results = iter(self._run([task for job in jobs for task in job.tasks]))
        for job in jobs:
            job.results = [next(results) for _ in job.tasks]


class _Job:
    """Calls that joblib has submitted together.

    Args:
        backend: the backend.
        batch: the calls, joblib's ``BatchedCalls``.
        callback: to be called afterwards.
    """

    def __init__(self, backend: _Together, batch: Any, callback: Callable[[Any], None] | None) -> None:
        self.tasks: list[_Task] = batch.items
        self.results: list[Any] | None = None
        self._backend, self._callback = backend, callback

    def get(self, timeout: float | None = None) -> list[Any]:
        """Return the results."""
        if self.results is None:
            self._backend.run_all()
        assert self.results is not None
        if self._callback is not None:
            self._callback(self.results)
        return self.results


def _run_in_turn(ranks: World, tasks: Sequence[_Task]) -> list[Any]:
    results = []
    for function, args, kwargs in tasks:
        ranks.look_for_failures(since=time.monotonic())
        results.append(function(*args, **kwargs))
    return results


class _RunOnThreads:
    """Runs fits and scores on threads, where they can with data that all share.

    Args:
        threads: number of fits at a time.
        ranks: the ranks, which make other fits.

    Attributes:
        fits: number of fits that have run.
        reasons: why fits could not use the shared data, by their numbers.
    """

    def __init__(self, threads: int, ranks: World) -> None:
        self.fits = 0
        self.reasons: dict[int, str] = {}
        self._threads, self._ranks = threads, ranks
        self._lock = threading.Lock()

    def __call__(self, tasks: Sequence[_Task]) -> list[Any]:
        results: list[Any] = [None] * len(tasks)
        folds, config = _Folds(), get_config()

        def run(place: int) -> None:
            function, (estimator, *data), kwargs = tasks[place]
            given = {name: kwargs[name] for name in ("train", "parameters", "fit_params")}
            estimator.fit = partial(self._fit, self.fits + place, estimator, partial(folds.fit_of, *data, **given))
            # The wrapper of scikit-learn sets the filters of warnings anew, which are those of all threads.
            with config_context(**config):
                results[place] = unwrap(function)(estimator, *data, **kwargs)

        fit_at_once([partial(run, place) for place in range(len(tasks))], self._threads, self._ranks)
        self.fits += len(tasks)
        return results

    def _fit(self, number: int, estimator: Any, prepare: Callable[[Any], Fit], *args: Any, **kwargs: Any) -> Any:
        """Stand for the method ``fit`` of an estimator."""
        del estimator.fit
        try:
            with self._lock:
                fit = prepare(estimator)
        except NotSharedError as reason:
            self.reasons[number] = str(reason)
            return estimator.fit(*args, **kwargs)
        except Exception:  # its own fit will have the same error
            return estimator.fit(*args, **kwargs)
        fit.run()
        return estimator

    def warn(self) -> None:
        """Warn of fits, of all ranks, that could not use the shared data."""
        fits, reasons_of = zip(*self._ranks.gathered((self.fits, self.reasons)), strict=True)
        if any(reasons_of):
            counts = Counter(reasons[number] for reasons in reasons_of for number in sorted(reasons))
            reasons = "; ".join(f"{reason} ({count} fits)" for reason, count in counts.most_common())
            warn(
                f"{counts.total()} of {sum(fits)} fits could not share their data with the others, and have each "
                f"trained on a copy of their rows: {reasons}",
                SlowPathWarning,
            )


class _Folds:
    """The data of the folds, which the fits of all candidates share."""

    def __init__(self) -> None:
        self._rows: dict[int, np.ndarray] = {}
        self._whole: SharedRows | None = None
        self._behind: dict[int, tuple[list[Any], SharedRows, np.ndarray]] = {}

    def fit_of(self, X: Any, y: Any, estimator: Any, *, train: Any, parameters: Any, fit_params: Any) -> Fit:  # noqa: N803
        """Prepare the fit of a candidate to a fold; arguments as scikit-learn passes them, which sets parameters.

        Raises:
            NotSharedError: if it cannot be a member of a pack.
            Exception: if parameters or data are invalid.
        """
        prefix = ""
        if isinstance(estimator, Pipeline) and len(estimator.steps) > 1 and estimator.memory is None:
            prefix = f"{estimator.steps[-1][0]}__"
            if others := [name for name in parameters if not name.startswith(prefix)]:
                raise NotSharedError(f"the search changes {others[0]!r}, a parameter of another step")
        ours = estimator.steps[-1][1] if prefix else estimator
        if not isinstance(ours, MLPEstimator):
            raise NotSharedError(f"{type(estimator).__name__} is no estimator of gradflow, nor a plain pipeline")
        weight_name = f"{prefix}sample_weight"
        if others := fit_params.keys() - {weight_name}:
            raise NotSharedError(f"fit is called with {min(others)}")
        weight = fit_params.get(weight_name)
        if weight is not None and len(weight) != _num_samples(X):
            raise ValueError("sample_weight must have one value for each row")
        rows = self._rows_of(train, _num_samples(X))
        if not prefix:
            self._whole = self._whole or SharedRows(X, y, weight)
            return self._whole.fit_of(ours, rows)
        steps, shared, all_rows = self._behind_steps(estimator, X, y, weight, rows)
        fit = shared.fit_of(ours, all_rows)
        estimator.steps[:-1] = steps
        return fit

    def _rows_of(self, train: Any, count: int) -> np.ndarray:
        """Return the rows of a fold: one object for all of its fits."""
        if id(train) not in self._rows:
            rows = np.asarray(train)
            rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64, casting="safe")
            self._rows[id(train)] = np.where(rows < 0, rows + count, rows)
        return self._rows[id(train)]

    def _behind_steps(
        self,
        pipeline: Pipeline,
        X: Any,  # noqa: N803
        y: Any,
        weight: Any,
        rows: np.ndarray,
    ) -> tuple[list[Any], SharedRows, np.ndarray]:
        """Return the other steps of a pipeline, fitted on a fold, its rows as they leave them, and their places."""
        if id(rows) not in self._behind:
            steps = pipeline[:-1]
            targets, weight = _safe_indexing(y, rows), None if weight is None else _safe_indexing(weight, rows)
            transformed = steps.fit_transform(_safe_indexing(X, rows), targets)
            shared = SharedRows(transformed, targets, weight)
            self._behind[id(rows)] = steps.steps, shared, np.arange(len(rows))
        return self._behind[id(rows)]
