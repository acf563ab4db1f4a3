"""The metrics of an epoch or evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.checks import any_number
from gradflow.distributed import World
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.metrics.base import Batch, Metric, Statistics, Task
from gradflow.metrics.rows import TotalWeight
from gradflow.ops import Array
from gradflow.sealing import is_of_users, record_sealed


class EpochMetrics:
    """The statistics of several metrics, without duplicates, and the metrics' values at the end of an epoch.

    Args:
        metrics: the metrics.
        task: the prediction task.
        sums_weights: also sum the row weights; if false, their mean is assumed to be 1.
    """

    def __init__(self, metrics: Sequence[Metric], task: Task, *, sums_weights: bool = False) -> None:
        self._metrics = metrics
        self._task = task
        self._statistics: dict[Any, Statistics] = {}
        for metric in metrics:
            if _key(metric) not in self._statistics:
                self._statistics[_key(metric)] = metric.statistics(task, *metric.settings)
        self._weights = TotalWeight(task) if sums_weights else None
        if self._weights is not None:
            self._statistics[TotalWeight] = self._weights

    def reset(self) -> None:
        """Start an epoch."""
        for statistics in self._statistics.values():
            statistics.reset()

    def clear(self) -> None:
        """Set all that is accumulated to 0, also what `reset` leaves because each row overwrites it."""
        backend = self._task.backend
        for vector in self.vectors.values():
            backend.copy(backend.zeros(vector.shape, vector.dtype), vector)

    def merge(self, world: World) -> None:
        """Replace what this rank has accumulated by what all ranks have."""
        for statistics in self._statistics.values():
            statistics.merge(world)

    def merged(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the `vectors` of rows that several ranks have added, each some of them."""
        merged: dict[str, np.ndarray] = {}
        for place, statistics in enumerate(self._statistics.values()):
            prefix = f"metrics.{place}."
            own = [{name: part[prefix + name] for name in statistics.vectors} for part in parts]
            merged |= {prefix + name: vector for name, vector in statistics.merged(own).items()}
        return merged

    @property
    def vectors(self) -> dict[str, Array]:
        """The arrays that all statistics have accumulated since the epoch began, by name."""
        return {
            f"metrics.{place}.{name}": vector
            for place, statistics in enumerate(self._statistics.values())
            for name, vector in statistics.vectors.items()
        }

    def record(self, ops: Executor, batch: Batch) -> None:
        """Record the ops that add a batch to all statistics."""
        for statistics in self._statistics.values():
            if is_of_users(statistics.record):
                _record_sealed(ops, statistics, batch)
            else:
                statistics.record(ops, batch)

    def read(self) -> dict[str, float]:
        """Return the metrics of the epoch by name; the host waits for the device."""
        return self._read() if self._metrics else {}

    @np.errstate(under="ignore")
    def _read(self) -> dict[str, float]:
        read = {key: statistics.read() for key, statistics in self._statistics.items()}
        return {
            metric.label: any_number(
                f"value(statistics, task) of metric {metric!r}", metric.value(read[_key(metric)], self._task)
            )
            for metric in self._metrics
        }

    def missing(self, label: str) -> str | None:
        """Describe the rows that the epoch lacks for the metric of this name (`Metric.missing`)."""
        for metric in self._metrics:
            if metric.label == label:
                return metric.missing(self._statistics[_key(metric)].read(), self._task)
        return None

    def total_weight(self) -> float:
        """Return the total weight of the rows of the epoch; if weights are summed, the host waits for the device."""
        return self._task.rows if self._weights is None else float(self._weights.read()[1])


def _record_sealed(ops: Executor, statistics: Statistics, batch: Batch) -> None:
    vectors = statistics.vectors
    held = [name for name, value in vars(statistics).items() if any(value is vector for vector in vectors.values())]
    name = f"{type(statistics).__name__}.record"
    passed = record_sealed(ops, name, statistics.record, batch, results=vectors, held=[(statistics, held)])
    if batch.row_weight is not None and not any(array is batch.row_weight for array in passed):
        raise DataError(
            f"the rows have weights, but the statistics {type(statistics).__name__} pass no op the row_weight of the "
            "batch, so the weights would have no effect; omit sample_weight and class_weight, or use an op that "
            "takes row_weight"
        )


def _key(metric: Metric) -> Any:
    return metric.statistics, metric.settings
