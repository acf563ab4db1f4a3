"""What a check-up finds: checks that passed or did not, and measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Check", "Measurement", "checked"]


@dataclass(frozen=True)
class Check:
    """One comparison. ``problem`` is None where all was as it should be."""

    group: str
    name: str
    problem: str | None = None


@dataclass(frozen=True)
class Measurement:
    """One number, with its unit and, where there is one, the figure to hold against it and what that figure is."""

    group: str
    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_is: str = ""


def checked(group: str, name: str, compare: Callable[[], object]) -> Check:
    """The check that ``compare`` raises nothing: whatever it raises is what was found."""
    try:
        compare()
    except Exception as error:  # a device that is not sound can raise anything
        return Check(group, name, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Check(group, name)
