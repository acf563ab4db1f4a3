"""`Score`: how well predictions fit targets, for choosing the members of an ensemble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradflow.backends import get_backend
from gradflow.checks import object_or_name
from gradflow.data.classes import Classes, class_numbers
from gradflow.data.validation import finite_targets, host_array, numbers_or_names
from gradflow.data.where import Where
from gradflow.errors import DataError, shown
from gradflow.executors import Eager
from gradflow.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from gradflow.metrics import EpochMetrics, Kind, Metric, Task, get_metrics
from gradflow.metrics.base import METRICS, Batch
from gradflow.ops import NEVER

Scorer = Callable[[Any, np.ndarray], float]

_LOSSES = {"softmax": SoftmaxCrossEntropy(), "sigmoid": BinaryCrossEntropy(), "identity": MeanSquaredError()}
_TINY = np.finfo(np.float64).tiny


class Score:
    """Scores predictions of networks of one kind on the same rows; larger is better.

    Args:
        activation, n_out, classes: the output activation, number of outputs and class names of the networks.
        y: the targets: class names or numbers, probabilities, or numbers.
        metric: "loss" for the cross-entropy of probabilities, or the squared error of numbers; "accuracy"; another
            metric of gradflow; or a function of y and predictions, (rows, n_out), whose result is larger if better.

    Attributes:
        name: the name of the metric.
        rows: the number of rows.
        sign: -1 if smaller values of the metric are better, else 1.

    Raises:
        DataError: if targets or metric do not match the outputs of the network.
    """

    def __init__(
        self, activation: str, n_out: int, classes: Classes | None, y: Any, metric: str | Metric | Scorer
    ) -> None:
        self._activation, self._n_out = activation, n_out
        targets = host_array("y", y)
        if not targets.ndim:
            raise DataError(f"y must hold the target of each row, got {shown(y)}")
        self.rows, self.sign = len(targets), 1.0
        metric = checked_metric(metric)
        if not isinstance(metric, str | Metric):
            function = metric
            self.name = getattr(metric, "__name__", "score")
            self._value: Callable[[np.ndarray], float] = lambda predictions: _number(metric, function(y, predictions))
            return
        self._targets = self._converted(targets, classes)
        if metric == "loss":
            self.name, self.sign, self._value = "loss", -1.0, self._loss
        elif metric == "accuracy" and self._activation != "identity":
            self.name, self._value = "accuracy", self._accuracy
        else:
            (found,) = get_metrics([metric])
            found.check(self._kind, self._n_out)
            self._metric = found
            self.name, self.sign, self._value = found.label, 1.0 if found.larger_is_better else -1.0, self._of_metric

    def __call__(self, predictions: np.ndarray) -> float:
        """Return the score of predictions (rows, n_out): probabilities, or numbers in target units."""
        with np.errstate(all="ignore"):
            value = self.sign * self._value(predictions)
        return value if np.isfinite(value) else -np.inf

    def _converted(self, y: np.ndarray, classes: Classes | None) -> np.ndarray:
        targets, where = numbers_or_names("y", y), Where(range(self.rows))
        if classes is not None and not (targets.ndim == 2 and targets.shape[1] == self._n_out > 1):
            targets = class_numbers("y", targets, classes, where)
        elif targets.dtype.kind == "O":
            raise DataError(f"y holds names, such as {shown(targets.reshape(-1)[0])}, but the networks have no classes")
        targets = finite_targets("y", targets, where)
        columns = 1 if targets.ndim == 1 else targets.shape[1]
        if self._activation == "identity" and columns != self._n_out:
            raise DataError(
                f"y has {columns} column{'s' if columns > 1 else ''}, but the networks have {self._n_out} outputs for "
                "each row; pass metric=, a function of y and predictions whose result is larger if they are better"
            )
        converted: np.ndarray = _LOSSES[self._activation].targets(targets, self._n_out, np.dtype(np.float64))
        return converted

    @property
    def _kind(self) -> Kind:
        if self._activation == "sigmoid":
            return "binary" if self._n_out == 1 else "multi-label"
        return "classes" if self._activation == "softmax" else "numbers"

    def _loss(self, predictions: np.ndarray) -> float:
        p, t = predictions, self._targets
        if self._activation == "identity":
            return float(((p - t) ** 2).mean())
        if t.ndim == 1:
            return -float(np.log(np.maximum(p[np.arange(len(t)), t], _TINY)).mean())
        terms = t * np.log(np.maximum(p, _TINY))
        if self._activation == "sigmoid":
            terms = terms + (1 - t) * np.log(np.maximum(1 - p, _TINY))
        return -float(terms.sum(axis=1).mean())

    def _accuracy(self, predictions: np.ndarray) -> float:
        if self._activation == "sigmoid":
            return float(((predictions > 0.5) == (self._targets > 0.5)).mean())
        labels = self._targets if self._targets.ndim == 1 else self._targets.argmax(axis=1)
        return float((predictions.argmax(axis=1) == labels).mean())

    def _of_metric(self, predictions: np.ndarray) -> float:
        """Return gradflow's metric of logits that have these predictions."""
        outputs = predictions
        if self._activation != "identity":
            outputs = np.log(np.maximum(predictions, _TINY))
        if self._activation == "sigmoid":
            outputs = outputs - np.log(np.maximum(1 - predictions, _TINY))
        backend = get_backend("numpy")
        task = Task(self._kind, backend, self._n_out, self.rows, np.dtype(np.float64), np.ones(self._n_out))
        metrics = EpochMetrics([self._metric], task)
        clock = np.array([1, 0, 0, NEVER], np.int64)
        metrics.record(Eager(backend), Batch(np.ascontiguousarray(outputs), self._targets, None, clock))
        return metrics.read()[self._metric.label]


def checked_metric(metric: Any) -> str | Metric | Scorer:
    """Check for the name of a metric, a metric, or a function.

    Raises:
        DataError: if it is none of these.
    """
    if callable(metric) and not isinstance(metric, type | Metric):
        function: Scorer = metric
        return function
    return object_or_name("metric", metric, Metric, {*METRICS, "loss", "accuracy"})


def _number(metric: object, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"the metric {shown(metric)} must return a number, got {shown(value)}") from error
