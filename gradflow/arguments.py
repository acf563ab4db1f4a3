"""Checks of the numbers that users pass: each returns the value, or raises a DataError that names it."""

from __future__ import annotations

import math
import numbers
from typing import Any

from gradflow.errors import DataError

__all__ = ["fraction", "integer", "non_negative", "positive", "positive_integer"]


def _number(name: str, value: Any, condition: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise DataError(f"{name} must be a {condition}, got {value!r}")
    return float(value)


def positive(name: str, value: Any) -> float:
    """A finite number above 0."""
    number = _number(name, value, "finite number above 0")
    if number <= 0:
        raise DataError(f"{name} must be above 0, got {value!r}")
    return number


def non_negative(name: str, value: Any) -> float:
    """A finite number, at least 0."""
    number = _number(name, value, "finite number, at least 0")
    if number < 0:
        raise DataError(f"{name} must be at least 0, got {value!r}")
    return number


def fraction(name: str, value: Any) -> float:
    """A number, at least 0 and below 1."""
    number = _number(name, value, "number, at least 0 and below 1")
    if not 0 <= number < 1:
        raise DataError(f"{name} must be at least 0 and below 1, got {value!r}")
    return number


def positive_fraction(name: str, value: Any) -> float:
    """A number above 0 and below 1."""
    number = _number(name, value, "number above 0 and below 1")
    if not 0 < number < 1:
        raise DataError(f"{name} must be above 0 and below 1, got {value!r}")
    return number


def integer(name: str, value: Any, *, least: int, most: int) -> int:
    """An integer between two bounds, these included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DataError(f"{name} must be an integer, got {value!r}")
    if not least <= int(value) <= most:
        raise DataError(f"{name} must be between {least} and {most}, got {value!r}")
    return int(value)


def positive_integer(name: str, value: Any) -> int:
    """An integer, at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DataError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise DataError(f"{name} must be at least 1, got {value!r}")
    return int(value)


def positive_share(name: str, value: Any) -> float:
    """A number above 0, at most 1."""
    number = _number(name, value, "number above 0, at most 1")
    if not 0 < number <= 1:
        raise DataError(f"{name} must be above 0 and at most 1, got {value!r}")
    return number
