"""Validation of the structure of JSON read from files, before it is used."""

from __future__ import annotations

from types import NoneType
from typing import Any

from gradflow.errors import FileFormatError

_KINDS = {
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "an integer",
    str: "a string",
    NoneType: "null",
}
_LEAST, _MOST = -(2**63), 2**63 - 1


def check_shape(value: Any, shape: Any, name: str) -> None:
    """Check that a value has this shape: whoever edits a file may also supply a valid checksum.

    Args:
        value: the result of `json.loads`.
        shape: a type, or a tuple of alternative types; an integer must fit into 64 bits. ``[shape]``: a list of such
            values. ``{"a": shape}``: an object with at least these entries. ``{str: shape}``: an object all of whose
            entries have that shape.
        name: names the value in errors.

    Raises:
        FileFormatError: if an entry is missing or of another type; it names the entry.
    """
    if isinstance(shape, dict):
        _check_kind(value, (dict,), name)
        for entry in value if str in shape else shape:
            if entry not in value:
                raise FileFormatError(f"{name} has no entry {entry!r}")
            check_shape(value[entry], shape.get(str, shape.get(entry)), f"{name}.{entry}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise FileFormatError(f"{name} must be a list, but is {_shown(value)}")
        for place, item in enumerate(value):
            check_shape(item, shape[0], f"{name}[{place}]")
    else:
        _check_kind(value, shape if isinstance(shape, tuple) else (shape,), name)
        if type(value) is int and not _LEAST <= value <= _MOST:
            raise FileFormatError(f"{name} must be a 64-bit integer, but is {_shown(value)}")


def _check_kind(value: Any, kinds: tuple[type, ...], name: str) -> None:
    if type(value) not in kinds:  # exact types, since a bool is also an int
        expected = " or ".join(_KINDS[kind] for kind in kinds)
        raise FileFormatError(f"{name} must be {expected}, but is {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}..."
