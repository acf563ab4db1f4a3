"""The phases of a program: its threads wait for each other only between two of them.

Handing work to another thread takes as long as a small kernel. So calls that do not depend on each other make up one
phase, and so do calls that are split by the rows of a batch, if each row depends on the same row alone: then a thread
computes all of them for some rows, from the layers' outputs to their gradients. A call may move ahead of calls that
do not touch what it touches; the results keep their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ArrayUse(NamedTuple):
    """An array that a call reads or writes, from one address to another.

    Attributes:
        begin, end: the addresses.
        is_written: True if the call writes it.
        is_by_row: True if the call, split by rows, touches only the same row of the array.
    """

    begin: int
    end: int
    is_written: bool
    is_by_row: bool

    @classmethod
    def to(cls, array: np.ndarray, *, is_written: bool, is_by_row: bool = False) -> ArrayUse:
        """The use of a contiguous array."""
        return cls(array.ctypes.data, array.ctypes.data + array.nbytes, is_written, is_by_row)

    def collides(self, other: ArrayUse) -> bool:
        """True if the order of the two uses matters."""
        return (self.is_written or other.is_written) and self.begin < other.end and other.begin < self.end

    def is_same_rows(self, other: ArrayUse) -> bool:
        """True if both touch the same rows of one array, each its own."""
        return self.is_by_row and other.is_by_row and self[:2] == other[:2]


class Footprint(NamedTuple):
    """The arrays that a call touches, and the rows that it can be split by.

    Attributes:
        uses: the arrays.
        rows: number of rows that it can be split by; 0 if it cannot.
        is_lonely: True if no other call may run at the same time.
    """

    uses: tuple[ArrayUse, ...]
    rows: int = 0
    is_lonely: bool = False

    def collides(self, other: Footprint) -> bool:
        """True if the order of the two calls matters."""
        return any(ours.collides(theirs) for ours in self.uses for theirs in other.uses)

    def can_follow_by_row(self, earlier: Footprint) -> bool:
        """True if each row of this call may be computed as soon as the same row of an earlier call."""
        return all(
            ours.is_same_rows(theirs) or not ours.collides(theirs) for ours in self.uses for theirs in earlier.uses
        )


class Phase(NamedTuple):
    """Calls, by their places in the program.

    Attributes:
        places: the calls, in the order in which they run if one thread runs all.
        rows: the rows that all of them are split by; 0 if each is split by itself.
    """

    places: list[int]
    rows: int


def phases(calls: Sequence[Footprint]) -> list[Phase]:
    """Group the calls of a program into phases, in the order in which they run."""
    found, left = [], list(range(len(calls)))
    while left:
        phase = _next_phase(calls, left)
        found.append(phase)
        left = [place for place in left if place not in phase.places]
    return found


def _next_phase(calls: Sequence[Footprint], left: Sequence[int]) -> Phase:
    """Return the first of the calls that are left, with all that may join it."""
    first = calls[left[0]]
    joined: list[int] = [left[0]]
    passed: list[int] = []
    for place in left[1:]:
        call = calls[place]
        if (
            call.rows == first.rows
            and not (call.is_lonely or first.is_lonely)
            and not any(call.collides(calls[other]) for other in passed)
            and all(_may_join(call, calls[other]) for other in joined)
        ):
            joined.append(place)
        else:
            passed.append(place)
    return Phase(joined, first.rows)


def _may_join(call: Footprint, earlier: Footprint) -> bool:
    return call.can_follow_by_row(earlier) if call.rows else not call.collides(earlier)
