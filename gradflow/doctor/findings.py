"""The findings of a check-up: checks that passed or failed, and measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One comparison. ``problem`` is None if it passed."""

    group: str
    name: str
    problem: str | None = None


@dataclass(frozen=True)
class Measurement:
    """A measured value with its unit and an optional reference value, with the meaning of the reference."""

    group: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_is: str = ""


def checked(group: str, name: str, compare: Callable[[], object]) -> Check:
    """Run ``compare`` as a check: it passes if nothing is raised; otherwise the error is the problem."""
    try:
        compare()
    except Exception as error:  # a faulty device can raise anything
        return Check(group, name, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Check(group, name)
