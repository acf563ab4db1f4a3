"""Ctrl-C and SIGTERM during training: the step that runs is finished, then the loop ends, and all work is kept."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruption"]


class Interruption:
    """A context in which the first signal sets `requested`; a second one does at once what it did before.

    A signal that the process ignores, as a shell's background jobs do Ctrl-C, stays ignored.
    SIGTERM wants the process to end: `deliver` sends it again once all work is kept. Outside the main thread, where
    Python delivers no signals, it does nothing.

    Attributes:
        requested: whether training is to end.
    """

    def __init__(self) -> None:
        self.requested = False
        self._terminated = False
        self._former: dict[int, Any] = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._terminated |= number == signal.SIGTERM
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former = {}

    def deliver(self) -> None:
        """Send the SIGTERM that came, if one did, to whom it would have reached without this context."""
        if self._terminated:
            signal.raise_signal(signal.SIGTERM)

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._former[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
