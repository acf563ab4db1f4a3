"""Fits of estimators on rows of the same data, as members of packs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing, check_random_state

from gradflow.errors import DataError, DivergedError, collecting_warnings, warn
from gradflow.losses.base import LOSSES
from gradflow.names import is_built_in
from gradflow.pack import Each, Pack
from gradflow.sklearn.estimator import Epochs, MLPEstimator
from gradflow.sklearn.parameters import check_parameters
from gradflow.sklearn.rows import Rows
from gradflow.sklearn.sparse import is_sparse
from gradflow.training import Callback
from gradflow.training.watch.unit_size import advising

_OF_INPUTS = ("standardize", "categorical_features", "rules")
"""Parameters that decide on the preprocessing of inputs."""


class CannotBePackedError(Exception):
    """A fit cannot be a member of a pack; the message says why."""


class Fit:
    """A fit of an estimator that can be a member of a pack.

    Args:
        estimator: the estimator, with the attributes that it has before its epochs.
        whole: the rows that it shares with other fits.
        rows: the places among them of the rows to train on, int64.
        epochs: the epochs.

    Attributes:
        error: the error that ended the fit.
        warnings: texts and categories of its warnings.
        seconds: the seconds that it took.
    """

    def __init__(self, estimator: MLPEstimator, whole: Rows, rows: np.ndarray, epochs: Epochs) -> None:
        self.estimator, self.whole, self.rows, self.epochs = estimator, whole, rows, epochs
        self.error: Exception | None = None
        self.warnings: list[tuple[str, type[Warning]]] = []
        self.seconds = 0.0

    @property
    def form(self) -> Any:
        """Fits with equal forms can be members of one pack."""
        network = self.estimator.network_
        return id(self.whole), type(self.epochs.trainer.loss), repr(network.classes), self.estimator._remedies()

    def finish(self) -> None:
        """Set the remaining attributes of the estimator, and give the warnings of its fit.

        Raises:
            Exception: the error that ended the fit.
        """
        for message, category in self.warnings:
            warn(message, category)
        if self.error is not None and not isinstance(self.error, DivergedError):
            raise self.error
        self.estimator._epochs_ended(self.epochs, self.error)


class SharedRows:
    """Data that the fits of several estimators share: validated once, of which each fit uses some rows.

    Args:
        X, y, sample_weight: the data, as for ``fit`` of the estimators.
    """

    def __init__(self, X: Any, y: Any, sample_weight: Any = None) -> None:  # noqa: N803
        self._given = X, y, sample_weight
        self._validated: dict[Any, tuple[dict[str, Any], Rows]] = {}
        self._folds: dict[Any, Rows] = {}
        self._preprocessing: dict[Any, Any] = {}
        self._kept: list[Any] = []  # objects whose ids are in the keys

    def fit_of(self, estimator: MLPEstimator, rows: np.ndarray) -> Fit:
        """Prepare the fit of an estimator that has parameters, but is not fitted.

        Args:
            estimator: the estimator.
            rows: the places of the rows to train on, int64: the same object for all fits on the same rows.

        Raises:
            CannotBePackedError: if it cannot be a member of a pack.
            ValueError: if parameters or data are invalid.
        """
        began = time.perf_counter()
        _check_can_be_packed(estimator)
        check_parameters(estimator, [*LOSSES, *estimator._loss_names()], is_partial=False)
        warnings: list[tuple[str, type[Warning]]] = []
        with collecting_warnings(lambda message, category: warnings.append((message, category))):
            whole, fold = self._rows(estimator, rows)
            random = check_random_state(estimator.random_state)
            estimator._begin(whole.x, self._inputs(estimator, whole, rows), random)
            training, held_out = estimator._with_validation(fold, (None, None, None), random)
            if held_out is not None:
                rows, held_out = training.x, held_out._replace(x=_safe_indexing(whole.x, held_out.x))
            fit = Fit(estimator, whole, rows, estimator._epochs(training, held_out))
        fit.warnings, fit.seconds = warnings, time.perf_counter() - began
        return fit

    def _rows(self, estimator: MLPEstimator, rows: np.ndarray) -> tuple[Rows, Rows]:
        """Return all rows as the estimator sees them, and those of a fit, with their places for inputs; set what the
        estimator learns of them."""
        key = self._key(estimator, *_OF_INPUTS, "loss", "solver")
        if key not in self._validated:
            before = set(estimator.__dict__)
            whole = estimator._validated(*self._given, is_first=True, is_partial=False)
            if is_sparse(whole.x):
                raise CannotBePackedError("their inputs are a large sparse matrix")
            learned = {name: value for name, value in estimator.__dict__.items() if name not in before}
            self._validated[key] = learned, whole
        learned, whole = self._validated[key]
        estimator.__dict__.update(learned)
        if (key, id(rows)) not in self._folds:
            weight = None if whole.weight is None else whole.weight[rows]
            fold = Rows(rows, whole.targets[rows], weight)
            if is_classifier(estimator) and len(np.unique(fold.targets)) < len(np.unique(whole.targets)):
                raise CannotBePackedError("their rows lack a class")
            if weight is not None and not weight.any():
                raise DataError("sample_weight is 0 in every row; nothing would be learned")
            self._kept.append(rows)
            self._folds[key, id(rows)] = fold
        return whole, self._folds[key, id(rows)]

    def _inputs(self, estimator: MLPEstimator, whole: Rows, rows: np.ndarray) -> Any:
        """Return the preprocessing of a fit, fitted on its own rows."""
        if not estimator._takes_tables:
            return None
        key = id(rows), self._key(estimator, *_OF_INPUTS)
        if key not in self._preprocessing:
            self._preprocessing[key] = estimator._fitted_inputs(_safe_indexing(whole.x, rows))
        return self._preprocessing[key]

    def _key(self, estimator: MLPEstimator, *names: str) -> tuple[Any, ...]:
        values = [getattr(estimator, name) for name in names]
        self._kept.append(values)
        return type(estimator), *map(_identity, values)


def _identity(value: Any) -> Any:
    """Return what is equal only for values of one meaning; of an object of the user's, that is itself."""
    if isinstance(value, Mapping):
        return tuple((name, _identity(each)) for name, each in value.items())
    is_plain = value is None or isinstance(value, str | bool)
    return value if is_plain else repr(value) if is_built_in(type(value)) else id(value)


def _check_can_be_packed(estimator: MLPEstimator) -> None:
    """Raise if a fit of this estimator is no single training of a network on all of its rows.

    Raises:
        CannotBePackedError: saying which parameter makes it something else.
    """
    for name, packable in {"solver": ("adam", "sgd"), "n_members": (1,), "output": (None,)}.items():
        if (value := getattr(estimator, name)) not in packable:
            raise CannotBePackedError(f"{name}={value!r}")


def train(fits: Sequence[Fit], threads: int | None) -> list[Fit]:
    """Train the networks of all fits, in one pack for each form; errors of training are kept in the fits.

    Returns:
        the fits that could not be trained together, since a pack refused one of them; they have not begun.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when all have ended.
    """
    left: list[Fit] = []
    packs: dict[Any, list[Fit]] = {}
    for fit in fits:
        packs.setdefault(fit.form, []).append(fit)
    for together in packs.values():
        pack, first = _PackOfFits(together), together[0]
        x, y, weight = first.estimator._as_given(first.whole).source
        names = first.epochs.settings.keys() - {"callbacks"}
        settings: dict[str, Any] = {name: Each([fit.epochs.settings[name] for fit in together]) for name in names}
        settings["callbacks"] = Each([[_OfFit(fit)] for fit in together])
        rows = [fit.rows for fit in together]
        try:
            with advising(first.estimator._remedies()):
                pack.fit(x, y, rows=rows, sample_weight=weight, threads=threads, progress=False, **settings)
        except DataError:
            left += together
    return left


class _PackOfFits(Pack):
    """A pack that keeps the errors and warnings of each member with its fit, in place of reporting them together.

    Args:
        fits: the fits.
    """

    def __init__(self, fits: Sequence[Fit]) -> None:
        super().__init__([fit.epochs.trainer for fit in fits])
        self.may_lack_classes = True  # `SharedRows` sees to it
        self._fits = fits

    def _report(self, warnings: Sequence[tuple[int, tuple[str, type[Warning]]]]) -> None:
        for place, warning in warnings:
            self._fits[place].warnings.append(warning)
        for place, fit in enumerate(self._fits):
            fit.error = fit.error or self.errors.get(place)
            if (history := self.trainers[place].history) is not None:
                fit.seconds += history.seconds


class _OfFit(Callback):
    """The callbacks of a fit, whose errors end this fit alone.

    Args:
        fit: the fit.
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def _call(self, name: str, trainer: Any, *arguments: Any) -> None:
        try:
            for callback in self._fit.epochs.settings["callbacks"]:
                getattr(callback, name)(trainer, *arguments)
        except Exception as error:
            self._fit.error = self._fit.error or error
            trainer.stop()

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self._call("on_fit_begin", trainer, epochs)

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        self._call("on_epoch_end", trainer, epoch, values)

    def on_fit_end(self, trainer: Any, history: Any) -> None:
        self._call("on_fit_end", trainer, history)
