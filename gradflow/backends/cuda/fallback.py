"""Fallback from a fast implementation to a plain one: once, permanently, and never silently."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradflow.backends.reference import BoundCall
from gradflow.errors import SlowPathWarning, warn


class FastPath:
    """A fast implementation that is abandoned when it fails.

    Args:
        name: its name in the warning.
        cost: the cost of the fallback: the end of the warning.
        must_raise: returns True if the error must propagate to the caller.
    """

    def __init__(self, name: str, cost: str, must_raise: Callable[[], bool] = lambda: False) -> None:
        self._name = name
        self._cost = cost
        self._must_raise = must_raise
        self.is_open = True

    def give_up(self, cause: Exception) -> None:
        """Fall back from now on, with a warning that gives the cause."""
        if self.is_open:
            self.is_open = False
            message = f"{self._name} cannot be used ({type(cause).__name__}: {cause}): {self._cost}"
            warn(message, SlowPathWarning)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Fall back temporarily and silently, for a comparison."""
        was_open, self.is_open = self.is_open, False
        try:
            yield
        finally:
            self.is_open = was_open

    def or_else(self, fast: BoundCall, plain: Callable[[], BoundCall]) -> BoundCall:
        """Return a call that runs ``fast`` while the path is open, then the result of ``plain``, built on first use."""
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
