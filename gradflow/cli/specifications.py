"""Values of options that have parts: ``step:every=10``, ``yes=2``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradflow.errors import DataError


def name_and_settings(option: str, text: str) -> tuple[str, dict[str, Any]]:
    """Split "step:every=10,factor=0.5" into its name and its settings.

    Whole numbers become integers, other numbers floats, and anything else stays text.

    Raises:
        DataError: for a setting without a value.
    """
    name, _, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for part in rest.split(",") if rest else []:
        key, sign, value = part.partition("=")
        if not (key.strip() and sign):
            raise DataError(f"{option} must be a name, or have settings as in name:setting=value,..., got {text!r}")
        settings[key.strip()] = _number_or_text(value.strip())
    return name.strip(), settings


def numbers_by_name(option: str, texts: Sequence[str], example: str) -> dict[str, float]:
    """Return the numbers of texts such as "yes=2" by name; names may contain "=".

    Raises:
        DataError: for texts without a number.
    """
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        number = _number_or_text(value)
        if not name or isinstance(number, str):
            raise DataError(f"{option} must be such as {example}, got {text!r}")
        found[name] = number
    return found


def _number_or_text(value: str) -> Any:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value
