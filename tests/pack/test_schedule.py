"""The order in which members begin keeps many processors busy until the end: simulated, without a clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest

from gradflow.pack.members import Crew, Member, train_to_the_end


class SimulatedMember:
    """A member whose training takes as long as its work."""

    def __init__(self, work: float, clock: SimulatedCrew) -> None:
        self.work, self._clock = work, clock

    def finish(self) -> None:
        self._clock.worked(self.work)


class SimulatedCrew:
    """Threads that take the next piece of work as soon as they are free.

    Attributes:
        end: the time at which the last one is done.
    """

    def __init__(self, threads: int) -> None:
        self._free_at = [0.0] * threads
        self.end = 0.0

    def do(self, work: Sequence[Callable[[], object]]) -> None:
        for piece in work:
            piece()

    def worked(self, seconds: float) -> None:
        end = heapq.heappop(self._free_at) + seconds
        heapq.heappush(self._free_at, end)
        self.end = max(self.end, end)


@pytest.mark.parametrize("threads", [2, 8, 64])
@pytest.mark.parametrize("kind", ["equal", "epochs", "sizes"])
def test_processors_are_busy_until_the_end(kind: str, threads: int) -> None:
    random = np.random.default_rng(threads)
    members = 8 * threads
    work = {
        "equal": np.ones(members),
        "epochs": random.integers(1, 100, members).astype(float),
        "sizes": 10 ** random.uniform(0, 2, members),
    }[kind]
    crew = SimulatedCrew(threads)
    simulated: list[Any] = [SimulatedMember(float(each), crew) for each in random.permutation(work)]
    train_to_the_end(cast(list[Member], simulated), cast(Crew, crew))
    assert work.sum() / threads / crew.end > 0.9
