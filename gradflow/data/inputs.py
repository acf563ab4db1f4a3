"""`InputFormat`: validation and conversion of user data to the inputs of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.frames import as_columns, as_table
from gradflow.data.preprocessing import Preprocessing
from gradflow.data.sources import Source
from gradflow.data.table import Table, positions
from gradflow.data.validation import as_array, check_category_numbers, check_width, feature_matrix, finite
from gradflow.data.where import Where
from gradflow.errors import DataError
from gradflow.ops import Array


class InputFormat(NamedTuple):
    """The inputs that a network takes.

    Attributes:
        n_in: the width of its first layer.
        dtype: its dtype.
        backend: the backend whose GPU arrays it takes.
        preprocessing: preprocessing applied to user data before the first layer; None applies none.
        feature_names: the columns to take from tables, in order; None takes all columns in their order.
        categories: for each of the last columns that hold category numbers, how many there are.
    """

    n_in: int
    dtype: np.dtype
    backend: ReferenceBackend
    preprocessing: Preprocessing | None
    feature_names: Sequence[str] | None
    categories: Sequence[int] = ()

    def select(self, name: str, x: Any) -> Array | Table:
        """Convert user data, called ``name`` in errors, to a table with the input columns, or to an array of numbers.

        Raises:
            DataError: for a source, missing columns, or anything that is not numbers of the right width.
        """
        if isinstance(x, Source):
            raise DataError(
                f"{name} is a source, which is read block by block, but rows in memory are needed here: pass "
                f"next({name}.blocks()).x, with .y for the targets"
            )
        if hasattr(x, "__cuda_array_interface__"):
            x = as_array(name, x, self.backend)
        if self.preprocessing is not None:
            return as_table(name, x, self.preprocessing.names, timestamps=self.preprocessing.timestamps)
        x = as_columns(name, x)
        if isinstance(x, Table):
            if (width := len(self.feature_names or x.columns)) != self.n_in:
                if x.columns:
                    x.matrix()  # a text column is the likelier cause, and this raises the error for it
                check_width(name, width, self.n_in)
            return as_table(name, x, self.feature_names or positions(self.n_in))
        return feature_matrix(name, as_array(name, x, self.backend), self.n_in)

    def convert(self, name: str, selected: Array | Table, where: Where | None = None) -> Array:
        """Convert what `select` returned to a finite array (batch, n_in), after preprocessing.

        Args:
            name: names the data in errors.
            selected: rows of the result of `select`.
            where: which rows these are, for errors.

        Raises:
            DataError: if there are values that are not finite in the dtype, or not the number of a category.
        """
        where = where or Where(range(len(selected)))
        columns: Sequence[str] | None = None
        if self.preprocessing is not None:
            selected, columns = self.preprocessing.transform(selected, where), self.preprocessing.output_names
        elif isinstance(selected, Table):
            columns, selected = selected.names, selected.matrix(where)
        named = where if columns is None else Where(where.rows, columns, where.unit)
        array = finite(name, selected, self.dtype, named)
        if self.preprocessing is None and self.categories:
            check_category_numbers(name, array, self.categories, named)
        return array

    def __call__(self, name: str, x: Any, where: Where | None = None) -> Array:
        """Validate and preprocess user data into a finite array (batch, n_in): `select`, then `convert`."""
        return self.convert(name, self.select(name, x), where)
