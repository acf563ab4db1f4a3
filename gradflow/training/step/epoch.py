"""`DataPass`: programs that run once over the data, batch by batch, and sum the results: epochs and evaluations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.read_ahead import BrokenOffError
from gradflow.executors import Executor
from gradflow.layers.stack import ForwardArrays
from gradflow.metrics import EpochMetrics
from gradflow.ops import Array
from gradflow.program import Program, Recorder
from gradflow.reductions import chunk_length, chunk_sums, total
from gradflow.training.data.feed import Batches
from gradflow.training.step.layer_statistics import LayerStatistics

__all__ = ["Allowance", "DataPass", "RowResults"]

Allowance = Callable[[int], int]
"""Maps the number of batches done to how many more may run before the next call; 0 ends the pass."""

_SECONDS_BETWEEN_LOOKS = 0.02
"""Seconds that batches may run before the next check for an interruption."""
_LEAST_FIRST_ROWS = 32
"""Minimum number of rows at the start of a pass whose mean loss stands for the loss before training."""


def _as_many_as_there_are(batches_done: int) -> int:
    return sys.maxsize


class RowResults(NamedTuple):
    """Results that a loss writes for each row of an epoch: its loss and its accuracy."""

    losses: Array
    hits: Array

    @classmethod
    def empty(cls, backend: ReferenceBackend, rows: int, dtype: np.dtype) -> RowResults:
        return cls(backend.empty(rows, dtype), backend.zeros(rows, dtype))


class DataPass:
    """Runs the batches of an epoch or evaluation.

    It has a program for full batches, one for the smaller batch at the end, one that sums the results, and, if layers
    are measured, another one for a full batch.

    Args:
        backend: the backend.
        batches: source of the batches.
        rows: number of rows in a pass.
        batch_size: rows of a full batch, at most ``rows``.
        record_batch: records the program of a batch with the given number of rows; in training it returns the arrays of
            the forward pass.
        results: row results that the batches write.
        sums: float64 (3,), receives the sums of the losses, of the correct predictions, and of the losses of the first
            rows: those of the first batch, but at least 32.
        metrics: metrics that the batches update.
        steps_per_launch: number of full batches per GPU launch.
        statistics: layer statistics of a measured batch; None measures none.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        batches: Batches,
        *,
        rows: int,
        batch_size: int,
        record_batch: Callable[[Recorder, int], ForwardArrays | None],
        results: RowResults,
        sums: Array,
        metrics: EpochMetrics,
        steps_per_launch: int = 1,
        statistics: LayerStatistics | None = None,
    ) -> None:
        self._backend = backend
        self.results = results
        self.metrics = metrics
        self.statistics = statistics
        self.rows = rows
        self._batch_size = batch_size
        self._first_rows = min(max(batch_size, _LEAST_FIRST_ROWS), rows)
        self._batches = batches
        self.full_batches, rest = divmod(rows, batch_size)
        self._steps_per_launch = min(steps_per_launch, self.full_batches)
        self._launches = 1  # between checks for an interruption; limited by how long a user may wait
        full = Recorder(backend)
        arrays = record_batch(full, batch_size)
        self._full = full.program(self._steps_per_launch)
        self._measured = None
        if statistics is not None and arrays is not None:
            self._measured = _recorded(backend, lambda recorder: statistics.record(recorder, full, arrays))
        self._rest = _recorded(backend, lambda recorder: record_batch(recorder, rest)) if rest else None
        chunk = chunk_length(rows)
        partials = backend.empty(-(-rows // chunk), np.float64)

        def record_sums(ops: Executor) -> None:
            for place, of_rows in enumerate((results.losses, results.hits)):
                ops(chunk_sums, of_rows, partials, chunk)
                ops(total, partials, sums[place : place + 1])
            ops(chunk_sums, results.losses[: self._first_rows], sums[2:], self._first_rows)

        self._sums = _recorded(backend, record_sums)

    @property
    def batches(self) -> int:
        """Number of batches, including the smaller one."""
        return self.full_batches + (self._rest is not None)

    def position(self, batches_done: int) -> int:
        """Return the row of the epoch at which the next batch begins, after ``batches_done`` batches."""
        return batches_done * self._batch_size

    def first_loss(self, sums: Sequence[float]) -> float:
        """Return the mean loss of the first rows of the pass, from sums that were read to the host."""
        return sums[2] / self._first_rows

    def results_of(self, batches_done: int) -> dict[str, Array]:
        """Return the results of the first ``batches_done`` batches, by name."""
        if not batches_done:
            return {}
        rows = slice(self.position(batches_done))
        return {"losses": self.results.losses[rows], "hits": self.results.hits[rows], **self.metrics.vectors}

    def run(
        self,
        allowance: Allowance = _as_many_as_there_are,
        *,
        batches_done: int = 0,
        is_measured: bool = False,
        passes_to_come: int = 0,
    ) -> bool:
        """Run all remaining batches and the sums; return False if the pass was ended early.

        If ``is_measured``, the layers are measured in the last full batch. If passes are to come, the first batches of
        the next one are prefetched until `close`.
        """
        if not batches_done:
            self.metrics.reset()
        self._batches.begin(passes_to_come)
        is_finished = False
        try:
            is_finished = self._run(allowance, batches_done, self._measured if is_measured else None)
        finally:
            if not passes_to_come or not is_finished:
                self.close()
        return is_finished

    def break_off(self) -> None:
        """Stop waiting for batches. A signal handler may call it."""
        self._batches.break_off()

    def close(self) -> None:
        """Stop prefetching batches until the next pass."""
        self._batches.close()

    def _run(self, allowance: Allowance, done: int, measured: Program | None) -> bool:
        unmeasured = self.full_batches - (measured is not None)
        while done < unmeasured:
            ready = self._ready(allowance, done)
            if not ready:
                return False
            began = time.perf_counter()
            together = min(self._launches * self._steps_per_launch, unmeasured - done, ready)
            self._full.run(together)
            done += together
            # For a small network, each return to Python costs a good part of a step.
            seconds_of_one = (time.perf_counter() - began) * self._steps_per_launch / together
            worth_a_look = int(_SECONDS_BETWEEN_LOOKS / max(seconds_of_one, 1e-9))
            self._launches = max(1, min(2 * self._launches, worth_a_look))
        if measured is not None and done < self.full_batches:
            if not self._ready(allowance, done):
                return False
            measured.run()
            done += 1
        if self._rest is not None:
            if not self._ready(allowance, done):
                return False
            self._rest.run()
        self._sums.run()
        return True

    def _ready(self, allowance: Allowance, done: int) -> int:
        """Return how many batches may run now and are available; 0 if the pass ends here."""
        allowed = allowance(done)
        if not allowed:
            return 0
        try:
            return min(allowed, self._batches.bring(done))
        except BrokenOffError:
            allowance(done)  # this saves the run
            return 0


def _recorded(backend: ReferenceBackend, record: Callable[[Recorder], object]) -> Program:
    recorder = Recorder(backend)
    record(recorder)
    return recorder.program()
