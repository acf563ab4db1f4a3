"""Conversion to JSON types, for the descriptions in models, checkpoints and run folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.errors import DataError


def plain(name: str, value: Any) -> Any:
    """Convert NumPy scalars to Python numbers and tuples to lists, so that the value survives a JSON round trip.

    Args:
        name: names the value in errors.
        value: numbers, strings, booleans and None, or lists and dicts of these.

    Raises:
        DataError: if there is anything else; it names the entry.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(f"{name}[{place}]", entry) for place, entry in enumerate(value)]
    if isinstance(value, Mapping):
        return {_key(name, key): plain(f"{name}.{key}", entry) for key, entry in value.items()}
    raise DataError(
        f"{name} is of type {type(value).__name__}, which a file cannot hold. A config() must return numbers, strings "
        "and booleans, or lists and dicts of these"
    )


def _key(name: str, key: Any) -> str:
    """Return the key of an entry; an integer becomes a string, as in JSON."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return str(int(key))
    if not isinstance(key, str):
        raise DataError(f"{name} has the key {key!r}, of type {type(key).__name__}, which a file cannot hold. Use text")
    return key
