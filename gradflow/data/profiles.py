"""`profile`: the facts about the columns of a file that decide how to train on it, gathered in one pass."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradflow.checks import instance
from gradflow.data.classes import ClassName
from gradflow.data.dates import as_datetime
from gradflow.data.sources import Source
from gradflow.data.table import Table, is_number
from gradflow.data.where import Where
from gradflow.errors import DataError

MOST_DISTINCT = 100_000
"""Different values to tell apart in a column; the hashes of these take some megabytes."""
MOST_COUNTED = 1000
"""Different values to count."""

Kind = Literal["numbers", "text", "times"]
_DECIMAL_COMMA = re.compile(r"\s*[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+\s*")
_COMMA_GROUPS = re.compile(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d+)?\s*")
_OTHER_DATE = re.compile(r"\s*\d{1,2}([./-])\d{1,2}\1(\d{4}|\d{2})\s*")
_WITH_SIGN = re.compile(r"\s*([$€£¥]\s*[+-]?[\d.,]+|[+-]?[\d.,]+\s*[$€£¥%])\s*")


@dataclass(frozen=True)
class ColumnProfile:
    """Facts about a column.

    Attributes:
        name: its name.
        kind: "numbers"; "times", for timestamps and text of them in ISO 8601; or else "text".
        rows, missing: the number of rows, and of those without a value.
        first_missing: the place of the first missing value, such as "line 7"; "" if there is none.
        distinct: the number of different values; None if there are more than 100,000, or, of numbers that are not all
            different whole numbers, 1000.
        are_different: True if no value was found twice, among the first 100,000.
        counts: the number of rows with each value, sorted by value, unless there are more than 1000 values.
        are_whole: True if all are whole numbers, or booleans.
        are_booleans: True if the column has a type for True and False.
        count_up: True if each number is the previous one plus 1, as in numbers of rows.
        numbers_in_text: the number of values of a text column that are numbers.
        decimal_commas: the number of values of a text column such as "1,5" or "1.234,50".
        comma_groups: the number of values of a text column such as "1,234" or "1,234.50".
        other_dates: the number of values of a text column such as "31.12.2024" or "12/31/24", which are not understood.
        with_signs: the number of values of a text column such as "12 %" or "$5".
        is_category: True if the file declares categories.
    """

    name: str
    kind: Kind
    rows: int
    missing: int
    first_missing: str
    distinct: int | None
    are_different: bool
    counts: dict[ClassName, int] | None
    are_whole: bool
    are_booleans: bool
    count_up: bool
    numbers_in_text: int
    decimal_commas: int
    comma_groups: int
    other_dates: int
    with_signs: int
    is_category: bool

    @property
    def present(self) -> int:
        """The number of rows with a value."""
        return self.rows - self.missing

    @property
    def is_mostly_distinct(self) -> bool:
        """True if most rows have a value of their own, as in names."""
        return self.distinct is None or (self.distinct > 20 and self.distinct > self.present / 2)


def profile(source: Source) -> dict[str, ColumnProfile]:
    """Return facts about all inputs of a source by name, in one pass; memory does not grow with the rows.

    Args:
        source: a file or another source of named columns; open it with ``target=None`` to include the target.

    Raises:
        DataError: if the source gives arrays, or a file is damaged.
    """
    instance("source", source, Source, "a source, such as gradflow.data.CSV")
    columns: dict[str, _Facts] = {}
    for block in source.blocks():
        if not isinstance(block.x, Table):
            raise DataError("a profile needs columns with names; this source gives arrays")
        for name, values in zip(block.x.names, block.x.columns, strict=True):
            facts = columns.setdefault(name, _Facts(name, name in block.x.categories))
            facts.update(values, block.where)
    return {name: facts.result() for name, facts in columns.items()}


class _Facts:
    """Facts about the rows of a column so far."""

    def __init__(self, name: str, is_category: bool) -> None:
        self._name, self._is_category = name, is_category
        self._rows, self._missing, self._first_missing = 0, 0, ""
        self._hashes: set[int] | None = set()
        self._counts: Counter[ClassName] | None = Counter()
        self._numbers = self._text = self._times = 0
        self._are_whole = self._are_booleans = self._count_up = self._are_different = True
        self._texts_are_times = True
        self._last: float | None = None
        self._numbers_in_text = self._decimal_commas = self._comma_groups = 0
        self._with_signs = self._other_dates = 0

    def update(self, values: np.ndarray, where: Where) -> None:
        is_missing = _is_missing(values)
        if not self._missing and is_missing.any():
            self._first_missing = where.row(int(np.argmax(is_missing)))
        self._rows += len(values)
        self._missing += int(is_missing.sum())
        present = values[~is_missing]
        if not len(present):
            return
        self._are_booleans &= values.dtype.kind == "b"
        if values.dtype.kind in "fiub":
            self._add_numbers(present)
        elif values.dtype.kind in "mM":
            self._times += len(present)
            self._count_up = False
        else:
            self._add_text(present)

    def _add_numbers(self, present: np.ndarray) -> None:
        self._numbers += len(present)
        if self._are_whole and present.dtype.kind == "f":
            self._are_whole = bool((np.trunc(present) == present).all())
        if self._count_up and present.dtype.kind != "b":
            joined = present if self._last is None else np.concatenate([[self._last], present])
            self._count_up = bool((np.diff(joined) == 1).all())
            self._last = float(present[-1])
        if self._hashes is not None:
            distinct, counts = np.unique(present, return_counts=True)
            self._add_distinct(zip(distinct.tolist(), counts.tolist(), strict=True))

    def _add_text(self, present: np.ndarray) -> None:
        self._text += len(present)
        self._count_up = False
        counts = Counter(present.tolist())
        for value, count in counts.items():
            text = str(value)
            if self._texts_are_times and not _is_time(value):
                self._texts_are_times = False
            self._numbers_in_text += count if is_number(text) else 0
            self._decimal_commas += count if _DECIMAL_COMMA.fullmatch(text) else 0
            self._comma_groups += count if _COMMA_GROUPS.fullmatch(text) else 0
            self._other_dates += count if _OTHER_DATE.fullmatch(text) else 0
            self._with_signs += count if _WITH_SIGN.fullmatch(text) else 0
        if self._hashes is not None:
            self._add_distinct((str(value), count) for value, count in counts.items())

    def _add_distinct(self, counted: Iterable[tuple[Any, int]]) -> None:
        assert self._hashes is not None
        for value, count in counted:
            self._hashes.add(hash(value))
            if self._counts is not None:
                self._counts[value] += count
        if self._counts is not None and len(self._counts) > MOST_COUNTED:
            self._counts = None
        self._are_different &= len(self._hashes) == self._numbers + self._text
        # Most tables have many columns of numbers, whose values tell nothing.
        may_identify = self._are_whole and self._are_different
        is_text = self._text > 0 or self._is_category
        if len(self._hashes) > (MOST_DISTINCT if is_text or may_identify else MOST_COUNTED):
            self._hashes = None

    def result(self) -> ColumnProfile:
        """Return the facts."""
        kind: Kind = "numbers"
        if self._times or self._text:
            kind = "times" if self._times or (self._texts_are_times and not self._numbers) else "text"
        is_numeric = kind == "numbers" and self._numbers > 0
        counts = None
        if self._counts is not None and kind != "times":
            counts = {_plain(value, is_numeric and self._are_whole): n for value, n in sorted(self._counts.items())}
        return ColumnProfile(
            name=self._name,
            kind=kind,
            rows=self._rows,
            missing=self._missing,
            first_missing=self._first_missing,
            distinct=None if self._hashes is None else len(self._hashes),
            are_different=self._are_different,
            counts=counts,
            are_whole=is_numeric and self._are_whole,
            are_booleans=is_numeric and self._are_booleans,
            count_up=is_numeric and self._count_up and self._numbers > 2,
            numbers_in_text=self._numbers_in_text,
            decimal_commas=self._decimal_commas,
            comma_groups=self._comma_groups,
            other_dates=self._other_dates,
            with_signs=self._with_signs,
            is_category=self._is_category,
        )


def _plain(value: Any, is_whole: bool) -> ClassName:
    return int(value) if is_whole and not isinstance(value, bool) else value


def _is_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "O":
        return np.array([value is None for value in values], np.bool_)
    return np.array(values != values)


def _is_time(value: Any) -> bool:
    try:
        as_datetime(value)
    except (ValueError, OverflowError):
        return False
    return True
