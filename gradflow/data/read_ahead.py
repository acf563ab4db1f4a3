"""Prefetching: a background thread produces the next item while the current one is in use."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")

_SECONDS_FOR_THE_LAST_ITEM = 1.0
"""Time that a canceled thread has to finish its item before it is abandoned: its source may never answer."""


class BrokenOffError(Exception):
    """Raised when the consumer has stopped waiting for the next item."""


class ReadAhead(Generic[Item]):
    """Runs a generator in a thread, one item ahead: taking an item starts work on the next.

    An error in the generator is raised where its item would have been taken. At most two items exist at a time: the one
    taken last, and the next.

    Args:
        items: the generator; if it is not exhausted, it is closed in the thread.
    """

    def __init__(self, items: Generator[Item, None, None]) -> None:
        self._items = items
        self._results: SimpleQueue[tuple[Item] | BaseException] = SimpleQueue()
        self._wanted = threading.Semaphore()
        self._is_closed = False
        self._is_broken_off = False
        self._thread = threading.Thread(target=self._run, name="gradflow-read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while self._wanted.acquire() and not self._is_closed:
                self._results.put((next(self._items),))
        except BaseException as error:
            self._results.put(error)
        finally:
            self._items.close()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        try:
            result = self._results.get()
        except BaseException:  # from a signal: Ctrl-C while the source keeps its reader waiting
            self._is_broken_off = True
            raise
        if isinstance(result, BaseException):
            self._results.put(result)
            raise result
        self._wanted.release()
        return result[0]

    def break_off(self) -> None:
        """Raise BrokenOffError in the current or next wait for an item. Safe to call from a signal handler."""
        self._is_broken_off = True
        self._results.put(BrokenOffError())

    def close(self) -> None:
        """End the thread after its current item, or when that takes too long after `break_off`."""
        self._is_closed = True
        self._wanted.release()
        while self._thread.is_alive():
            self._thread.join(_SECONDS_FOR_THE_LAST_ITEM)
            if self._is_broken_off:  # possibly set during the wait
                break
