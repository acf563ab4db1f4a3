"""Callbacks of a pack: those of all members are called one at a time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from gradflow.checks import instances
from gradflow.errors import DataError
from gradflow.training.progress.callbacks import Callback, Looker, step_interval
from gradflow.training.progress.display import progress_callback
from gradflow.training.progress.history import History

_MEANS_PER_EPOCH = 8
"""The most means of the members' values that are taken while each member trains for an epoch: for a thousand members
they take longer than an epoch of a small one."""


class Turns:
    """Calls the callbacks of all members, and the display of their progress, one at a time.

    Args:
        callbacks: those of each member.
        progress: as for `Trainer.fit`; the display counts the epochs of all members, and shows the means of their
            latest values.

    Raises:
        DataError: if members share a callback that is for one run only.
    """

    def __init__(self, callbacks: Sequence[Any], progress: bool | str) -> None:
        of_members = [instances("callbacks", each, Callback, "gradflow.Callback objects") for each in callbacks]
        _refuse_shared(of_members)
        self._callbacks = of_members
        self._between_means = max(1, len(of_members) // _MEANS_PER_EPOCH)
        self._displays = progress_callback(progress, len(of_members))
        self._lock = threading.RLock()
        self._epochs: dict[int, int] = {}  # that are done, by member
        self._values: dict[int, Mapping[str, float]] = {}  # of the latest epoch, by member
        self._means: dict[str, float] = {}  # of the values that all members have, of those that have begun

    def of_member(self, place: int) -> list[Callback]:
        """Return the callbacks that stand for those of a member."""
        turns = [_Turn(callback._of_member(place), self._lock) for callback in self._callbacks[place]]
        return [*turns, _Turn(_Counter(partial(self._count, place)), self._lock)]

    def begin(self, epochs: int) -> None:
        self._all_epochs = epochs
        for display in self._displays:
            display.on_fit_begin(None, epochs)

    def end(self) -> None:
        for display in self._displays:
            display.on_fit_end(None, History())

    def _count(self, place: int, epochs: int, values: Mapping[str, float]) -> None:
        if self._epochs.get(place) == epochs:
            return
        self._epochs[place], self._values[place] = epochs, values
        done = sum(self._epochs.values())
        for display in self._displays:
            if not self._means or done == self._all_epochs or done % self._between_means == 0:
                first, *others = self._values.values()
                shared = [name for name in first if all(name in each for each in others)]
                self._means = {name: fmean(each[name] for each in self._values.values()) for name in shared}
            display.on_epoch_end(None, done, self._means)


def _refuse_shared(of_members: Sequence[Sequence[Callback]]) -> None:
    """Refuse a callback of several members that is for one run only: which of them run at once is chance."""
    first: dict[int, int] = {}
    for place, callbacks in enumerate(of_members):
        for callback in callbacks:
            if callback.one_run_only and first.setdefault(id(callback), place) != place:
                raise DataError(
                    f"callbacks: members {first[id(callback)]} and {place} share a {type(callback).__name__}, which "
                    "keeps to one run; give each member its own: gradflow.Each([[...], [...]])"
                )


class _Counter(Looker):
    """Counts the epochs of a member."""

    def __init__(self, count: Callable[[int, Mapping[str, float]], None]) -> None:
        self._count = count

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        self._count(epoch, dict(values))

    def _epochs_at_once(self) -> int:
        return sys.maxsize

    def on_fit_end(self, trainer: Any, history: History) -> None:
        if history.epochs:  # of a resumed member that was done too
            self._count(history.epochs, {name: history[name][-1] for name in history})


class _Turn(Callback):
    """Calls a callback while no other one is called."""

    def __init__(self, callback: Callback, lock: threading.RLock) -> None:
        self.turn_of = callback
        self._lock = lock
        self.every_steps = step_interval(callback)

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        with self._lock:
            self.turn_of.on_fit_begin(trainer, epochs)

    def on_step_end(self, trainer: Any, step: int, loss: float) -> None:
        with self._lock:
            self.turn_of.on_step_end(trainer, step, loss)

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> Mapping[str, float] | None:
        with self._lock:
            return self.turn_of.on_epoch_end(trainer, epoch, values)

    def _epochs_at_once(self) -> int:
        return self.turn_of._epochs_at_once()

    def on_fit_end(self, trainer: Any, history: History) -> None:
        with self._lock:
            self.turn_of.on_fit_end(trainer, history)
