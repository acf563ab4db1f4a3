"""Tables of numeric and text columns, read from files or from tables of other libraries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradflow.checks import sequence, text
from gradflow.data.where import Where
from gradflow.errors import DataError, unknown_name


@dataclass(frozen=True)
class Table:
    """Columns of the same length.

    Attributes:
        columns: arrays of shape (rows,): numbers, with NaN for missing values; or text as objects, with None for
            missing values.
        names: the names of the columns, in the same order.
        categories: the names of the columns declared as categories, even if they look like numbers.
        unusable: the reason why a column cannot be an input, by name; raised only when the column is used. Its values
            are as they were given.
    """

    columns: tuple[np.ndarray, ...]
    names: tuple[str, ...]
    categories: frozenset[str] = frozenset()
    unusable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __getitem__(self, rows: slice | np.ndarray) -> Table:
        return replace(self, columns=tuple(column[rows] for column in self.columns))

    def usable(self, *, timestamps: Collection[str] = ()) -> Table:
        """Return the table itself after checking that all columns hold numbers or text, but for those of timestamps.

        Raises:
            DataError: for the first column that does not.
        """
        for name in self.names:
            if name in self.unusable and name not in timestamps:
                raise DataError(self.unusable[name])
        return self

    @property
    def nbytes(self) -> int:
        """The bytes of all columns; of text, only the references count."""
        return sum(column.nbytes for column in self.columns)

    def by_names(self, name: str, names: Sequence[str], *, timestamps: Collection[str] = ()) -> Table:
        """Select the columns ``names``, in this order; those in ``timestamps`` need not hold numbers or text.

        Names "0", "1", ... come from an array: the columns of a table with other names are then selected by position.

        Raises:
            DataError: for a column that is missing or cannot be an input; ``name`` is the table's name in the message.
        """
        if self.names == tuple(names):
            return self.usable(timestamps=timestamps)
        missing = [wanted for wanted in names if wanted not in self.names]
        if not missing:
            places = [self.names.index(wanted) for wanted in names]
            columns = tuple(self.columns[place] for place in places)
            return replace(self, columns=columns, names=tuple(names)).usable(timestamps=timestamps)
        listed = ", ".join(self.names)
        if tuple(names) == positions(len(names)) and len(missing) == len(names):
            if len(self.names) != len(names):
                raise DataError(f"{name} must have {len(names)} columns, but has {len(self.names)}: {listed}")
            return self.usable(timestamps=timestamps)
        from gradflow.synonyms import meant_names  # only errors need it

        nearest = [given for given in meant_names("column", missing[0], self.names) if given not in names]
        suggestion = f" Is it {nearest[0]!r}? Then rename it." if nearest else ""
        which = f"column {missing[0]!r} is" if len(missing) == 1 else f"columns {', '.join(map(repr, missing))} are"
        raise DataError(f"{which} missing from {name}; it has {listed}.{suggestion}")

    def matrix(self, where: Where | None = None) -> np.ndarray:
        """Stack the columns into an array of shape (rows, columns).

        Raises:
            DataError: if a column is not numeric.
        """
        remedy = (
            "but a network needs numbers; convert it, omit it from the features, or give the network a preprocessing "
            "(gradflow.data.fit_preprocessing), which creates one input per category"
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
    """Return the names of an array's columns: "0", "1", and so on."""
    return tuple(map(str, range(n)))


def number_in(value: str) -> float:
    """Parse a number.

    Raises:
        ValueError: if the text is not a number. Digits with underscores, which Python's float accepts, are codes such
            as "12_7", not numbers.
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
    """Return the first non-numeric value in a text column, or else the first value, and its position."""
    given = [(str(value), place) for place, value in enumerate(column) if value is not None]
    return next((item for item in given if not is_number(item[0])), given[0] if given else ("", 0))


def chosen_columns(
    origin: str,
    names: Sequence[str],
    features: str | Sequence[str] | None,
    target: str | Sequence[str] | None,
    sample_weight: str | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the inputs and of the targets; without ``features``, all remaining columns are inputs.

    Raises:
        DataError: for names that the file does not have or has twice, an input without a name, or if no inputs remain.
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
        raise DataError(
            f"{origin}: at least one feature is needed besides the target; the columns are {', '.join(names)}"
        )
    if both := set(inputs) & set(targets):
        raise DataError(f"{origin}: column {min(both)!r} is both a feature and the target; it can only be one of them")
    return inputs, targets


def only_target(origin: str, targets: Sequence[str]) -> str:
    """Return the name of the target.

    Raises:
        DataError: if there is none, or more than one.
    """
    if len(targets) != 1:
        named = ", ".join(targets) or "none"
        raise DataError(f"{origin}: stratify=True needs one target, but the targets are {named}; name a column instead")
    return targets[0]


def listed_names(name: str, value: Any) -> tuple[str, ...]:
    """Validate column names: a string or a list of strings.

    Raises:
        DataError: if the value is neither.
    """
    if isinstance(value, str):
        return (value,)
    return tuple(text(f"each name in {name}", item) for item in sequence(name, value, "a list of column names"))


def columns_to_read(features: Sequence[str], target: Sequence[str], sample_weight: str | None) -> list[str]:
    """Return the names of all columns to read, without duplicates."""
    return list(dict.fromkeys([*features, *target, *([] if sample_weight is None else [sample_weight])]))
