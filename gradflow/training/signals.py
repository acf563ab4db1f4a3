"""Ctrl-C and SIGTERM during training: finish the current step, keep all work, then let the signal act."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Context manager that defers Ctrl-C and SIGTERM until it exits.

    The first signal sets `requested`, and acts when the context ends: Ctrl-C then raises KeyboardInterrupt, and SIGTERM
    ends the process, unless the program has its own handlers. A second signal acts at once.

    Signals that the process ignores (as background jobs of a shell ignore Ctrl-C) and signals with a handler outside
    Python are left alone. The context does nothing outside the main thread, where Python delivers no signals, or in a
    forked child.

    Attributes:
        requested: True once training must end.
        wakers: functions called when a signal arrives, to end whatever the main thread is waiting for.
    """

    def __init__(self) -> None:
        self.requested = False
        self.wakers: list[Callable[[], None]] = []
        self._received: int | None = None
        self._previous: dict[int, Any] = {}
        self._thread: int | None = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._received = number
        self._restore()
        for wake in self.wakers:
            wake()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            if signal.getsignal(number) == self._on_signal:  # a callback may have set its own handler
                signal.signal(number, handler)
        self._previous = {}

    def leave_to_the_parent(self) -> None:
        """Reset in a forked child: earlier signals were for the parent, later ones are for the child."""
        self._received = None
        self._restore()

    def __enter__(self) -> Interruption:
        self._thread = threading.get_ident()
        _active.append(self)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                previous = signal.getsignal(number)
                if previous not in (signal.SIG_IGN, None):
                    with suppress(ValueError):  # the main thread of a subinterpreter
                        signal.signal(number, self._on_signal)
                        self._previous[number] = previous
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _active.remove(self)
        self._restore()
        has_acted = self._received == signal.SIGINT and isinstance(error, KeyboardInterrupt)
        if self._received is not None and not has_acted:
            signal.raise_signal(self._received)


_active: list[Interruption] = []


def interrupt(threads: Collection[int]) -> None:
    """Request the trainings that run in other threads, given by their idents, to end."""
    for interruption in tuple(_active):  # others may begin and end meanwhile
        if interruption._thread in threads:
            interruption.requested = True
            for wake in interruption.wakers:
                wake()


def _leave_all_to_the_parent() -> None:
    for interruption in reversed(_active):  # the previous handler of an inner one is that of the outer
        interruption.leave_to_the_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_the_parent)
