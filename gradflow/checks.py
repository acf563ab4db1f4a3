"""Validation of user arguments: each function returns the value, or raises a DataError that names the argument."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeGuard, TypeVar

import numpy as np

from gradflow.errors import DataError, shown, unknown_name

_T = TypeVar("_T")
_FUNCTIONS = FunctionType, MethodType, BuiltinFunctionType, partial


def boolean(name: str, value: Any) -> bool:
    """Check for True or False; truthy values such as "no" are rejected."""
    if not isinstance(value, bool | np.bool_):
        raise DataError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def text(name: str, value: Any) -> str:
    """Check for a string."""
    if not isinstance(value, str):
        raise DataError(f"{name} must be a string, got {shown(value)}")
    return value


def known_name(kind: str, value: Any, valid: Iterable[str]) -> str:
    """Check for one of the valid names."""
    if not isinstance(value, str):
        raise DataError(f"{kind} must be a name, got {shown(value)}. Valid names: {', '.join(sorted(valid))}")
    if value not in valid:
        raise unknown_name(kind, value, valid)
    return value


def instance(name: str, value: Any, kind: type[_T], what: str) -> _T:
    """Check for an instance of a class; ``what`` describes it in errors, such as "a gradflow network"."""
    if not isinstance(value, kind):
        raise DataError(f"{name} must be {what}, got {_object(value, kind)}")
    return value


def object_or_name(kind: str, value: Any, of: type[_T], names: Iterable[str]) -> _T | str:
    """Check for an instance of a class, or one of the names that stand for one."""
    if isinstance(value, of):
        return value
    if not isinstance(value, str):
        raise DataError(f"{kind} must be a name or a gradflow {of.__name__}, got {_object(value, of)}")
    return known_name(kind, value, names)


def instances(name: str, values: Any, kind: type[_T], what: str) -> list[_T]:
    """Check for a list of instances of a class; ``what`` describes them in errors, such as "gradflow layers"."""
    found = sequence(name, values, f"a list of {what}")
    for value in found:
        if not isinstance(value, kind):
            raise DataError(f"{name} must be a list of {what}, but it holds {_object(value, kind)}")
    return found


def _object(value: Any, kind: type[Any]) -> str:
    """Describe a value that is not an instance of the class; if it is the class itself, add what to do."""
    if isinstance(value, type):
        remedy = f"; create an object: {value.__name__}(...)" if issubclass(value, kind) else ""
        return f"the class {value.__name__}{remedy}"
    return f"{shown(value)} of type {type(value).__name__}"


def sequence(name: str, values: Any, what: str) -> list[Any]:
    """Return the items of a list, tuple, array or iterator; strings, sets and dicts are rejected."""
    is_list = isinstance(values, Sequence | np.ndarray) or hasattr(values, "__next__")
    if not is_list or isinstance(values, str | bytes | Mapping) or getattr(values, "ndim", 1) == 0:
        raise DataError(f"{name} must be {what}, got {shown(values)}")
    return list(values)


def function(name: str, value: Any, what: str) -> Callable[..., Any]:
    """Check for a function or another callable; classes are rejected."""
    if isinstance(value, type) or not callable(value):
        raise DataError(f"{name} must be {what}, got {shown(value)}")
    return value  # type: ignore[no-any-return]


def is_function(value: Any) -> TypeGuard[Callable[..., Any]]:
    """True for a function or method, also of C, and for a `functools.partial`; False for other callable objects."""
    return isinstance(value, _FUNCTIONS)


def file_path(name: str, value: Any) -> Path:
    """Check for the path of a file or folder, and return it as a `Path`."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise DataError(f"{name} must be a path, as a string or a pathlib.Path, got {shown(value)}")
    if not os.fspath(value) or "\0" in os.fspath(value):
        raise DataError(f"{name} must name a file or a folder, got {shown(value)}")
    return Path(value)


def _number(name: str, value: Any, condition: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise DataError(f"{name} must be a {condition}, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise DataError(f"{name} must be a {condition}, got {shown(value)}")
    return number


def positive(name: str, value: Any) -> float:
    """Check for a finite number above 0."""
    number = _number(name, value, "finite number above 0")
    if number <= 0:
        raise DataError(f"{name} must be above 0, got {value!r}")
    return number


def finite_number(name: str, value: Any) -> float:
    """Check for a finite number."""
    return _number(name, value, "finite number")


def any_number(name: str, value: Any) -> float:
    """Check for a number, which may be NaN or infinite, or an array of one element."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} must be a number, got {shown(value)}") from error


def non_negative(name: str, value: Any) -> float:
    """Check for a finite number that is at least 0."""
    number = _number(name, value, "finite number, at least 0")
    if number < 0:
        raise DataError(f"{name} must be at least 0, got {value!r}")
    return number


def fraction(name: str, value: Any) -> float:
    """Check for a number that is at least 0 and below 1."""
    number = _number(name, value, "number, at least 0 and below 1")
    if not 0 <= number < 1:
        raise DataError(f"{name} must be at least 0 and below 1, got {value!r}")
    return number


def positive_fraction(name: str, value: Any) -> float:
    """Check for a number above 0 and below 1."""
    number = _number(name, value, "number above 0 and below 1")
    if not 0 < number < 1:
        raise DataError(f"{name} must be above 0 and below 1, got {value!r}")
    return number


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise DataError(f"{name} must be an integer, got {shown(value)}")
    return int(value)


def integer(name: str, value: Any, *, least: int, most: int) -> int:
    """Check for an integer between two bounds, inclusive."""
    number = _integer(name, value)
    if not least <= number <= most:
        raise DataError(f"{name} must be between {least} and {most}, got {shown(value)}")
    return number


def positive_integer(name: str, value: Any) -> int:
    """Check for an integer from 1 to 2**63 - 1."""
    number = _integer(name, value)
    if number < 1:
        raise DataError(f"{name} must be at least 1, got {value!r}")
    if number >= 2**63:
        raise DataError(f"{name} must be below 2**63, got {shown(value)}")
    return number


def positive_share(name: str, value: Any) -> float:
    """Check for a number above 0 and at most 1."""
    number = _number(name, value, "number above 0, at most 1")
    if not 0 < number <= 1:
        raise DataError(f"{name} must be above 0 and at most 1, got {value!r}")
    return number
