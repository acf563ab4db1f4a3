"""Watching for other work on the processors that holds training back."""

from __future__ import annotations

from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import SlowPathWarning, warn

_SHARE, _LEAST_SECONDS = 0.2, 1.0
"""A run was held back if it was for this share of its time, and took at least so many seconds."""


class OtherWork:
    """Warns, once in a process, if other work on the processors holds the backend's programs back.

    Args:
        backend: the backend that trains.
    """

    _has_warned = False

    def __init__(self, backend: ReferenceBackend) -> None:
        self._backend = backend
        self._before = backend.delays()

    def look(self) -> None:
        """Warn if programs were held back since the watch began."""
        if OtherWork._has_warned:
            return
        run, held_back = (now - before for now, before in zip(self._backend.delays(), self._before, strict=True))
        if run >= _LEAST_SECONDS and held_back >= _SHARE * run:
            OtherWork._has_warned = True
            warn(
                f"other work on the processors held training back for {held_back:.1f} of {run:.1f} s: threads had to "
                "wait for a processor, and gradflow uses fewer of them for as long as that costs more than it gains; "
                "results do not depend on it. End other programs, or run fewer trainings at once",
                SlowPathWarning,
            )
