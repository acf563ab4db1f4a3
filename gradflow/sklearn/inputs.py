"""The inputs of estimators: arrays of other libraries, and the preprocessing inside the network."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gradflow.data.dates import Dates
from gradflow.data.frames import as_columns, as_table, is_lazy
from gradflow.data.preprocessing import Preprocessing, fit_preprocessing
from gradflow.data.rules import ColumnRule, Embedding, OneHot, Standardize, Unchanged
from gradflow.data.sources import Source
from gradflow.data.table import Table, positions
from gradflow.errors import DataError, shown, unknown_name

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
            f"column {times[0]!r} of X holds times; pass rules={{{times[0]!r}: gradflow.data.Dates()}} to expand them "
            "into numbers, or convert it"
        ) from error


def check_kind(x: Any) -> None:
    """Raise for data that only networks take, not estimators.

    Raises:
        DataError: with the way to convert it.
    """
    remedy = None
    if isinstance(x, Source):
        remedy = "estimators take data in memory; gradflow.Trainer trains on sources"
    elif isinstance(x, Mapping):
        remedy = "pass pandas.DataFrame(X)"
    elif isinstance(x, str | os.PathLike):
        remedy = "read the file first: pandas.read_csv(X)"
    elif is_lazy(x):
        remedy = "pass X.collect()"
    if remedy is not None:
        raise DataError(f"X must be an array or a table, got {shown(x)}; {remedy}")


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


def fit_inputs(
    x: Any,
    *,
    standardize: bool,
    categorical_features: str | ColumnRule | None,
    rules: Mapping[str | int, ColumnRule] | None,
) -> Preprocessing:
    """Return the preprocessing of an array or a table, fitted on its rows.

    Args:
        x: the rows.
        standardize: True to standardize numbers; their gaps become the mean, and an input that marks them.
        categorical_features: the rule for columns of categories or text, or its name in `CATEGORICAL`; None refuses
            such columns.
        rules: the rules of individual columns.

    Raises:
        DataError: for rules of unknown columns, columns of text without ``categorical_features``, and missing values
            without ``standardize``.
    """
    own = {str(name): rule for name, rule in (rules or {}).items()}
    columns = as_columns("X", x)
    names = columns.names if isinstance(columns, Table) else positions(columns.shape[1])
    for name in own:
        if name not in names:
            raise DataError(f"rules: {unknown_name('column', name, names)}")
    table = as_table("X", x, timestamps=[name for name, rule in own.items() if isinstance(rule, Dates)])
    for name, column in zip(table.names, table.columns, strict=True):
        if name not in own:
            _check_column(name, column, table, standardize=standardize, encode=categorical_features is not None)
    numbers = Standardize(missing="mark") if standardize else Unchanged()
    if not isinstance(categorical_features, ColumnRule):
        categorical_features = CATEGORICAL[categorical_features or "from_dtype"]
    return fit_preprocessing(x, rules, numbers=numbers, text=categorical_features)


def _check_column(name: str, column: np.ndarray, table: Table, *, standardize: bool, encode: bool) -> None:
    """Raise for a column without a rule of its own, if no other applies."""
    if column.dtype.kind not in "biuf":
        if not encode:
            raise DataError(
                f"column {name!r} of X holds no numbers; pass categorical_features='from_dtype' to encode it"
            )
    elif not standardize and name not in table.categories and (gone := column != column).any():
        raise DataError(
            f"column {name!r} of X has no value in row {int(np.argmax(gone))}. Pass standardize=True to replace "
            f"missing values by the mean, and mark them; or only here, "
            f"rules={{{name!r}: gradflow.data.Standardize(missing='mark')}}"
        )
