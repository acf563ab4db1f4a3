"""Retreat from a fast way of computing to a plain one: once, for good, and never in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradflow.backends.reference import BoundCall
from gradflow.errors import SlowPathWarning, warn

__all__ = ["FastPath"]


class FastPath:
    """A faster way of computing, which is given up where it fails.

    Args:
        name: what it is.
        cost: what it costs to do without it: the end of a sentence.
        must_raise: tells that a failure is not its own, but belongs to somebody who has to learn of it.
    """

    def __init__(self, name: str, cost: str, must_raise: Callable[[], bool] = lambda: False) -> None:
        self._name = name
        self._cost = cost
        self._must_raise = must_raise
        self.is_open = True

    def give_up(self, cause: Exception) -> None:
        """Take the plain way from now on, and say why."""
        if self.is_open:
            self.is_open = False
            message = f"{self._name} cannot be used ({type(cause).__name__}: {cause}): {self._cost}"
            warn(message, SlowPathWarning)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Take the plain way for a while, as a comparison does, without a word."""
        was_open, self.is_open = self.is_open, False
        try:
            yield
        finally:
            self.is_open = was_open

    def or_else(self, fast: BoundCall, plain: Callable[[], BoundCall]) -> BoundCall:
        """The fast call for as long as the path is open, then what ``plain`` makes, when it is first needed."""
        instead: list[BoundCall] = []

        def run() -> None:
            if self.is_open:
                try:
                    fast()
                    return
                except Exception as error:
                    if self._must_raise():
                        raise
                    self.give_up(error)
            if not instead:
                instead.append(plain())
            instead[0]()

        return run
