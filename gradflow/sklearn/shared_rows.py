"""Fits of estimators on rows of the same data, which are validated, converted and held once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing, check_random_state

from gradflow.errors import DataError, DivergedError, collecting_warnings, warn
from gradflow.losses.base import LOSSES
from gradflow.names import is_built_in
from gradflow.pack.shared_data import SharedData
from gradflow.sklearn.estimator import Epochs, MLPEstimator
from gradflow.sklearn.parameters import check_parameters
from gradflow.sklearn.rows import Rows
from gradflow.sklearn.sparse import is_sparse
from gradflow.training.signals import Interruption
from gradflow.training.trainer import PreparedFit
from gradflow.training.watch.unit_size import advising

_OF_INPUTS = ("standardize", "categorical_features", "rules")
"""Parameters that decide on the preprocessing of inputs."""
_OTHER_SETTINGS: dict[str, Any] = {
    "validation_fraction": None,
    "drop_last": False,
    "accumulate": 1,
    "early_stopping": None,
    "tolerance": None,
    "progress": False,
    "output": None,
    "checkpoint": None,
    "resume": None,
    "overwrite": False,
}
"""The settings of `Trainer.fit` that no estimator sets here."""


class NotSharedError(Exception):
    """A fit cannot use shared data; the message says why."""


class Fit(NamedTuple):
    """A fit of an estimator, ready to run.

    Attributes:
        estimator: the estimator, with the attributes that it has before its epochs.
        epochs: the epochs.
        prepared: the same, validated.
        warnings: texts and categories of the warnings of the preparation.
    """

    estimator: MLPEstimator
    epochs: Epochs
    prepared: PreparedFit
    warnings: Sequence[tuple[str, type[Warning]]]

    def run(self) -> None:
        """Train in this thread, on as many threads as the process has been set to use.

        Raises:
            ValueError: if the fit diverged, without early stopping, which has the best weights.
        """
        for message, category in self.warnings:
            warn(message, category)
        trainer, error = self.epochs.trainer, None
        network = trainer.network
        with advising(self.estimator._remedies()), network.access.training(), network.backend.current():
            try:
                with Interruption() as interruption:
                    for _ in trainer._epochs(self.prepared, interruption):
                        pass
            except DivergedError as caught:
                error = caught
            self.estimator._epochs_ended(self.epochs, error)


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
        self._data: dict[Any, tuple[SharedData, Any]] = {}
        self._kept: list[Any] = []  # objects whose ids are in the keys

    def fit_of(self, estimator: MLPEstimator, rows: np.ndarray) -> Fit:
        """Prepare the fit of an estimator that has parameters, but is not fitted.

        Args:
            estimator: the estimator.
            rows: the places of the rows to train on, int64: the same object for all fits on the same rows.

        Raises:
            NotSharedError: if it cannot use the shared data.
            ValueError: if parameters or data are invalid.
        """
        _check_can_share(estimator)
        check_parameters(estimator, [*LOSSES, *estimator._loss_names()], is_partial=False)
        warnings: list[tuple[str, type[Warning]]] = []
        with collecting_warnings(lambda message, category: warnings.append((message, category))):
            whole, fold = self._rows(estimator, rows)
            random = check_random_state(estimator.random_state)
            estimator._begin(whole.x, self._inputs(estimator, whole, rows), random)
            training, held_out = estimator._with_validation(fold, (None, None, None), random)
            if held_out is not None:
                rows, held_out = training.x, held_out._replace(x=_safe_indexing(whole.x, held_out.x))
            epochs = estimator._epochs(training, held_out)
            return Fit(estimator, epochs, self._prepared(estimator, epochs, whole, rows), warnings)

    def _prepared(self, estimator: MLPEstimator, epochs: Epochs, whole: Rows, rows: np.ndarray) -> PreparedFit:
        """Return the fit on some of the rows, with data that all fits share which take them in the same form."""
        key = id(whole), repr(estimator.network_.classes)
        if key not in self._data:
            x, y, weight = estimator._as_given(whole).source
            self._data[key] = SharedData(x, y), weight
        data, weight = self._data[key]
        of_fit = data.of_member(
            epochs.trainer,
            rows,
            None,
            sample_weight=weight,
            class_weight=epochs.settings["class_weight"],
            validation_data=None,
            validation_fraction=None,
        )
        return epochs.trainer._prepared(of_fit, **_OTHER_SETTINGS, **epochs.settings)

    def _rows(self, estimator: MLPEstimator, rows: np.ndarray) -> tuple[Rows, Rows]:
        """Return all rows as the estimator sees them, and those of a fit, with their places for inputs; set what the
        estimator learns of them."""
        key = self._key(estimator, *_OF_INPUTS, "loss", "solver")
        if key not in self._validated:
            before = set(estimator.__dict__)
            whole = estimator._validated(*self._given, is_first=True, is_partial=False)
            if is_sparse(whole.x):
                raise NotSharedError("their inputs are a large sparse matrix")
            learned = {name: value for name, value in estimator.__dict__.items() if name not in before}
            self._validated[key] = learned, whole
        learned, whole = self._validated[key]
        estimator.__dict__.update(learned)
        if (key, id(rows)) not in self._folds:
            weight = None if whole.weight is None else whole.weight[rows]
            fold = Rows(rows, whole.targets[rows], weight)
            if is_classifier(estimator) and len(np.unique(fold.targets)) < len(np.unique(whole.targets)):
                raise NotSharedError("their rows lack a class")
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


def _check_can_share(estimator: MLPEstimator) -> None:
    """Raise if a fit of this estimator is no single training of a network on all of its rows.

    Raises:
        NotSharedError: saying which parameter makes it something else.
    """
    for name, packable in {"solver": ("adam", "sgd"), "n_members": (1,), "output": (None,), "recipe": (None,)}.items():
        if (value := getattr(estimator, name)) not in packable:
            raise NotSharedError(f"{name}={value!r}")
