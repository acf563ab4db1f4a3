"""Columns of numbers and text, as files hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradflow.errors import DataError, unknown_name

__all__ = ["Table", "chosen_columns", "columns_to_read", "is_number"]


@dataclass(frozen=True)
class Table:
    """Columns of the same length.

    Attributes:
        columns: arrays of shape (rows,): numbers, in which a missing one is NaN; or text, as objects, in which a
            missing one is None.
        names: of the columns, in the same order.
    """

    columns: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, rows: slice) -> Table:
        return Table(tuple(column[rows] for column in self.columns), self.names)

    def matrix(self) -> np.ndarray:
        """The columns side by side, shape (rows, columns).

        Raises:
            DataError: if one of them is no column of numbers.
        """
        for name, column in zip(self.names, self.columns, strict=True):
            if column.dtype.kind not in "fiub":
                raise DataError(
                    f"column {name!r} holds text, such as {_example(column)!r}, and a network takes numbers; leave it "
                    "out of features=, or give the network a preprocessing (gradflow.data.fit_preprocessing), which "
                    "makes one column per category"
                )
        return np.stack(self.columns, axis=1)


def is_number(text: str) -> bool:
    """Whether a text is a number, or empty, which is a missing one."""
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _example(column: np.ndarray) -> str:
    """What in a column of text is no number, or looks like none."""
    given = [str(value) for value in column if value is not None]
    return next((text for text in given if not is_number(text)), given[0] if given else "")


def chosen_columns(
    origin: str,
    names: Sequence[str],
    features: Sequence[str] | None,
    target: str | Sequence[str],
    sample_weight: str | None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the inputs and of the targets among those of a file; without ``features``, all that are left.

    Raises:
        DataError: for names that the file does not have or has twice, or where nothing is left.
    """
    targets = (target,) if isinstance(target, str) else tuple(target)
    weights = () if sample_weight is None else (sample_weight,)
    inputs = tuple(name for name in names if name not in targets + weights) if features is None else tuple(features)
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise DataError(f"{origin} has two columns named {twice!r}; rename one of them")
    for name in inputs + targets + weights:
        if name not in names:
            raise DataError(f"{origin}: {unknown_name('column', name, names)}")
    if not inputs or not targets:
        raise DataError(f"{origin}: at least one feature and one target are needed, of {', '.join(names)}")
    if both := set(inputs) & set(targets):
        raise DataError(f"{origin}: column {min(both)!r} is a feature and the target; it can be one of them")
    return inputs, targets


def columns_to_read(features: Sequence[str], target: Sequence[str], sample_weight: str | None) -> list[str]:
    """The names of all columns that are read, each once."""
    return list(dict.fromkeys([*features, *target, *([] if sample_weight is None else [sample_weight])]))
