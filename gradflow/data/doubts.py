"""Checks for text columns that are probably not categories: numbers with a stray value, and names or unique text."""

from __future__ import annotations

from collections import Counter

import numpy as np

from gradflow.data.table import example_of_text, is_number
from gradflow.data.where import Where
from gradflow.errors import DataError, DataWarning, shown, warn

_FEW = 20
"""With fewer rows than this, nothing is concluded."""
_NEARLY_ALL = 0.9


def check_text(name: str, values: np.ndarray, where: Where) -> None:
    """Check a text column, whose values would all become categories, for numbers.

    Raises:
        DataError: if more than nine in ten values are numbers, naming the first that is not.

    Warns:
        DataWarning: if more than half are.
    """
    counts = Counter(str(value) for value in values if value is not None)
    n_present = counts.total()
    n_numbers = sum(count for text, count in counts.items() if is_number(text))
    if n_present < _FEW or not n_present / 2 < n_numbers < n_present:
        return
    value, place = example_of_text(values)
    message = (
        f"column {name!r} holds text, but {n_numbers} of {n_present} values are numbers; the first exception is "
        f"{shown(value)} in {where.row(place)}. If it stands for a missing value, declare it when reading the data "
        f"(na_values=[{shown(value)}] of gradflow.data.CSV or pandas.read_csv), or correct it. If the column is "
        f"categorical, set its rule: {{{name!r}: gradflow.data.OneHot()}}"
    )
    if n_numbers > _NEARLY_ALL * n_present:
        raise DataError(message)
    warn(message, DataWarning)


def warn_if_distinct(name: str, categories: int, rows: int) -> None:
    """Warn about a text column in which most values are unique, such as names or dates.

    Warns:
        DataWarning: if there are more than half as many categories as rows.
    """
    if categories >= _FEW and categories > rows / 2:
        warn(
            f"column {name!r} has {categories} different texts in {rows} rows, but a network learns little from "
            "names, numbers written as text, or dates. Omit it, convert it, or set its rule: "
            f"{{{name!r}: gradflow.data.Dates()}} for dates, or else gradflow.data.OneHot()",
            DataWarning,
        )
