"""Numbers in text files as other countries write them: "1,5", "1.234,50" or "1,234.50"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gradflow.errors import DataError, shown

_THOUSANDS = (",", ".", " ", "'", "’", "\u00a0", "\u202f")
_SEPARATORS = re.compile("[" + re.escape("".join(_THOUSANDS)) + "]")


@dataclass(frozen=True)
class NumberFormat:
    """The characters in the numbers of a text file.

    Attributes:
        decimal: the decimal point, "." or ",".
        thousands: the character between groups of three digits; None if there is none.

    Raises:
        DataError: for other characters, or the same one twice.
    """

    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        if not _is_one_of(self.decimal, (".", ",")):
            raise DataError(f"decimal must be '.' or ',', got {shown(self.decimal)}")
        if self.thousands is not None and not _is_one_of(self.thousands, _THOUSANDS):
            raise DataError(f"thousands must be ',', '.', a space or an apostrophe, got {shown(self.thousands)}")
        if self.decimal == self.thousands:
            raise DataError(f"decimal and thousands must be different characters, but both are {self.decimal!r}")

    @property
    def is_plain(self) -> bool:
        """True if Python writes numbers in the same way."""
        return self.decimal == "." and self.thousands is None

    def plain(self, text: str) -> str:
        """Return a number as Python writes it; a text with other separators becomes one that is no number."""
        if self.is_plain or not _SEPARATORS.search(text.strip()):
            return text
        groups = rf"\d{{1,3}}({re.escape(self.thousands)}\d{{3}})+|" if self.thousands else ""
        pattern = rf"[+-]?({groups}\d*)({re.escape(self.decimal)}\d*)?([eE][+-]?\d+)?"
        if not re.fullmatch(pattern, text.strip()):
            return "no number"
        return text.replace(self.thousands or "", "").replace(self.decimal, ".")


def _is_one_of(value: Any, characters: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in characters
