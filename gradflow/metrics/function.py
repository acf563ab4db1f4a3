"""A function of one's own as a metric."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from gradflow.checks import any_number
from gradflow.errors import DataError, shown
from gradflow.executors import Executor
from gradflow.functions import sigmoid, softmax
from gradflow.metrics.base import Batch, Metric, Task
from gradflow.metrics.roc_auc import KeptRows
from gradflow.names import import_path

MetricFunction = Callable[..., float]
"""Computes a number from predictions and targets of all rows (`FunctionMetric`)."""


class FunctionValue(KeptRows):
    """The value of a function for all rows of an epoch.

    Args:
        task: the prediction task.
        metric: the metric.
    """

    def __init__(self, task: Task, metric: FunctionMetric) -> None:
        super().__init__(task)
        self._metric = metric

    def record(self, ops: Executor, batch: Batch) -> None:
        if batch.row_weight is not None and not self._metric.takes_weights:
            raise DataError(
                f"the rows have weights, but metric {self._metric.name!r} is a function without an argument "
                "sample_weight, so the weights would have no effect; add it, or omit sample_weight and class_weight"
            )
        super().record(ops, batch)

    def read(self) -> np.ndarray:
        task, to_host = self.task, self.task.backend.to_host
        assert self.targets is not None
        predictions, targets = np.array(to_host(self.outputs)), np.array(to_host(self.targets))
        if task.kind == "numbers":
            predictions, targets = ((task.mean + task.std * part).astype(task.dtype) for part in (predictions, targets))
        else:
            predictions = (softmax if task.kind == "classes" else sigmoid)(predictions)
        if task.n_out == 1:
            predictions, targets = predictions.reshape(-1), targets.reshape(-1)
        weights = None if self.weights is None else np.array(to_host(self.weights))
        return np.array(self._metric(predictions, targets, weights))


class FunctionMetric(Metric):
    """The number that a function ``(predictions, targets) -> float`` computes from all rows of an epoch.

    The function gets NumPy arrays: the predictions, as `Sequential.predict` returns them, and the targets, as numbers
    of the same shape or as class numbers (rows,); of a network with one output, both have shape (rows,). A function
    whose first argument is called y_true, as in scikit-learn, gets the targets first. The weights of the rows are
    passed as ``sample_weight`` if it has an argument of that name.

    Its name in the history is that of the function. Values that are better if larger have ``function.larger_is_better =
    True``, and errors False, which early stopping needs to know.

    Outputs, targets and weights of an epoch stay on the device until it ends, as for `RocAuc`.

    Args:
        function: the function.

    Raises:
        DataError: if it has no name of its own.
    """

    kinds = ("classes", "binary", "multi-label", "numbers")
    statistics = FunctionValue

    def __init__(self, function: MetricFunction) -> None:
        name = getattr(function, "__name__", "")
        if not name.isidentifier():
            raise DataError(
                f"a metric needs a name in the history, which {shown(function)} does not have; define a function with "
                "def"
            )
        self.function = function
        self.settings = (self,)
        vars(self)["name"] = name  # not one that all objects of the class share
        vars(self)["larger_is_better"] = getattr(function, "larger_is_better", None)
        try:
            self._parameters = list(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # of a function that is not written in Python
            self._parameters = []

    @property
    def saved_name(self) -> str:
        return import_path(self.function)

    @property
    def takes_weights(self) -> bool:
        """True if the function takes the weights of the rows."""
        return "sample_weight" in self._parameters

    def __call__(self, predictions: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
        """Return the value for these rows."""
        given = (targets, predictions) if self._parameters[:1] == ["y_true"] else (predictions, targets)
        returned = self.function(*given, **({} if weights is None else {"sample_weight": weights}))
        return any_number(f"the value of metric {self.name!r}", returned)

    def __repr__(self) -> str:
        return f"FunctionMetric({self.saved_name})"

    def value(self, statistics: np.ndarray, task: Task) -> float:
        return float(statistics)
