"""Choosing the rows to hold out for validation: at random, in proportion of classes, by group, or by time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Set
from typing import Any, NamedTuple

import numpy as np

from gradflow.checks import integer, positive_fraction
from gradflow.data.dates import as_datetime, as_times
from gradflow.data.frames import as_columns, is_missing
from gradflow.data.where import Where
from gradflow.errors import DataError, shown
from gradflow.random import shuffle

_STEP = 0xFFFFFFFF << 32
"""Step of the random numbers, different from those of the shuffles of all epochs."""
_PLACES = 2**18


class ColumnPiece(NamedTuple):
    """Successive values of a column.

    Attributes:
        name: the name of the column.
        values: shape (rows,): numbers, times, or objects.
        where: the origin of the rows.
        origin: the file that they came from; "" for arrays.
    """

    name: str
    values: np.ndarray
    where: Where
    origin: str = ""

    @property
    def label(self) -> str:
        """The column and its file, for error messages."""
        return f"{self.origin}: column {self.name!r}" if self.origin else f"column {self.name!r}"


Pieces = Iterable[ColumnPiece]


def held_out_rows(
    rows: int,
    column: Callable[[str | None], Pieces],
    *,
    validation_fraction: float,
    seed: int,
    stratify: Any,
    group: Any,
    time: Any,
) -> np.ndarray:
    """Choose the rows to hold out, by the arguments of `Source.split`; return a mask, bool (rows,).

    Args:
        rows: the number of rows.
        column: returns a column by its name, or the targets for None, in pieces.

    Raises:
        DataError: if the arguments are invalid, or the rows cannot be split.
    """
    fraction = positive_fraction("validation_fraction", validation_fraction)
    seed = integer("seed", seed, least=0, most=2**64 - 1)
    given = {"stratify": stratify, "group": group, "time": time}
    named = [name for name, value in given.items() if not (value is None or value is False)]
    if len(named) > 1:
        raise DataError(f"rows are split by one of stratify, group and time, but {' and '.join(named)} were passed")
    if rows < 2:
        raise DataError(f"there must be at least 2 rows, one for each part, got {rows}")
    wanted = min(max(int(fraction * rows + 0.5), 1), rows - 1)
    if not named:
        return np.concatenate([places < wanted for places in _shuffled(rows, seed)])
    [kind] = named
    pieces = _counted(_pieces(kind, given[kind], rows, column), rows)
    if kind == "time":
        return _latest(pieces, wanted)
    numbered = _Numbered.of(pieces)
    return _in_proportion(numbered, wanted, seed) if kind == "stratify" else _whole_groups(numbered, wanted, seed)


def _shuffled(rows: int, seed: int) -> Generator[np.ndarray, None, None]:
    """Yield the rows' places in a random order, int64, in parts: computing them takes several times their memory."""
    for start in range(0, rows, _PLACES):
        yield shuffle(np.arange(start, min(start + _PLACES, rows)), rows, seed=seed, epoch=_STEP)


def _pieces(kind: str, value: Any, rows: int, column: Callable[[str | None], Pieces]) -> Pieces:
    """Return the column to split by: given by its name, True for the targets, or as values."""
    if isinstance(value, str):
        return column(value)
    if value is True and kind == "stratify":
        return column(None)
    is_column = hasattr(value, "__len__") and getattr(value, "ndim", 1) == 1
    if isinstance(value, bytes | Mapping | Set) or not is_column:
        true = "True, " if kind == "stratify" else ""
        raise DataError(f"{kind} must be {true}the name of a column, or one value for each row, got {shown(value)}")
    [values] = as_columns(kind, {kind: value}).columns
    if values.shape != (rows,):
        raise DataError(f"{kind} must have one value for each of the {rows} rows, got shape {values.shape}")
    return [ColumnPiece(kind, values, Where(range(rows)))]


def _counted(pieces: Pieces, rows: int) -> Generator[ColumnPiece, None, None]:
    """Yield the pieces after checking them for missing values.

    Raises:
        DataError: for a missing value, or if there are not as many values as rows.
    """
    total = 0
    for piece in pieces:
        total += len(piece.values)
        if (missing := are_missing(piece.values)).any():
            row = piece.where.row(int(np.argmax(missing)))
            raise DataError(f"{piece.label} has no value in {row}; fill it in, or remove the row, to split by it")
        yield piece
    if total != rows:
        raise DataError(
            f"the column to split by has {total:,} values, but there were {rows:,} rows; have they changed?"
        )


def are_missing(values: np.ndarray) -> np.ndarray:
    """Return a mask of the missing values: NaN, NaT, None and pandas.NA."""
    if values.dtype.kind == "O":
        return np.array([is_missing(value) for value in values], np.bool_)
    return np.array(values != values)


class _Numbered(NamedTuple):
    """Distinct values, numbered in the order in which they first occur.

    Attributes:
        label: the column in errors.
        numbers: the number of the value of each row, int64 (rows,).
        values: the distinct values.
        places: where each of them first occurs, such as "row 7".
    """

    label: str
    numbers: np.ndarray
    values: list[Any]
    places: list[str]

    @classmethod
    def of(cls, pieces: Pieces) -> _Numbered:
        known: dict[Any, int] = {}
        places: list[str] = []
        parts = []
        label = ""
        for piece in pieces:
            label = piece.label
            try:
                distinct, first, inverse = _distinct(piece.values)
            except TypeError as error:
                raise DataError(f"{label} holds values that cannot be compared: {error}") from error
            numbers = np.empty(len(distinct), np.int64)
            for place in np.argsort(first):
                number = numbers[place] = known.setdefault(distinct[place], len(known))
                if number == len(places):
                    places.append(piece.where.row(int(first[place])))
            parts.append(numbers[inverse])
        return cls(label, np.concatenate(parts), list(known), places)


def _distinct(values: np.ndarray) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Return the distinct values, the place where each first occurs, and the number of each value."""
    if values.dtype.kind != "O":
        distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        return distinct.tolist(), first, inverse
    known: dict[Any, int] = {}
    numbers = np.array([known.setdefault(value, len(known)) for value in values], np.int64)
    return list(known), np.unique(numbers, return_index=True)[1], numbers


def _in_proportion(of: _Numbered, wanted: int, seed: int) -> np.ndarray:
    """Choose from each class its share, within one row: the method of largest remainders.

    Of the rows that remain when shares are rounded down, classes without a row get theirs first; a class whose rows
    would all be chosen, last.
    """
    rows, sizes = len(of.numbers), np.bincount(of.numbers)
    if (single := np.flatnonzero(sizes == 1)).size:
        value, place = of.values[single[0]], of.places[single[0]]
        raise DataError(
            f"{of.label} has the value {shown(value)} only once, in {place}, but each class must be in both parts; "
            "remove the row, merge rare classes, or split without stratify (gradflow.data.split)"
        )
    shares = sizes * wanted // rows
    remainders = sizes * wanted % rows
    order = np.lexsort([-remainders, shares > 0, shares + 1 == sizes, remainders == 0])
    shares[order[: wanted - shares.sum()]] += 1
    # Sorted by class, and within it by the shuffle, the first rows of each class are chosen.
    by_class = np.lexsort([np.concatenate(list(_shuffled(rows, seed))), of.numbers])
    rank = np.arange(rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.empty(rows, np.bool_)
    chosen[by_class] = rank < np.repeat(shares, sizes)
    return chosen


def _whole_groups(of: _Numbered, wanted: int, seed: int) -> np.ndarray:
    """Choose groups in random order as long as they fit, and one more if that comes nearer to the wanted rows; then
    exchange groups as long as that does."""
    sizes = np.bincount(of.numbers)
    groups = len(sizes)
    if groups == 1:
        raise DataError(
            f"{of.label} has the same value in all rows; there must be at least 2 groups, one for each part"
        )
    chosen, missing = np.zeros(groups, np.bool_), wanted
    for group in np.concatenate(list(_shuffled(groups, seed))):
        if sizes[group] <= missing:
            chosen[group] = True
            missing -= int(sizes[group])
    left = np.flatnonzero(~chosen)
    smallest = left[np.argmin(sizes[left])]
    if not chosen.any() or (len(left) > 1 and sizes[smallest] - missing < missing):
        chosen[smallest] = True
    while (pair := _best_exchange(sizes, chosen, wanted)) is not None:
        chosen[list(pair)] = False, True
    of_row: np.ndarray = chosen[of.numbers]
    return of_row


def _best_exchange(sizes: np.ndarray, chosen: np.ndarray, wanted: int) -> tuple[int, int] | None:
    """Return a chosen group and another one, whose exchange comes nearest to the wanted rows; None if none does."""
    missing = wanted - int(sizes[chosen].sum())
    inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    outside = outside[np.argsort(sizes[outside], kind="stable")]
    best_sizes = sizes[inside] + missing
    above = np.searchsorted(sizes[outside], best_sizes)
    nearest = np.stack([np.maximum(above - 1, 0), np.minimum(above, len(outside) - 1)])
    errors = abs(sizes[outside][nearest] - best_sizes)
    side, place = np.unravel_index(np.argmin(errors), errors.shape)
    if errors[side, place] >= abs(missing):
        return None
    return int(inside[place]), int(outside[nearest[side, place]])


def _latest(pieces: Pieces, wanted: int) -> np.ndarray:
    """Choose the latest rows; those of the same time stay together, on the side that comes nearer to the number."""
    label, parts, kinds = "", [], set()
    for piece in pieces:
        label = piece.label
        times, kind = _times(piece)
        parts.append(times)
        kinds.add(kind)
    if len(kinds) > 1:
        raise DataError(
            f"{label} holds {' in some rows, and '.join(sorted(kinds))} in others, which cannot be compared"
        )
    times = np.concatenate(parts)
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) == 1:
        raise DataError(f"{label} has the same time in all rows; there must be at least 2 times, one for each part")
    later = np.cumsum(counts[::-1])[:-1]
    held_out: np.ndarray = times >= distinct[::-1][np.argmin(abs(later - wanted))]
    return held_out


def _times(piece: ColumnPiece) -> tuple[np.ndarray, str]:
    """Return times that can be compared, numbers or datetime64, and which kind they are."""
    name, values, where, origin = piece
    if values.dtype.kind in "iuf":
        return values, "numbers"
    if values.dtype.kind in "mM":
        return values, "times"
    try:
        times = as_times(name, values, where)
    except DataError as error:
        raise DataError(f"{origin}: {error}" if origin else str(error)) from error
    return times, "times" if as_datetime(values[0]).tzinfo is None else "times with a time zone"
