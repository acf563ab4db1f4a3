"""The run state on the device: the clock and the sums of an epoch, which the host reads in one copy."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from gradflow.backends.reference import Looks, ReferenceBackend
from gradflow.ops import CLOCK_ENTRIES, NEVER, POSITION, STEP, Array, op


class StatusReading(NamedTuple):
    """A host copy of the clock entries (kernels/clock.h), with None for no bad step, and of the sums.

    A step that made a weight NaN or infinite is the one before ``first_bad_step``.
    """

    step: int
    epoch: int
    position: int
    first_bad_step: int | None
    training: tuple[float, ...]
    validation: tuple[float, ...]

    @property
    def epochs_begun(self) -> int:
        """Number of epochs of the network that have begun, this one included unless it is at its first step."""
        return self.epoch + (self.position > 0)


class RunStatus:
    """Ten 64-bit words on the device.

    Attributes:
        backend: the backend.
        words: all of them, int64 (10,).
        clock: int64 (4,): step, epoch, position, first_bad_step.
        training: float64 (3,): the sums of the losses and of the correct predictions over the rows of a training epoch,
            and of the losses of its first rows.
        validation: the same over the validation data.

    Args:
        backend: the backend.
        epoch: the epoch with which the clock begins.
    """

    def __init__(self, backend: ReferenceBackend, *, epoch: int = 0) -> None:
        self.backend = backend
        self.words = backend.zeros(len(CLOCK_ENTRIES) + 6, np.int64)
        self.clock: Array = self.words[: len(CLOCK_ENTRIES)]
        sums = self.words[len(CLOCK_ENTRIES) :].view(np.float64)
        self.training: Array = sums[:3]
        self.validation: Array = sums[3:]
        self.begin(epoch=epoch)

    def begin(self, *, epoch: int, position: int = 0, step: int = 1) -> None:
        """Set the clock to a position and step of an epoch, by default the first."""
        clock = np.array([step, epoch, position, NEVER], np.int64)
        self.backend.copy(self.backend.from_host(clock), self.clock)

    def read(self) -> StatusReading:
        """Wait for the device, and read the clock and the sums."""
        return readings_of(self.backend.to_host(self.words)[None])[0]

    def look(self) -> StatusReading | None:
        """Read the clock and the sums without waiting for the work enqueued so far (`backends.reference.Looks`)."""
        words = self._looks.take()
        return None if words is None else readings_of(words[None])[0]

    @cached_property
    def _looks(self) -> Looks:
        return self.backend.looks(self.words)


def readings_of(words: np.ndarray) -> list[StatusReading]:
    """Return the readings of host copies of the words of a status, (n, 10)."""
    clocks, sums = words[:, : len(CLOCK_ENTRIES)].tolist(), words[:, len(CLOCK_ENTRIES) :].view(np.float64).tolist()
    return [
        StatusReading(step, epoch, position, None if bad_step == NEVER else bad_step, tuple(of[:3]), tuple(of[3:]))
        for (step, epoch, position, bad_step), of in zip(clocks, sums, strict=True)
    ]


@op(shapes="clock: 4", writes=("clock",), sizes=lambda arguments: {})
def advance(clock: Array, batch_size: int, epoch_rows: int) -> None:
    """step += 1, position += batch_size; after the last row of the epoch: position = 0, epoch += 1"""
    step, epoch, position, _ = clock
    ended = position + batch_size >= epoch_rows
    clock[:3] = step + 1, epoch + ended, 0 if ended else position + batch_size


@op(
    shapes="clock: 4; table: steps entries; values: *any",
    writes=("clock", "values"),
    sizes=lambda arguments: {"steps": len(arguments["table"]), "entries": arguments["table"].shape[1]},
)
def advance_scheduled(clock: Array, table: Array, values: Array, batch_size: int, epoch_rows: int) -> None:
    """The same, and values_k = table_sk for the next step s, counted from 0 within the epoch, and each entry k of it"""
    values[: table.shape[1]] = table[clock[STEP] % len(table)]
    advance.reference(clock, batch_size, epoch_rows)


@op(shapes="clock: 4", writes=("clock",), sizes=lambda arguments: {})
def advance_part(clock: Array, part_rows: int) -> None:
    """position += part_rows: the next part of the same step's batch"""
    clock[POSITION] += part_rows
