"""The contestants on a GPU, each in a process that trains one network after another, within limits of time.

One that fails is left out of the case, with the reason; one that does not answer in time is killed, and left out from
then on.
"""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, Self

from benchmarks.contestants import Entry, GpuContestant
from benchmarks.networks import Network
from benchmarks.worker import Remote, WorkerError

LOSS_STEPS = 10
_MOST_PER_CALL = 300.0
"""Seconds after which a contestant counts as hung, with any budget."""


class Deadline:
    """The end of a budget of seconds, counted from now; never without one."""

    def __init__(self, budget: float | None) -> None:
        self._end = float("inf") if budget is None else time.monotonic() + budget

    @property
    def left(self) -> float:
        """The seconds left, at least 0."""
        return max(self._end - time.monotonic(), 0.0)

    def part(self, fraction: float) -> Deadline:
        """Return the deadline when this fraction of the time that is left will have passed."""
        return Deadline(self.left * fraction)


class TrainedInTurn:
    """A contestant in its own process: trains one network after another, keeping only the current one.

    Args:
        entry: its class, which is imported now.
    """

    def __init__(self, entry: Entry) -> None:
        self._warnings: Any = warnings.catch_warnings(record=True)
        self._caught: list[warnings.WarningMessage] = self._warnings.__enter__()
        warnings.simplefilter("always")
        self._class = entry.load()
        self._contestant: Any = None
        self._steps = 0

    def losses(self, network: Network, optimizer: str) -> list[float]:
        """Prepare to train a network, and return the losses of its first steps."""
        self._contestant = None
        gc.collect()  # frees the previous network's memory on the GPU
        made: GpuContestant = self._class(network, optimizer)
        self._contestant, self._steps = made, network.steps
        return made.losses(LOSS_STEPS)

    def seconds_per_step(self, least: float) -> float:
        """Return the mean time per step over at least so many seconds, after passes that bring the clocks up."""
        began = time.perf_counter()
        while time.perf_counter() - began < least / 3:
            self._contestant.train()
        passes, seconds = 0, 0.0
        while seconds < least:
            seconds += self._contestant.device_seconds()
            passes += 1
        return seconds / passes / self._steps

    def report(self) -> dict[str, Any]:
        """Return the warnings so far, and what the contestant reports about itself."""
        own = self._contestant.report() if hasattr(self._contestant, "report") else {}
        return {"warnings": sorted({f"{one.category.__name__}: {one.message}" for one in self._caught})} | own


class Contestants:
    """The processes of all contestants, as a context.

    Args:
        entries: their classes, by name.
        deadline: when everything must have ended.

    Attributes:
        left_out: reasons, by the names of those that are not measured any more.
    """

    def __init__(self, entries: Mapping[str, Entry], deadline: Deadline) -> None:
        self._entries = dict(entries)
        self._deadline = deadline
        self._running: dict[str, Remote] = {}
        self._random = Random(0)
        self.left_out: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        for remote in self._running.values():
            remote.kill()

    def measure(self, network: Network, optimizer: str, *, rounds: int, least: float, end: Deadline) -> dict[str, Any]:
        """Return the losses, seconds per step and reports of a case: all contestants in turn in each round.

        Args:
            network: the network.
            optimizer: "sgd" or "adam".
            rounds: the most rounds; the first one is measured even if the case takes longer than it should.
            least: the seconds that each measurement takes at least.
            end: when the case should end.
        """
        failed: dict[str, str] = {}
        self._start(failed)
        losses = {}
        for name in list(self._running):
            limit = max(end.left, self._deadline.left / 4)
            with self._leaving_out(name, failed):
                losses[name] = self._call(name, limit, "losses", network, optimizer)
        seconds: dict[str, list[float]] = {name: [] for name in losses}
        for finished in range(rounds):
            if finished and not end.left:
                break
            one = self._round(list(seconds), least, failed)
            if one is None:
                break
            seconds = {name: [*seconds[name], value] for name, value in one.items()}
        seconds = {name: of_name for name, of_name in seconds.items() if of_name}
        reports = {}
        for name in seconds:
            with self._leaving_out(name, failed):
                reports[name] = self._call(name, _MOST_PER_CALL, "report")
        return {"losses": losses, "seconds_per_step": seconds, "reports": reports, "left_out": failed}

    def _start(self, failed: dict[str, str]) -> None:
        """Start the processes that do not run, all at once, so that they import their libraries at the same time."""
        names = [name for name in self._entries if name not in (*self.left_out, *self._running)]
        for name in names:
            self._running[name] = Remote(partial(TrainedInTurn, self._entries[name]))
        limit = self._deadline.part(0.5)
        for name in names:
            with self._leaving_out(name, failed):
                self._running[name].wait(min(limit.left, _MOST_PER_CALL))

    def _round(self, names: list[str], least: float, failed: dict[str, str]) -> dict[str, float] | None:
        """Measure each contestant once, in an order that changes; return None if the time is up before the end."""
        seconds = {}
        for name in self._random.sample(names, len(names)):
            if self._deadline.left < 2 * least:
                return None
            with self._leaving_out(name, failed):
                seconds[name] = self._call(name, _MOST_PER_CALL, "seconds_per_step", least)
        return seconds

    def _call(self, name: str, limit: float, method: str, *arguments: Any) -> Any:
        return self._running[name].call(method, *arguments, limit=min(limit, self._deadline.left, _MOST_PER_CALL))

    @contextmanager
    def _leaving_out(self, name: str, failed: dict[str, str]) -> Iterator[None]:
        """Leave a contestant out of a case if it fails, and out of the following ones if it was killed."""
        try:
            yield
        except (TimeoutError, WorkerError) as error:
            remote = self._running.pop(name)
            remote.kill()
            failed[name] = str(error).strip().splitlines()[-1]
            if isinstance(error, TimeoutError):
                self.left_out[name] = failed[name]
