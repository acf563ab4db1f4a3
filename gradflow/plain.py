"""Values as JSON holds them: what models, checkpoints and run folders say about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.errors import DataError

__all__ = ["plain"]


def plain(name: str, value: Any) -> Any:
    """The value with NumPy's numbers as Python's, and with lists for tuples: `json` writes it, and reads it again.

    Args:
        name: names the value in errors.
        value: numbers, strings, booleans and None, or lists and dicts of these.

    Raises:
        DataError: for anything else, naming the entry.
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
    """The key of an entry; a whole number becomes text, as in JSON."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return str(int(key))
    if not isinstance(key, str):
        raise DataError(f"{name} has the key {key!r}, of type {type(key).__name__}, which a file cannot hold. Use text")
    return key
