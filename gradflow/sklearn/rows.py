"""The rows that an estimator trains on or is scored on, and their division into both."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing

from gradflow.errors import DataError
from gradflow.sklearn.sparse import SparseRows, is_sparse


class Rows(NamedTuple):
    """Rows of data.

    Attributes:
        x: the inputs: an array, a table, or a sparse matrix.
        targets: the targets as the loss takes them.
        weight: the weight of each row, or None.
    """

    x: Any
    targets: np.ndarray
    weight: np.ndarray | None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.targets)

    @property
    def source(self) -> tuple[Any, Any, Any]:
        """The data as `Trainer.fit` takes them: inputs, targets and weights."""
        return (SparseRows(*self), None, None) if is_sparse(self.x) else tuple(self)

    @property
    def mean_weight(self) -> float:
        """The mean of the weights; 1 without weights."""
        return 1.0 if self.weight is None else float(np.mean(self.weight))

    def split(self, fraction: float, strata: np.ndarray | None, random: Any) -> tuple[Rows, Rows]:
        """Return the rows for training, and a fraction that is held out.

        Args:
            fraction: the fraction.
            strata: classes of the rows that keep their proportions; None for none.
            random: a generator, or a seed.

        Raises:
            ValueError: if fewer than two rows would be held out, or a class has too few rows.
        """
        parts = [self.x, self.targets, *([] if self.weight is None else [self.weight])]
        split = train_test_split(*parts, random_state=random, test_size=fraction, stratify=strata)
        if len(split[3]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        training, validation = (Rows(*split[place::2], *([None] if self.weight is None else [])) for place in (0, 1))
        return training, validation

    def split_anyway(self, fraction: float, strata: np.ndarray | None, random: Any) -> tuple[Rows, Rows]:
        """Return the rows for training, and at least the fraction that is held out: however few rows there are, two of
        them and one of each class, but none of a class with a single row.

        Args:
            fraction, strata, random: as for `split`.

        Raises:
            DataError: for fewer than four rows.
        """
        if self.n_rows < 4:
            rows = "1 sample" if self.n_rows == 1 else f"{self.n_rows} samples"
            raise DataError(f"a recipe needs at least 4 rows, to learn from some and hold out others, but found {rows}")
        places = np.arange(self.n_rows)
        if strata is not None:
            _, classes, counts = np.unique(strata, return_inverse=True, return_counts=True)
            places = places[counts[classes] > 1]
            strata = strata[places] if len(places) > 3 else None
            places = places if strata is not None else np.arange(self.n_rows)
        fewest = 2 if strata is None else max(2, len(np.unique(strata)))
        count = min(max(fewest, math.ceil(fraction * self.n_rows)), len(places) - fewest)
        _, held_out = train_test_split(places, random_state=random, test_size=count, stratify=strata)
        training = np.setdiff1d(np.arange(self.n_rows), held_out)
        return self._of(training), self._of(np.sort(held_out))

    def _of(self, places: np.ndarray) -> Rows:
        weight = None if self.weight is None else self.weight[places]
        return Rows(_safe_indexing(self.x, places), self.targets[places], weight)
