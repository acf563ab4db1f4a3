"""Base classes of metrics, and of the sums over an epoch that they are computed from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.configurable import Configurable
from gradflow.distributed import World
from gradflow.errors import DataError, GradflowError
from gradflow.executors import Executor
from gradflow.names import LARGER_IS_BETTER as LARGER_IS_BETTER
from gradflow.names import is_built_in
from gradflow.names import larger_is_better as larger_is_better
from gradflow.ops import Array

METRICS: dict[str, type[Metric]] = {}
"""Every metric class by its name."""

Kind = Literal["classes", "binary", "multi-label", "numbers"]


class Task(NamedTuple):
    """The prediction task, and the backend of the outputs.

    Attributes:
        kind: one of several classes, one of two classes, several labels at once, or numbers.
        backend: the backend that holds the outputs.
        n_out: the number of outputs.
        rows: the maximum number of rows in an epoch.
        dtype: the dtype of the outputs.
        std: float64 (n_out,), the factors that convert standardized outputs to target units.
        mean: float64 (n_out,), the numbers that are added then; None for zeros.
    """

    kind: Kind
    backend: ReferenceBackend
    n_out: int
    rows: int
    dtype: np.dtype
    std: np.ndarray
    mean: np.ndarray | None = None


class Batch(NamedTuple):
    """The arrays of a batch that a metric sees, on the device.

    Attributes:
        outputs: pre-activation outputs (logits), (rows, n_out).
        targets: targets in the form that the loss takes: labels (rows,), or numbers (rows, n_out).
        row_weight: (rows,), or None if all rows have equal weight.
        clock: the clock, whose position is that of the batch in the epoch.
    """

    outputs: Array
    targets: Array
    row_weight: Array | None
    clock: Array


class Statistics:
    """Sums accumulated over batches, on the device. Several metrics may share them.

    Args:
        task: the prediction task.
        shape: the shape of the sums, which are float64.
    """

    def __init__(self, task: Task, shape: tuple[int, ...]) -> None:
        self.task = task
        self._zeros: Array = task.backend.zeros(shape, np.float64)
        self.sums: Array = task.backend.zeros(shape, np.float64)

    def reset(self) -> None:
        """Start an epoch."""
        self.task.backend.copy(self._zeros, self.sums)

    @property
    def vectors(self) -> dict[str, Array]:
        """The arrays accumulated since the epoch began, by name."""
        return {"sums": self.sums}

    def record(self, ops: Executor, batch: Batch) -> None:
        """Record the ops that add a batch."""
        raise GradflowError(f"statistics {type(self).__name__} do not define record(ops, batch)")

    @classmethod
    def adds_up(cls) -> bool:
        """True if `merged` is right for these statistics: it is that of the class which defines `record`, or of one
        that derives from it."""
        return is_built_in(cls.record) or cls.merged is not Statistics.merged

    def merged(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the `vectors` of rows that several ranks have added, each some of them: their sums.

        Args:
            parts: the vectors of each rank, in the order of the ranks.
        """
        merged = {name: vector.copy() for name, vector in parts[0].items()}
        for part in parts[1:]:
            for name, vector in part.items():
                merged[name] += vector
        return merged

    def merge(self, world: World) -> None:
        """Replace what this rank has accumulated by what all ranks have."""
        backend = self.task.backend
        if type(self).merged is Statistics.merged:
            for vector in self.vectors.values():
                world.allreduce_(vector)
            return
        own = {name: backend.to_host(vector) for name, vector in self.vectors.items()}
        for name, vector in self.merged(world.gathered(own)).items():
            backend.copy(backend.from_host(vector), self.vectors[name])

    def read(self) -> np.ndarray:
        """Return the values that the metrics are computed from, on the host."""
        return self.task.backend.to_host(self.sums)


class Metric(Configurable, registry=METRICS):
    """A number for a whole epoch, exact over all rows and independent of the batches.

    A subclass defines its `name`, the `kinds` of task that it applies to, the `statistics` that it is computed from,
    and `value`.
    """

    larger_is_better: ClassVar[bool]
    kinds: ClassVar[tuple[Kind, ...]]
    statistics: ClassVar[type[Statistics]]
    settings: tuple[Any, ...] = ()
    """Arguments of the statistics after the task."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "larger_is_better"):
            LARGER_IS_BETTER[cls.name] = cls.larger_is_better

    @property
    def label(self) -> str:
        """Name of the metric in the history."""
        return self.name

    @property
    def saved_name(self) -> str:
        """Name of the metric in run folders."""
        return self.label

    def check(self, kind: Kind, n_out: int) -> None:
        """Check that the metric applies to a task.

        Raises:
            DataError: if it does not; the message lists those that do.
        """
        if kind not in self.kinds:
            valid = ", ".join(sorted(name for name, metric in METRICS.items() if kind in getattr(metric, "kinds", ())))
            raise DataError(f"a task with {_TASKS[kind]} has no metric {self.name!r}; it has {valid}")

    def value(self, statistics: np.ndarray, task: Task) -> float:
        """Compute the metric from the values that its statistics have read."""
        raise GradflowError(f"metric {type(self).__name__} does not define value(statistics, task)")

    def missing(self, statistics: np.ndarray, task: Task) -> str | None:
        """Describe the rows that an epoch lacks if this metric is therefore equal for all networks; else None."""
        return None


_TASKS: dict[Kind, str] = {
    "classes": "several classes",
    "binary": "two classes and one output",
    "multi-label": "several labels at once",
    "numbers": "numbers to predict",
}
