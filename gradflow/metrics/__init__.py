"""Metrics: exact over an epoch, independent of the batches, and equal to scikit-learn's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradflow.checks import is_function, object_or_name, sequence
from gradflow.errors import DataError
from gradflow.metrics.base import LARGER_IS_BETTER, METRICS, Batch, Kind, Metric, Statistics, Task
from gradflow.metrics.counts import F1, BalancedAccuracy, Precision, Recall
from gradflow.metrics.epoch import EpochMetrics
from gradflow.metrics.function import FunctionMetric, MetricFunction
from gradflow.metrics.regression import R2, MeanAbsoluteErrorMetric, MeanSquaredErrorMetric, RootMeanSquaredError
from gradflow.metrics.roc_auc import RocAuc
from gradflow.metrics.rows import LogLoss, TopKAccuracy

__all__ = [
    "F1",
    "METRICS",
    "R2",
    "BalancedAccuracy",
    "Batch",
    "EpochMetrics",
    "Kind",
    "LogLoss",
    "MeanAbsoluteErrorMetric",
    "MeanSquaredErrorMetric",
    "Metric",
    "Precision",
    "Recall",
    "RocAuc",
    "RootMeanSquaredError",
    "Statistics",
    "Task",
    "TopKAccuracy",
    "get_metrics",
]


def get_metrics(metrics: Sequence[str | Metric | MetricFunction]) -> list[Metric]:
    """Return the metrics of these names, such as "f1" or "top_3_accuracy", or of these functions, or the metrics
    themselves.

    Raises:
        DataError: if a name is unknown, a metric occurs twice, has the name of another value of the history or lacks a
            required attribute, or the argument is anything else.
    """
    found = [
        _get_metric(metric) for metric in sequence("metrics", metrics, "a list of names, functions or gradflow metrics")
    ]
    labels = [metric.label for metric in found]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise DataError(f"metrics must be distinct, got {repeated[0]!r} twice")
    for metric in found:
        LARGER_IS_BETTER[metric.label] = metric.larger_is_better
    return found


def _get_metric(metric: str | Metric | MetricFunction) -> Metric:
    if isinstance(metric, str) and (match := re.fullmatch(r"top_(\d{1,18})_accuracy", metric)):
        return TopKAccuracy(int(match[1]))
    if is_function(metric):
        return _complete(FunctionMetric(metric))
    found = object_or_name("metric", metric, Metric, METRICS)
    return _complete(METRICS[found]() if isinstance(found, str) else found)


_TAKEN = ("epoch", "loss", "accuracy", "learning_rate")


def _complete(metric: Metric) -> Metric:
    """Return the metric after checking its attributes, and that no other value in the history has its name."""
    if missing := [name for name in ("larger_is_better", "kinds", "statistics") if not hasattr(metric, name)]:
        raise DataError(f"metric {type(metric).__name__} must have an attribute {missing[0]}")
    label = metric.label
    if label in _TAKEN or label.startswith("val_") or "/" in label:
        raise DataError(f"a metric cannot be named {label!r}: the history uses that name; choose another one")
    return metric
