"""Suggestions from the facts about columns: the task, and a rule of preprocessing for each, with the reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from gradflow.checks import instance, instances
from gradflow.data.dates import Dates
from gradflow.data.number_format import NumberFormat
from gradflow.data.profiles import ColumnProfile
from gradflow.data.rules import ColumnRule, Embedding, OneHot, Standardize
from gradflow.errors import DataError

FitTask = Literal["classification", "regression"]

_TARGET_NAMES = ("target", "label", "class", "y", "outcome")
_ID = re.compile(r"(.*[_\W])?(id|uuid|guid|key|index)|.*[a-z]Id", re.DOTALL)
_MOST_CLASSES = 20
"""Whole numbers with more different values are numbers to predict."""
_NEARLY_ALL = 0.9
_MOST_INPUTS = 50
"""Categories from which a column is embedded; below, each has an input."""


class Suggestion(NamedTuple):
    """A rule for a column, or None to leave it out, and the reason."""

    rule: ColumnRule | None
    reason: str


def suggest_rule(column: ColumnProfile) -> Suggestion:
    """Suggest the rule for an input column.

    Numbers are standardized; text becomes one input per category, or an embedding for more than 50 categories;
    timestamps are expanded. Where values are missing, an input of its own marks them. Left out are columns without
    values, or with a single value and no gap; numbers of rows; identifiers; and text that differs in most rows.
    """
    instance("column", column, ColumnProfile, "one of gradflow.data.profile(source)")
    missing = "mark" if column.missing else "refuse"
    gaps = f", {column.missing:,} missing" if column.missing else ""
    if not column.present:
        return Suggestion(None, "no values")
    if column.distinct == 1 and not column.missing:
        return Suggestion(None, "a single value")
    if column.kind == "times":
        return Suggestion(Dates(missing=missing), f"timestamps{gaps}")
    if column.count_up:
        return Suggestion(None, "counts the rows")
    are_different = column.are_different and column.present > _MOST_CLASSES
    if are_different and (column.are_whole or column.kind == "text") and _ID.fullmatch(column.name):
        return Suggestion(None, "an identifier, different in each row")
    if column.kind == "numbers" and not column.is_category:
        return Suggestion(Standardize(missing=missing), f"numbers{gaps}")
    others = column.other_dates > _NEARLY_ALL * column.present
    gaps += "; dates are understood if written as 2024-12-31" if others else ""
    if column.is_mostly_distinct:
        return Suggestion(None, f"text that differs in most rows{gaps if others else ''}")
    count = f"{column.distinct:,} categor{'y' if column.distinct == 1 else 'ies'}{gaps}"
    if column.distinct is not None and column.distinct <= _MOST_INPUTS:
        return Suggestion(OneHot(missing=missing, unknown="zeros"), count)
    return Suggestion(Embedding(missing=missing), count)


def suggest_task(targets: Sequence[ColumnProfile]) -> FitTask:
    """Suggest what to train for: classes in text, booleans and at most 20 different whole numbers, or else numbers.

    Few rows for each whole number, or several targets, are taken for numbers.
    """
    found = instances("targets", targets, ColumnProfile, "those of gradflow.data.profile(source)")
    if not found:
        raise DataError("targets must list at least one column")
    if len(found) > 1:
        return "regression"
    [target] = found
    if target.kind == "text" or target.are_booleans:
        return "classification"
    are_few = target.distinct is not None and target.distinct <= min(_MOST_CLASSES, max(2, target.present // 5))
    return "classification" if target.are_whole and are_few else "regression"


def suggest_target(names: Sequence[str]) -> str | None:
    """Suggest the column to predict by its name: the only one named target, label, class, y or outcome, if any."""
    found = [name for name in names if name.lower() in _TARGET_NAMES]
    return found[0] if len(found) == 1 else None


def suggest_number_format(columns: Iterable[ColumnProfile], delimiter: str) -> NumberFormat:
    """Suggest how to read columns of text that hold numbers with commas, such as "1,5" or "1,234".

    Commas are taken for decimal points, unless all numbers have them before three digits in a file whose fields they
    separate too.
    """
    found = [column for column in columns if column.kind == "text" and not column.is_category]

    def are_nearly_all(column: ColumnProfile, commas: int) -> bool:
        return commas > 0 and commas + column.numbers_in_text > _NEARLY_ALL * column.present

    decimals = [column for column in found if are_nearly_all(column, column.decimal_commas)]
    groups = [column for column in found if are_nearly_all(column, column.comma_groups)]
    if groups and delimiter != ";" and {column.name for column in decimals} <= {column.name for column in groups}:
        return NumberFormat(thousands=",")
    return NumberFormat(decimal=",", thousands=".") if decimals else NumberFormat()


def doubtful_text(columns: Mapping[str, ColumnProfile]) -> dict[str, str]:
    """Return the columns of text that were probably meant to be numbers, with what is wrong with them."""
    found = {}
    for name, column in columns.items():
        if column.kind != "text" or column.is_category or not column.present:
            continue
        most = _NEARLY_ALL * column.present
        if column.with_signs > most:
            found[name] = "numbers with a sign such as % or $; write them without it"
        elif column.comma_groups > most:
            found[name] = "numbers with commas between thousands; read them with thousands=','"
        elif column.decimal_commas > most:
            found[name] = "numbers with a decimal comma; read them with decimal=','"
        elif most < column.numbers_in_text < column.present:
            others = column.present - column.numbers_in_text
            found[name] = f"numbers, but for {others:,} of {column.present:,} values"
    return found
