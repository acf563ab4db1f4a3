"""Reading ahead: what comes next is made by a thread of its own, while the present item is in use."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["BrokenOffError", "ReadAhead"]

Item = TypeVar("Item")

_SECONDS_FOR_THE_LAST_ITEM = 1.0
"""How long a thread that was broken off may work on its item. It is left behind then: its source may never answer."""


class BrokenOffError(Exception):
    """Nobody waits for the next item any more."""


class ReadAhead(Generic[Item]):
    """Runs a generator in a thread, one item ahead: the next one is begun once the last one was taken.

    An error in the generator is raised where the item would have been taken. At most two items exist: that which was
    taken last, and the next.

    Args:
        items: the generator; it is closed, in that thread, when it is not read to its end.
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
        except BaseException:  # a signal's: Ctrl-C while the source keeps its reader waiting
            self._is_broken_off = True
            raise
        if isinstance(result, BaseException):
            self._results.put(result)
            raise result
        self._wanted.release()
        return result[0]

    def break_off(self) -> None:
        """Raise BrokenOffError where an item is waited for, or would be next. A signal handler may call it."""
        self._is_broken_off = True
        self._results.put(BrokenOffError())

    def close(self) -> None:
        """End the thread, once the item that it works on is made, or has taken too long after it was broken off."""
        self._is_closed = True
        self._wanted.release()
        while self._thread.is_alive():
            self._thread.join(_SECONDS_FOR_THE_LAST_ITEM)
            if self._is_broken_off:  # maybe while this waited
                break
