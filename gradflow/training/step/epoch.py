"""`Epoch`: programs that run once over the data, batch by batch, and sum the results."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.clock import RunStatus
from gradflow.data.read_ahead import BrokenOffError
from gradflow.distributed import World
from gradflow.metrics import EpochMetrics
from gradflow.ops import FIRST_BAD_STEP, Array
from gradflow.program import Program, Recorder
from gradflow.reductions import chunk_length, chunk_sums, total
from gradflow.training.data.feed import BatchFeed, GatheredBatches
from gradflow.training.step.layer_statistics import LayerStatistics
from gradflow.training.step.record import Results

Allowance = Callable[[int], int]
"""Maps the number of batches done to how many more may run before the next call; 0 ends the epoch."""

Pass = Sequence[tuple[Program, int]]
"""Programs that make up a pass over the data, in order, and how many times each of them runs."""

_OF_ROWS = ("losses", "hits")
"""The names, in checkpoints, of the results of each row."""
_SECONDS_BETWEEN_LOOKS = 0.02
"""Seconds that batches may run before the next look at the status, and check for an interruption."""
_LEAST_FIRST_ROWS = 32
"""Minimum number of rows at the start of an epoch whose mean loss stands for the loss before training."""


def _as_many_as_there_are(batches_done: int) -> int:
    return sys.maxsize


class Epoch:
    """Runs programs over data, batch by batch, and sums their results: an epoch of training, or an evaluation.

    Args:
        backend: the backend.
        batches: the batches.
        status: the clock that the programs advance.
        results: the results that the programs write.
        sums: float64 (3,), receives the sums of the losses, of the correct predictions, and of the losses of the first
            rows: those of the first batch, but at least 32.
        rows: number of rows.
        batch_size: rows of a full batch, at most ``rows``.
        full: the program of a full batch.
        rest: the program of the smaller batch at the end; None if there is none.
        measured: the program of a full batch whose layers are measured; None if layers are not measured.
        has_accuracy: True if the results have correct predictions.
        steps_per_launch: number of full batches per GPU launch, at most all.
        ends_at_bad_step: True to end after a batch with a non-finite loss.
        statistics: the layer statistics that ``measured`` writes.
        world: the ranks that share each batch; the programs are for the rows of this one.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        batches: BatchFeed,
        status: RunStatus,
        results: Results,
        sums: Array,
        *,
        rows: int,
        batch_size: int,
        full: Program,
        rest: Program | None,
        measured: Program | None = None,
        has_accuracy: bool,
        steps_per_launch: int = 1,
        ends_at_bad_step: bool = False,
        statistics: LayerStatistics | None = None,
        world: World | None = None,
    ) -> None:
        assert results.metrics is not None
        self.results = results
        self.metrics: EpochMetrics = results.metrics
        self.statistics = statistics
        self.rows = rows
        self._world = world or World()
        self._backend = backend
        self.full_batches = rows // batch_size
        self._batch_size = batch_size
        self._first_rows = min(max(batch_size, _LEAST_FIRST_ROWS), rows)
        self._batches = batches
        self._full, self._rest, self._measured = full, rest, measured
        self._has_accuracy = has_accuracy
        self._steps_per_launch = steps_per_launch
        self._status = status
        self._ends_at_bad_step = ends_at_bad_step
        self._launches = 1  # between looks, which are also the checks for an interruption
        self._steps_since_look = 0
        self._last_look: tuple[int, float] | None = None  # the step that it saw, and when
        self._sums = self._recorded_sums(backend, sums)
        self.clear()  # a run that is resumed within an epoch only restores what came before

    def _recorded_sums(self, backend: ReferenceBackend, sums: Array) -> Program:
        ops, chunk = Recorder(backend), chunk_length(self.rows)
        partials = backend.empty(-(-self.rows // chunk), np.float64)
        for place, of_rows in enumerate((self.results.losses, self.results.correct)):
            ops(chunk_sums, of_rows, partials, chunk)
            ops(total, partials, sums[place : place + 1])
        ops(chunk_sums, self.results.losses[: self._first_rows], sums[2:], self._first_rows)
        return ops.program()

    @property
    def batches(self) -> int:
        """Number of batches, including the smaller one."""
        return self.full_batches + (self._rest is not None)

    @property
    def is_plain(self) -> bool:
        """True if an epoch consists of its `programs`: it has no metrics, measures no layers, and needs no other
        rank."""
        return self._world.size == 1 and self.statistics is None and not self.metrics.vectors

    def position(self, batches_done: int) -> int:
        """Return the row of the epoch at which the next batch begins, after ``batches_done`` batches."""
        return batches_done * self._batch_size

    def values(self, sums: Sequence[float]) -> dict[str, float]:
        """Return the loss, the accuracy if there is one, and the metrics, from sums that were read to the host."""
        # If rows are left out, the rest may all have weight 0: then there is no mean.
        total_weight = self.metrics.total_weight() or math.nan
        values = {"loss": sums[0] / total_weight}
        if self._has_accuracy:
            values["accuracy"] = sums[1] / total_weight
        return values | self.metrics.read()

    def first_loss(self, sums: Sequence[float]) -> float:
        """Return the mean loss of the first rows of the epoch, from sums that were read to the host."""
        return sums[2] / self._first_rows

    def mean_loss(self, batches_done: int, batches: int) -> float:
        """Return the mean loss of the last ones of ``batches_done`` batches; the host waits for the device, and for the
        other ranks, which must all call it."""
        rows = slice(self.position(max(batches_done - batches, 0)), min(self.position(batches_done), self.rows))
        mean = float(self._status.backend.to_host(self.results.losses[rows]).mean(dtype=np.float64))
        # The results of ranks are put together after the last batch; before it each has zeros for the rows of others.
        return mean if batches_done == self.batches else math.fsum(self._world.gathered(mean))

    def merged(self, parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the `results_of` several ranks, in their order, put together."""
        rows = {name: np.sum([part[name] for part in parts], axis=0, dtype=parts[0][name].dtype) for name in _OF_ROWS}
        return rows | self.metrics.merged(parts)

    def results_of(self, batches_done: int) -> dict[str, Array]:
        """Return the results of the first ``batches_done`` batches, by name."""
        if not batches_done:
            return {}
        rows = slice(self.position(batches_done))
        correct = self.results.correct[rows]
        return dict(zip(_OF_ROWS, (self.results.losses[rows], correct), strict=True)) | self.metrics.vectors

    def run(
        self,
        allowance: Allowance = _as_many_as_there_are,
        *,
        batches_done: int = 0,
        is_measured: bool = False,
        epochs_to_come: int = 0,
    ) -> bool:
        """Run all remaining batches and the sums; return False if the epoch was ended early, also by a bad step.

        If ``is_measured``, the layers are measured in the last full batch. If epochs are to come, the first batches of
        the next one are prefetched until `close`.
        """
        if not batches_done:
            self.metrics.reset()
            self.clear()
        self._last_look = None
        self._batches.begin(epochs_to_come)
        is_finished = False
        try:
            is_finished = self._run(allowance, batches_done, self._measured if is_measured else None)
        finally:
            if not epochs_to_come or not is_finished:
                self.close()
        return is_finished

    def clear(self) -> None:
        """Clear the results if several ranks will add theirs."""
        if self._world.size > 1:
            self.metrics.clear()
            for of_rows in (self.results.losses, self.results.correct):
                self._backend.copy(self._backend.zeros(of_rows.shape, of_rows.dtype), of_rows)

    def _merge(self) -> None:
        """Put the results of all ranks together."""
        if self._world.size > 1:
            self._world.allreduce_(self.results.losses)
            if self._has_accuracy:
                self._world.allreduce_(self.results.correct)
            self.metrics.merge(self._world)

    def agree_on_bad_step(self) -> None:
        """Set the first bad step of all ranks on the clock of each."""
        if self._world.size > 1:
            self._is_bad_on_any(self._status.read().first_bad_step)

    def _is_bad_on_any(self, first: int | None) -> bool:
        """Agree on the first bad step of all ranks, ``first`` on this one, and on the number of launches before the
        next look; return True if there is a bad step."""
        steps, launches = zip(*self._world.gathered((first, self._launches)), strict=True)
        self._launches = launches[0]
        bad = min((step for step in steps if step is not None), default=None)
        if bad is not None and bad != first:
            entry = self._status.clock[FIRST_BAD_STEP : FIRST_BAD_STEP + 1]
            self._backend.copy(self._backend.from_host(np.array([bad], np.int64)), entry)
        return bad is not None

    def programs(self, *, is_measured: bool = False) -> Pass | None:
        """Begin a whole pass that the caller runs, and return it; None if only `run` can run it, because batches come
        from the host, or a layer computes there."""
        measured = self._measured if is_measured and self.full_batches else None
        unmeasured = self.full_batches - (measured is not None)
        parts = [(self._full, unmeasured), (measured, 1), (self._rest, 1), (self._sums, 1)]
        programs = [(program, times) for program, times in parts if program is not None and times]
        if not isinstance(self._batches, GatheredBatches) or any(program.ops is None for program, _ in programs):
            return None
        self.metrics.reset()
        return programs

    def break_off(self) -> None:
        """Stop waiting for batches. A signal handler may call it."""
        self._batches.break_off()

    def close(self) -> None:
        """Stop prefetching batches until the next epoch."""
        self._batches.close()

    def _run(self, allowance: Allowance, done: int, measured: Program | None) -> bool:
        unmeasured = self.full_batches - (measured is not None)
        while done < unmeasured:
            ready = self._ready(allowance, done)
            if not ready:
                return False
            together = min(self._launches * self._steps_per_launch, unmeasured - done, ready)
            if unmeasured - done <= min(2 * together, ready):  # the rest would be fewer
                together = unmeasured - done
            self._full.run(together)
            done += together
            if not self._is_well_after(together):
                return False
        if measured is not None and done < self.full_batches:
            if not self._ready(allowance, done):
                return False
            measured.run()
            done += 1
        if self._rest is not None:
            if not self._ready(allowance, done):
                return False
            self._rest.run()
        self._merge()
        self._sums.run()
        return True

    def _is_well_after(self, steps: int) -> bool:
        """Look at the status if enough steps have run since the last look; return False if a bad one ends the epoch.

        Steps between looks are as many as take `_SECONDS_BETWEEN_LOOKS`: for a small network, each return to Python
        costs a good part of a step. They are counted on the device, which may be behind.
        """
        self._steps_since_look += steps
        if self._steps_since_look < self._launches * self._steps_per_launch:
            return True
        self._steps_since_look = 0
        reading = self._status.look()
        if reading is None:
            return True
        now = time.perf_counter()
        if self._last_look is not None:
            step, then = self._last_look
            seconds_of_launch = (now - then) * self._steps_per_launch / (reading.step - step)
            worth_a_look = int(_SECONDS_BETWEEN_LOOKS / max(seconds_of_launch, 1e-9))
            self._launches = max(1, min(2 * self._launches, worth_a_look))
        self._last_look = reading.step, now
        is_bad = reading.first_bad_step is not None
        if self._world.size > 1:
            is_bad = self._is_bad_on_any(reading.first_bad_step)
        return not (is_bad and self._ends_at_bad_step)

    def _ready(self, allowance: Allowance, done: int) -> int:
        """Return how many batches may run now and are available; 0 if the epoch ends here."""
        allowed = allowance(done)
        if not allowed:
            return 0
        try:
            return min(allowed, self._batches.make_ready(done))
        except BrokenOffError:
            allowance(done)  # this saves the run
            return 0
