"""The rows that an estimator trains on or is scored on, and their division into both."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

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
