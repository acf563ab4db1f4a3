"""A pass: the programs that go once over a data set, batch by batch, and add up what they measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.metrics import EpochMetrics
from gradflow.ops import Array, Executor
from gradflow.program import Program, Recorder
from gradflow.reductions import chunk_length, chunk_sums, total
from gradflow.training.data_set import Batches

__all__ = ["DataPass", "RowResults"]

_SECONDS_BETWEEN_LOOKS = 0.02
"""How long batches may run before the next look whether the user wants to stop."""


@dataclass(frozen=True)
class RowResults:
    """What a loss writes for each row of an epoch: its loss, and whether it was predicted right."""

    losses: Array
    hits: Array

    @classmethod
    def empty(cls, backend: ReferenceBackend, rows: int, dtype: np.dtype) -> RowResults:
        return cls(backend.empty(rows, dtype), backend.zeros(rows, dtype))


class DataPass:
    """One program for full batches, one for the smaller batch at the end, and one that sums the results.

    Args:
        backend: where it runs.
        batches: what the programs take their batches from.
        rows: how many rows a pass takes.
        batch_size: the rows of a full batch, at most ``rows``.
        record_batch: records the program of a batch with the given number of rows.
        results: what the batches write.
        sums: float64 (2,), where the sums of losses and hits go.
        metrics: what the batches add to besides.
        steps_per_launch: how many full batches a GPU takes as one launch.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        batches: Batches,
        *,
        rows: int,
        batch_size: int,
        record_batch: Callable[[Recorder, int], None],
        results: RowResults,
        sums: Array,
        metrics: EpochMetrics,
        steps_per_launch: int = 1,
    ) -> None:
        self.results = results
        self.metrics = metrics
        self.rows = rows
        self._batches = batches
        self.full_batches, rest = divmod(rows, batch_size)
        self._steps_per_launch = min(steps_per_launch, self.full_batches)
        self._full = _recorded(
            backend, lambda recorder: record_batch(recorder, batch_size), steps_per_launch=self._steps_per_launch
        )
        self._rest = _recorded(backend, lambda recorder: record_batch(recorder, rest)) if rest else None
        chunk = chunk_length(rows)
        partials = backend.empty(-(-rows // chunk), np.float64)

        def record_sums(ops: Executor) -> None:
            for place, of_rows in enumerate((results.losses, results.hits)):
                ops(chunk_sums, of_rows, partials, chunk)
                ops(total, partials, sums[place : place + 1])

        self._sums = _recorded(backend, record_sums)

    @property
    def batches(self) -> int:
        """The number of batches, the smaller one included."""
        return self.full_batches + (self._rest is not None)

    def run(self, is_interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Run all batches and the sums; False if it was interrupted between two batches."""
        self.metrics.reset()
        try:
            return self._run(is_interrupted)
        finally:
            self._batches.close()

    def _run(self, is_interrupted: Callable[[], bool]) -> bool:
        done, launches = 0, 1
        while done < self.full_batches:
            if is_interrupted():
                return False
            together = min(launches * self._steps_per_launch, self.full_batches - done)
            began = time.perf_counter()
            self._full.run(together)
            done += together
            # Each return to Python costs a small network a good part of a step.
            seconds_of_one = (time.perf_counter() - began) / launches
            launches = max(1, min(2 * launches, int(_SECONDS_BETWEEN_LOOKS / max(seconds_of_one, 1e-9))))
        if self._rest is not None:
            if is_interrupted():
                return False
            self._rest.run()
        self._sums.run()
        return True


def _recorded(backend: ReferenceBackend, record: Callable[[Recorder], None], *, steps_per_launch: int = 1) -> Program:
    recorder = Recorder(backend)
    record(recorder)
    return recorder.program(steps_per_launch)
