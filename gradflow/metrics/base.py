"""What a metric is, and the sums over an epoch that it is made of."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.direction import LARGER_IS_BETTER
from gradflow.errors import DataError, GradflowError
from gradflow.names import register
from gradflow.ops import Array, Executor

__all__ = ["METRICS", "Batch", "Kind", "Metric", "Statistics", "Task"]

METRICS: dict[str, type[Metric]] = {}
"""Every metric class by its name."""

Kind = Literal["classes", "binary", "multi-label", "numbers"]


class Task(NamedTuple):
    """What is predicted, and where.

    Attributes:
        kind: one of several classes, one of two, several labels at once, or numbers.
        backend: where the outputs lie.
        n_out: the number of outputs.
        rows: the most rows of an epoch.
        dtype: of the outputs.
        deviation: float64 (n_out,), what an output of 1 is on the scale of the targets.
    """

    kind: Kind
    backend: ReferenceBackend
    n_out: int
    rows: int
    dtype: np.dtype
    deviation: np.ndarray


class Batch(NamedTuple):
    """What a metric sees of a batch, on the device.

    Attributes:
        outputs: in front of the output activation, (rows, n_out).
        targets: as the loss takes them: labels (rows,), or numbers (rows, n_out).
        row_weight: (rows,), or None where all rows count alike.
        clock: whose position is the batch's place in the epoch.
    """

    outputs: Array
    targets: Array
    row_weight: Array | None
    clock: Array


class Statistics:
    """Sums that grow from batch to batch, on the device. Several metrics may be made of the same.

    Args:
        task: what is predicted.
        shape: of the sums, which are float64.
    """

    def __init__(self, task: Task, shape: tuple[int, ...]) -> None:
        self.task = task
        self._zeros: Array = task.backend.zeros(shape, np.float64)
        self.sums: Array = task.backend.zeros(shape, np.float64)

    def reset(self) -> None:
        """Begin an epoch."""
        self.task.backend.copy(self._zeros, self.sums)

    @property
    def vectors(self) -> dict[str, Array]:
        """What has grown since the epoch began, by name."""
        return {"sums": self.sums}

    def record(self, ops: Executor, batch: Batch) -> None:
        """Record what adds a batch."""
        raise GradflowError(f"statistics {type(self).__name__} do not define record(ops, batch)")

    def read(self) -> np.ndarray:
        """What the metrics are made of, on the host."""
        return self.task.backend.to_host(self.sums)


class Metric:
    """A number for a whole epoch, exact over all its rows, whatever the batches.

    A subclass has a `name`, the `kinds` of task that have it, the `statistics` it is made of, and `value`.
    """

    name: ClassVar[str]
    larger_is_better: ClassVar[bool]
    kinds: ClassVar[tuple[Kind, ...]]
    statistics: ClassVar[type[Statistics]]
    settings: tuple[Any, ...] = ()
    """What the statistics take besides the task."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(METRICS, cls, Metric)
        if hasattr(cls, "larger_is_better"):
            LARGER_IS_BETTER[cls.name] = cls.larger_is_better

    @property
    def label(self) -> str:
        """The name in the history."""
        return self.name

    def check(self, kind: Kind, n_out: int) -> None:
        """Refuse a task that does not have this metric.

        Raises:
            DataError: naming the metrics that it has.
        """
        if kind not in self.kinds:
            valid = ", ".join(sorted(name for name, metric in METRICS.items() if kind in getattr(metric, "kinds", ())))
            raise DataError(f"a task with {_TASKS[kind]} has no {self.name!r}; it has {valid}")

    def value(self, statistics: np.ndarray, task: Task) -> float:
        """The metric, from what its statistics have read."""
        raise GradflowError(f"metric {type(self).__name__} does not define value(statistics, task)")

    def missing(self, statistics: np.ndarray, task: Task) -> str | None:
        """What rows an epoch lacks, in words, so that this metric is the same for every network; None if it is not."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.settings))})"


_TASKS: dict[Kind, str] = {
    "classes": "several classes",
    "binary": "two classes and one output",
    "multi-label": "several labels at once",
    "numbers": "numbers to predict",
}
