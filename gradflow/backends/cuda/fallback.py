"""Fallback from a fast implementation to a plain one: permanently, and never silently."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import cupy

from gradflow.backends.reference import BoundCall
from gradflow.errors import SlowPathWarning, warn


class FastPath:
    """A fast implementation that is abandoned when it fails.

    Args:
        name: its name in the warning.
        cost: the cost of the fallback: the end of the warning.
    """

    def __init__(self, name: str, cost: str) -> None:
        self._name = name
        self._cost = cost
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


class FallbackCall:
    """A call that other calls replace once it fails.

    Args:
        path: the fast path that it belongs to: while that is closed, it is replaced too.
        fast: the call.
        plain: returns the calls that replace it.
        on_failure: is told the error of a failure.
        source: the call whose results it reads, if the replacement of that does not write them.

    Attributes:
        is_capturable: False once it failed while a CUDA graph was captured; it may still run by itself.
    """

    def __init__(
        self,
        path: FastPath,
        fast: BoundCall,
        plain: Callable[[], list[BoundCall]],
        on_failure: Callable[[Exception], None],
        source: FallbackCall | None = None,
    ) -> None:
        self._path = path
        self._fast = fast
        self._plain = plain
        self._on_failure = on_failure
        self._source = source
        self._has_failed = False
        self._instead: list[BoundCall] | None = None
        self.is_capturable = True

    @property
    def is_replaced(self) -> bool:
        """True if other calls do its work."""
        is_without_source = self._source is not None and self._source.is_replaced
        return self._has_failed or not self._path.is_open or is_without_source

    @property
    def replacement(self) -> list[BoundCall]:
        """The calls that do its work once it is replaced."""
        if self._instead is None:
            self._instead = self._plain()
        return self._instead

    def __call__(self) -> None:
        if not self.is_replaced:
            try:
                self._fast()
                return
            except Exception as error:  # a broken installation can raise anything
                if cupy.cuda.get_current_stream().is_capturing():
                    self.is_capturable = False
                    raise
                self._has_failed = True
                self._on_failure(error)
        for call in self.replacement:
            call()


def expanded(calls: Iterable[BoundCall]) -> list[BoundCall]:
    """Return the calls with those in place that replace others now."""
    result: list[BoundCall] = []
    for call in calls:
        if isinstance(call, FallbackCall) and call.is_replaced:
            result.extend(expanded(call.replacement))
        else:
            result.append(call)
    return result
