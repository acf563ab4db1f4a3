"""The phases of a program: its threads wait for each other only between two of them.

Handing work to another thread takes as long as a small kernel. So calls that do not depend on each other make up one
phase, and so do calls that are split by the rows of a batch, if each row depends on the same row alone: then a thread
computes all of them for some rows, from the layers' outputs to their gradients. A call may move ahead of calls that
do not touch what it touches; the results keep their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gradflow.backends.cpu.native_call import Footprint

MOST_CALLS = 256  # of a phase: the parts of all of them are counted in 16 bits (team.c)


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
            len(joined) < MOST_CALLS
            and call.rows == first.rows
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
