"""Columns of numbers and text, as files and tables of other libraries hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradflow.arguments import sequence, text
from gradflow.errors import DataError, unknown_name

if TYPE_CHECKING:
    from gradflow.data.validation import Where

__all__ = [
    "Table",
    "chosen_columns",
    "columns_to_read",
    "example_of_text",
    "is_number",
    "listed_names",
    "number_in",
    "positions",
]


@dataclass(frozen=True)
class Table:
    """Columns of the same length.

    Attributes:
        columns: arrays of shape (rows,): numbers, in which a missing one is NaN; or text, as objects, in which a
            missing one is None.
        names: of the columns, in the same order.
        categories: the names of those columns that are declared to be categories, even if they look like numbers.
        unusable: why a column cannot be an input, by its name; it does no harm while nothing takes it.
    """

    columns: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    categories: frozenset[str] = frozenset()
    unusable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __getitem__(self, rows: slice | np.ndarray) -> Table:
        return replace(self, columns=tuple(column[rows] for column in self.columns))

    def usable(self) -> Table:
        """The same, once all columns are known to hold numbers or text.

        Raises:
            DataError: for the first that does not.
        """
        for name in self.names:
            if name in self.unusable:
                raise DataError(self.unusable[name])
        return self

    @property
    def nbytes(self) -> int:
        """The bytes of all columns; text counts as its references."""
        return sum(column.nbytes for column in self.columns)

    def by_names(self, name: str, names: Sequence[str]) -> Table:
        """These columns in this order, and no others.

        Names "0", "1", ... are those of an array: a table with other names has its columns taken by position then.

        Raises:
            DataError: for a column that is missing, or cannot be an input; ``name`` names the table.
        """
        if self.names == tuple(names):
            return self.usable()
        missing = [wanted for wanted in names if wanted not in self.names]
        if not missing:
            places = [self.names.index(wanted) for wanted in names]
            columns = tuple(self.columns[place] for place in places)
            return replace(self, columns=columns, names=tuple(names)).usable()
        listed = ", ".join(self.names)
        if tuple(names) == positions(len(names)) and len(missing) == len(names):
            if len(self.names) != len(names):
                raise DataError(f"{name} must have {len(names)} columns, but has {len(self.names)}: {listed}")
            return self.usable()
        from gradflow.synonyms import meant_names  # only errors need it

        nearest = [given for given in meant_names("column", missing[0], self.names) if given not in names]
        suggestion = f" Is it {nearest[0]!r}? Then rename it." if nearest else ""
        which = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {', '.join(map(repr, missing))} are"
        raise DataError(f"{which} missing from {name}; it has {listed}.{suggestion}")

    def matrix(self, where: Where | None = None) -> np.ndarray:
        """The columns side by side, shape (rows, columns).

        Raises:
            DataError: if one of them is no column of numbers.
        """
        remedy = (
            "and a network takes numbers; convert it, leave it out of the features, or give the network a "
            "preprocessing (gradflow.data.fit_preprocessing), which makes one input per category"
        )
        for name, column in zip(self.names, self.usable().columns, strict=True):
            if column.dtype.kind not in "fiub":
                example, place = example_of_text(column)
                at = f" in {where.row(place)}" if where is not None else ""
                raise DataError(f"column {name!r} holds text, such as {example!r}{at}, {remedy}")
            if name in self.categories:
                raise DataError(f"column {name!r} holds categories, {remedy}")
        if not self.columns:
            raise DataError("a table has no columns; at least 1 is needed")
        return np.stack(self.columns, axis=1)


def positions(n: int) -> tuple[str, ...]:
    """The names of an array's columns: "0", "1", and so on."""
    return tuple(map(str, range(n)))


def number_in(value: str) -> float:
    """The number that a text is.

    Raises:
        ValueError: if it is none. Digits with underscores, which Python's float takes, are codes such as "12_7".
    """
    if "_" in value:
        raise ValueError(value)
    return float(value)


def is_number(value: str) -> bool:
    """True if a text is a number."""
    try:
        number_in(value)
    except ValueError:
        return False
    return True


def example_of_text(column: np.ndarray) -> tuple[str, int]:
    """The first value in a column of text that is no number, or else the first one, and its place."""
    given = [(str(value), place) for place, value in enumerate(column) if value is not None]
    return next((item for item in given if not is_number(item[0])), given[0] if given else ("", 0))


def chosen_columns(
    origin: str,
    names: Sequence[str],
    features: str | Sequence[str] | None,
    target: str | Sequence[str] | None,
    sample_weight: str | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the inputs and of the targets among those of a file; without ``features``, all that are left.

    Raises:
        DataError: for names that the file does not have or has twice, an input without a name, or where nothing is
            left.
    """
    targets = () if target is None else listed_names("target", target)
    weights = () if sample_weight is None else (text("sample_weight", sample_weight),)
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{origin} has two columns named {twice!r}; rename one of them")
    if features is None:
        inputs = tuple(name for name in names if name not in targets + weights)
        if "" in inputs:
            raise DataError(
                f"{origin}: column {names.index('') + 1} has no name. Is it the number of the row, or a delimiter at "
                "the end of the line? Name it, or list the inputs in features="
            )
    else:
        inputs = listed_names("features", features)
    for name in inputs + targets + weights:
        if name not in names:
            raise DataError(f"{origin}: {unknown_name('column', name, names)}")
    if not inputs:
        raise DataError(f"{origin}: at least one feature is needed besides the target, of {', '.join(names)}")
    if both := set(inputs) & set(targets):
        raise DataError(f"{origin}: column {min(both)!r} is a feature and the target; it can be one of them")
    return inputs, targets


def listed_names(name: str, value: Any) -> tuple[str, ...]:
    """Names of columns that a caller passed: one text, or a list of them.

    Raises:
        DataError: if they are none.
    """
    if isinstance(value, str):
        return (value,)
    return tuple(text(f"each name in {name}", item) for item in sequence(name, value, "a list of names of columns"))


def columns_to_read(features: Sequence[str], target: Sequence[str], sample_weight: str | None) -> list[str]:
    """The names of all columns that are read, each once."""
    return list(dict.fromkeys([*features, *target, *([] if sample_weight is None else [sample_weight])]))
