"""The inputs of estimators: arrays of other libraries, and the preprocessing inside the network."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.data.columns import ColumnRule, Embedding, OneHot, Standardize, Unchanged
from gradflow.data.frames import as_table
from gradflow.data.preprocessing import Preprocessing, fit_preprocessing
from gradflow.errors import DataError

CATEGORICAL: dict[str, ColumnRule] = {
    "from_dtype": OneHot(missing="mark", unknown="zeros"),
    "embedding": Embedding(missing="mark"),
}
"""The rules for columns of categories or text, by the value of ``categorical_features``."""


def as_numpy(data: Any) -> Any:
    """Return an array of another library, such as PyTorch or CuPy, as a NumPy array, and anything else unchanged."""
    if isinstance(data, np.ndarray) or not hasattr(data, "__dlpack__"):
        return data
    if hasattr(data, "__cuda_array_interface__"):
        data = data.get() if hasattr(data, "get") else data.cpu()
    return np.asarray(data)


def fit_inputs(x: Any, *, standardize: bool, categorical_features: str | None) -> Preprocessing:
    """Return the preprocessing of an array or a table, fitted on its rows.

    Args:
        x: the rows.
        standardize: True to standardize numbers; their gaps become the mean, and an input that marks them.
        categorical_features: "from_dtype" to encode columns of categories or text, with gaps and unknown categories as
            zeros; "embedding" to number them for `gradflow.EmbedColumns`; None refuses them.

    Raises:
        DataError: for columns of text without ``categorical_features``, and missing values without ``standardize``.
    """
    if categorical_features is None:
        table = as_table("X", x)
        for name, column in zip(table.names, table.columns, strict=True):
            if column.dtype.kind not in "biuf":
                raise DataError(
                    f"column {name!r} of X holds no numbers; pass categorical_features='from_dtype' to encode it"
                )
    numbers = Standardize(missing="mark") if standardize else Unchanged()
    return fit_preprocessing(x, numbers=numbers, text=CATEGORICAL[categorical_features or "from_dtype"])
