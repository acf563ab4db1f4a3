"""Preprocessing that turns columns of numbers and categories into network inputs, fitted on training data."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradflow.checks import instance
from gradflow.data.columns import (
    CategoryColumn,
    ClippedColumn,
    Column,
    EmbeddingColumn,
    NumberColumn,
    QuantileColumn,
    as_categories,
    as_numbers,
    category_label,
    holds_text,
    refuse_missing,
)
from gradflow.data.dates import DateColumn, Dates
from gradflow.data.doubts import check_text, warn_if_distinct
from gradflow.data.frames import as_columns, as_table, columns_of_times
from gradflow.data.rules import ColumnFit, ColumnRule, OneHot, Standardize
from gradflow.data.sources import Source
from gradflow.data.table import Table
from gradflow.data.where import Where
from gradflow.errors import DataError, shown, unknown_name

_KINDS: dict[str, type[Column]] = {
    kind.kind: kind
    for kind in (NumberColumn, ClippedColumn, QuantileColumn, DateColumn, CategoryColumn, EmbeddingColumn)
}


@dataclass(frozen=True)
class Preprocessing:
    """The result of `fit_preprocessing`. Assign it to ``network.preprocessing`` to save it with the network.

    The network inputs are, in this order: the numbers that are not constant; the indicators of missing numbers; then,
    column by column, the parts of timestamps, followed by the indicator of missing values of that column; in the same
    way the categories; last, the category numbers of embeddings.

    Attributes:
        names: the names of the input columns; those of arrays are "0", "1", and so on.
        columns: the fitted transform of each.
    """

    names: tuple[str, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.columns) or len(set(self.names)) < len(self.names):
            raise DataError(f"each column needs its own name, got {self.names!r} for {len(self.columns)} columns")
        if self.n_out == 0:
            raise DataError("all columns are constant, so there is nothing left to learn from")

    @property
    def output_names(self) -> list[str]:
        """A name for each input of the network, such as "age", "age is missing", "city = Rome"."""
        return list(self._output_names)

    @cached_property
    def _output_names(self) -> tuple[str, ...]:
        numbers = [name for name, column in self._of(NumberColumn) if column.scale > 0]
        marks = [f"{name} is missing" for name, column in self._of(NumberColumn) if column.missing == "mark"]
        dates = [part for name, column in self._of(DateColumn) for part in column.output_names(name)]
        categories = []
        for name, column in self._of(CategoryColumn):
            categories += [f"{name} = {category_label(category)}" for category in column.labels]
            categories += [f"{name} is missing"] if column.missing == "mark" else []
        embedded = [name for name, _ in self._of(EmbeddingColumn)]
        return (*numbers, *marks, *dates, *categories, *embedded)

    @property
    def widths(self) -> list[int]:
        """The numbers of neighboring network inputs that come from the same column, in the order of `output_names`."""
        numbers = [column.scale > 0 for _, column in self._of(NumberColumn)]
        marks = [column.missing == "mark" for _, column in self._of(NumberColumn)]
        dates = [len(column.output_names(name)) for name, column in self._of(DateColumn)]
        categories = [len(column.labels) + (column.missing == "mark") for _, column in self._of(CategoryColumn)]
        embedded = [1 for _ in self._of(EmbeddingColumn)]
        return [int(width) for width in (*numbers, *marks, *dates, *categories, *embedded) if width]

    @property
    def n_out(self) -> int:
        """The number of network inputs that it produces: the network's n_in."""
        return len(self._output_names)

    @property
    def n_numbers(self) -> int:
        """The number of leading inputs that are numbers: the ``columns`` of embeddings such as `PeriodicEmbedding`."""
        return sum(column.scale > 0 for _, column in self._of(NumberColumn))

    @property
    def timestamps(self) -> list[str]:
        """The names of the columns that hold timestamps."""
        return [name for name, _ in self._of(DateColumn)]

    @property
    def tables(self) -> tuple[tuple[int, int], ...]:
        """The number of vectors of each embedding, and their size: the ``tables`` of `gradflow.EmbedColumns`."""
        return tuple((column.rows, column.size) for _, column in self._of(EmbeddingColumn))

    @property
    def constant_columns(self) -> list[str]:
        """The names of the columns that are dropped because they were constant in the training data."""
        return [name for name, column in zip(self.names, self.columns, strict=True) if _is_constant(column)]

    def transform(self, x: Any, where: Where | None = None) -> np.ndarray:
        """Return the network inputs, float64 of shape (rows, n_out).

        Args:
            x: an array (rows, columns) with the columns in the order of `names`; or columns by name: a dict of arrays,
                or a pandas, polars or pyarrow table. Columns that are not in `names` are ignored.
            where: the rows' origin, for error messages.

        Raises:
            DataError: for missing columns, and for values that a column does not accept.
        """
        table = as_table("x", x, self.names, where, timestamps=self.timestamps)
        where = Where(range(len(table))) if where is None else instance("where", where, Where, "a Where")
        values = dict(zip(self.names, table.columns, strict=True))
        parts = [self._numbers(values, where)]
        parts += [column.transform(name, values[name], where) for name, column in self._of(DateColumn)]
        parts += [_one_hot(name, column, values[name], where) for name, column in self._of(CategoryColumn)]
        parts += [_numbered(name, column, values[name], where) for name, column in self._of(EmbeddingColumn)]
        return np.hstack(parts)

    @np.errstate(under="ignore")
    def _numbers(self, values: Mapping[str, np.ndarray], where: Where) -> np.ndarray:
        named = list(self._of(NumberColumn))
        if not named:
            return np.empty((len(where.rows), 0))
        numbers = np.stack([as_numbers(name, values[name], where) for name, _ in named], axis=1)
        missing = np.isnan(numbers)
        for place, (name, column) in enumerate(named):
            refuse_missing(name, missing[:, place], where, column.missing)
        center, scale = (np.array([getattr(column, key) for _, column in named]) for key in ("center", "scale"))
        varies, marked = scale > 0, np.array([column.missing == "mark" for _, column in named])
        filled = np.where(missing, center, numbers)[:, varies]
        scaled = (filled - center[varies]) / scale[varies]
        for place, column in enumerate(column for _, column in named if column.scale > 0):
            if isinstance(column, ClippedColumn):
                scaled[:, place] = column.shape(scaled[:, place])
            elif isinstance(column, QuantileColumn):
                scaled[:, place] = column.ranked(filled[:, place])
        return np.hstack([scaled, missing[:, marked]])

    def _of(self, kind: type[Any]) -> Generator[tuple[str, Any], None, None]:
        for name, column in zip(self.names, self.columns, strict=True):
            if isinstance(column, kind):
                yield name, column

    def config(self) -> dict[str, Any]:
        """Return the JSON representation."""
        return {"names": list(self.names), "columns": [column.config() for column in self.columns]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Rebuild a preprocessing from the result of `config`.

        Raises:
            DataError, KeyError, TypeError: if the config does not describe a preprocessing.
        """
        columns = []
        for entry in config["columns"]:
            settings = dict(entry)
            columns.append(_KINDS[settings.pop("kind")](**settings))
        return cls(tuple(str(name) for name in config["names"]), tuple(columns))


_A_RULE = "an object such as gradflow.data.Standardize()"


def fit_preprocessing(
    data: Any,
    rules: Mapping[str | int, ColumnRule] | None = None,
    *,
    numbers: ColumnRule | None = None,
    text: ColumnRule | None = None,
    times: ColumnRule | None = None,
) -> Preprocessing:
    """Fit the preprocessing that turns columns into network inputs, in one pass over the training data.

    Args:
        data: training data only: a source; an array (rows, columns); or columns by name, as in
            `Preprocessing.transform`.
        rules: the rules of individual columns, by name, or by position for an array.
        numbers: the rule for all other numeric columns; `Standardize()` by default.
        text: the rule for all other text columns; `OneHot()` by default.
        times: the rule for all other columns of dates and timestamps of NumPy, Python, pandas, polars or pyarrow, such
            as `Dates()`; None refuses them. Dates as text are text.

    Raises:
        DataError: for missing or infinite values that no rule allows, unknown columns, too many categories, a text
            column without a rule that holds almost only numbers, or data in which no column varies.

    Warns:
        DataWarning: for a text column without a rule that is mostly numbers, or has unique values in most rows.
    """
    if rules is not None and not isinstance(rules, Mapping):
        raise DataError(
            "rules must be a dict of rules by column, such as {'city': gradflow.data.OneHot()}, got "
            f"{shown(rules)}; numbers=, text= and times= set the rules of all other columns"
        )
    by_name = {
        str(name): instance(f"the rule of column {str(name)!r}", rule, ColumnRule, _A_RULE)
        for name, rule in (rules or {}).items()
    }
    for kind, rule in (("numbers", numbers), ("text", text), ("times", times)):
        if rule is not None:
            instance(kind, rule, ColumnRule, _A_RULE)
    timestamps = [name for name, rule in by_name.items() if isinstance(rule, Dates)]
    names: tuple[str, ...] | None = None
    fits: dict[str, ColumnFit] = {}
    for x, where, origin in _parts(data):
        try:
            if times is not None and names is None:
                x = as_columns("x", x, where)
                found = [name for name in columns_of_times(x) if name not in by_name]
                by_name |= dict.fromkeys(found, times)
                timestamps += found
            table = as_table("x", x, names, where, timestamps=timestamps)
            where = where or Where(range(len(table)))
            names = names or table.names
            for name in by_name:
                if name not in names:
                    raise unknown_name("column", name, names)
            for name, values in zip(names, table.columns, strict=True):
                if name not in fits:
                    fits[name] = _rule(name, table, where, by_name, numbers, text).begin()
                fits[name].update(name, values, where)
        except DataError as error:
            raise DataError(f"{origin}: {error}" if origin else str(error)) from error
    if not fits:
        raise DataError("the data has no columns; at least 1 is needed")
    for name, fit in fits.items():
        if (counts := fit.categories) is not None and name not in by_name and name not in table.categories:
            warn_if_distinct(name, len(counts), counts.total())
    return Preprocessing(tuple(fits), tuple(fit.result() for fit in fits.values()))


def _rule(
    name: str,
    table: Table,
    where: Where,
    rules: Mapping[str, ColumnRule],
    numbers: ColumnRule | None,
    text: ColumnRule | None,
) -> ColumnRule:
    """Return the rule of a column; without one of its own, the first rows decide between ``numbers`` and ``text``."""
    if name in rules:
        return rules[name]
    values = table.columns[table.names.index(name)]
    if name in table.categories:
        return text or OneHot()
    if not holds_text(values):
        return numbers or Standardize()
    check_text(name, values, where)
    return text or OneHot()


def _parts(data: Any) -> Generator[tuple[Any, Where | None, str], None, None]:
    """Yield the data in parts: inputs, which rows they are, and the file they come from."""
    if isinstance(data, Source):
        for block in data.blocks():
            yield block.x, block.where, block.origin
    else:
        yield data, None, ""


def _is_constant(column: Column) -> bool:
    if isinstance(column, NumberColumn):
        return column.scale == 0
    if isinstance(column, DateColumn):
        return not column.parts
    return isinstance(column, CategoryColumn) and not column.labels


def _one_hot(name: str, column: CategoryColumn, values: np.ndarray, where: Where) -> np.ndarray:
    given, missing = as_categories(name, values, where, text=column.is_text)
    refuse_missing(name, missing, where, column.missing)
    place = column.places(given)
    known = (place >= 0) & ~missing
    if column.unknown == "refuse" and not (known | missing).all():
        row = int(np.flatnonzero(~(known | missing))[0])
        shown = repr(given[row]) if column.is_text else category_label(given[row])
        raise DataError(
            f"column {name!r} holds {shown} in {where.row(row)}, a category that the training data did not have; "
            "OneHot(unknown='zeros') accepts such rows"
        )
    return column.coded(np.where(missing, len(column.categories), place))


def _numbered(name: str, column: EmbeddingColumn, values: np.ndarray, where: Where) -> np.ndarray:
    """Return the category numbers, of shape (rows, 1)."""
    given, missing = as_categories(name, values, where, text=column.is_text)
    refuse_missing(name, missing, where, column.missing)
    numbers = np.where(missing, column.rows - 1 if column.missing == "mark" else 0, column.places(given) + 1)
    return numbers.astype(np.float64)[:, None]
