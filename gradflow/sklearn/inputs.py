"""The inputs of estimators: arrays of other libraries, and the preprocessing inside the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradflow.data.columns import ColumnRule, Embedding, OneHot, Standardize, Unchanged
from gradflow.data.frames import as_table
from gradflow.data.preprocessing import Preprocessing, fit_preprocessing
from gradflow.errors import DataError, shown

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


@contextmanager
def explaining(x: Any, *, is_fit: bool) -> Iterator[None]:
    """Context in which scikit-learn validates inputs that must be numbers: errors name the column, and the remedy.

    Raises:
        DataError: for two columns of one name, text, and missing values.
    """
    check_names(x)
    try:
        yield
    except ValueError as error:
        before = "" if is_fit else ", which the estimator was fitted without"
        if "Input X contains NaN" in str(error):
            remedy = "to replace missing values by the mean, and mark them; or impute them first"
            raise DataError(f"Input X contains NaN{before}. Pass standardize=True {remedy}") from error
        if "could not convert string to float" not in str(error):
            raise
        table = as_table("X", x if hasattr(x, "columns") else np.asarray(x, object))
        for name, column in zip(table.names, table.columns, strict=True):
            try:
                np.asarray(column, np.float64)
            except (TypeError, ValueError) as problem:
                remedy = "pass categorical_features='from_dtype' to encode it" if is_fit else "in fit it did"
                raise DataError(f"column {name!r} of X holds no numbers, {problem}; {remedy}") from error
        raise
    except TypeError as error:
        times = [name for name in getattr(x, "columns", ()) if np.asarray(x[name]).dtype.kind in "mM"]
        if not times:
            raise
        raise DataError(
            f"column {times[0]!r} of X holds times; convert it to a number, such as the days since a date"
        ) from error


def check_names(x: Any) -> None:
    """Raise if two columns of a table have the same name.

    Raises:
        DataError: naming it.
    """
    counts = Counter(name for name in getattr(x, "columns", ()) if isinstance(name, str))
    for name, count in counts.items():
        if count > 1:
            raise DataError(f"X has {count} columns named {name!r}; rename them")


def check_no_text(y: Any, estimator: str) -> None:
    """Raise if targets of a regressor hold text.

    Raises:
        DataError: naming the first.
    """
    values = np.asarray(y)
    text = (
        next((value for value in values.ravel() if isinstance(value, str)), None)
        if values.dtype.kind in "OUT"
        else None
    )
    if text is not None:
        raise DataError(
            f"y holds text, such as {shown(str(text))}, but {estimator} predicts numbers; use MLPClassifier for classes"
        )


def check_labels(y: Any) -> None:
    """Raise if classes are missing, or of types that cannot be sorted.

    Raises:
        DataError: naming the first row, or two classes.
    """
    labels = np.asarray(y)
    if labels.dtype.kind != "O":
        return
    first: dict[bool, Any] = {}
    for row, label in enumerate(labels.ravel()):
        if label is None or type(label).__name__ == "NAType" or (isinstance(label, float) and label != label):
            raise DataError(f"y has no class in row {row}, but {label!r}; omit rows without a class")
        first.setdefault(isinstance(label, str), label)
    if len(first) == 2:
        raise DataError(f"y mixes text and others, such as {first[True]!r} and {first[False]!r}; convert it to text")


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
