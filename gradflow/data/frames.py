"""Conversion of tables of other libraries (pandas, polars, pyarrow, dicts of columns) to NumPy columns by name."""

from __future__ import annotations

import datetime
import numbers
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np

from gradflow.data.table import Table, positions
from gradflow.data.where import Where
from gradflow.errors import DataError
from gradflow.installation import pip_install

_TIMES = (datetime.date, datetime.time, np.datetime64)
TIME_ADVICE = (
    "the rule gradflow.data.Dates() for this column (rules= of gradflow.data.fit_preprocessing, or of an estimator) "
    "expands timestamps into numbers; or convert it to numbers or text"
)
_DURATION_ADVICE = "convert them to numbers, such as seconds (pandas: column.dt.total_seconds())"


# -- tables -----------------------------------------------------------------------------------------------------------


def as_columns(name: str, value: Any, where: Where | None = None) -> Any:
    """Convert inputs with named columns to a `Table`: a dict, a pandas, polars or pyarrow table, or a structured array.

    Anything else is returned unchanged. Names that are not text are converted with ``str``.

    Raises:
        DataError: for names that are tuples or occur twice, columns of different lengths, a sparse matrix, and a single
            row or column.
    """
    if type(value) is np.ndarray and value.dtype.names is None:
        return value  # the usual case: the checks below take as long as a small layer
    check_dense(name, value)
    if is_series(value):
        raise DataError(
            f"{name} is a single {type(value).__name__}, but must be a table: if it is a row, pass "
            f"pandas.DataFrame([{name}]); if it is a column, {name}.to_frame()"
        )
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        raise DataError(f"{name} is a list of rows by name; convert it to a table: pandas.DataFrame({name})")
    return _named(name, value, where)


def _named(name: str, value: Any, where: Where | None) -> Any:
    """Convert a value with named columns to a `Table`; return anything else unchanged."""
    if isinstance(value, Table):
        return value
    if isinstance(value, np.ndarray):
        return value if value.dtype.names is None else _table(name, value.dtype.names, value.__getitem__, where)
    if isinstance(value, Mapping):
        return _table(name, list(value), value.__getitem__, where)
    if is_lazy(value):
        value = value.collect()
    if hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__array__"):
        value = _arrow_table(name, value)
    for attribute in ("column_names", "columns"):
        if hasattr(type(value), attribute) and not callable(getattr(value, attribute)):
            return _table(name, list(getattr(value, attribute)), value.__getitem__, where)
    return value


def is_lazy(value: Any) -> bool:
    """True for a LazyFrame of polars."""
    return hasattr(type(value), "collect_schema") and hasattr(type(value), "collect")


def columns_of_times(x: Any) -> list[str]:
    """Return the names of the columns that hold dates or timestamps; [] for an array."""
    if not isinstance(x, Table):
        return []
    columns = dict(zip(x.names, x.columns, strict=True))
    return [name for name in x.unusable if _holds_times(columns[name])]


def _holds_times(values: np.ndarray) -> bool:
    if values.dtype.kind != "O":
        return values.dtype.kind == "M"
    present = {type(value) for value in values if not is_missing(value)}
    return all(issubclass(of_value, datetime.date | np.datetime64) for of_value in present)


def as_table(
    name: str,
    value: Any,
    names: Sequence[str] | None = None,
    where: Where | None = None,
    *,
    timestamps: Collection[str] = (),
) -> Table:
    """Convert user data to a `Table`, with columns "0", "1", ... for an array; with ``names``, only those columns.

    The columns in ``timestamps`` may hold anything, and are left as they are.

    Raises:
        DataError: as `as_columns`, and for columns that are missing or hold neither numbers nor text, or an array of
            the wrong shape.
    """
    value = as_columns(name, value, where)
    table = value if isinstance(value, Table) else _columns_of_array(name, value, names, where)
    if not table.columns or len(table) == 0:
        raise DataError(f"{name} has no rows or no columns; at least 1 is needed")
    if names is None:
        return table.usable(timestamps=timestamps)
    return table.by_names(name, names, timestamps=timestamps)


def _table(name: str, given: Sequence[Any], column: Callable[[Any], Any], where: Where | None) -> Table:
    for of_column in given:
        if isinstance(of_column, tuple):
            raise DataError(
                f"the columns of {name} have multi-part names, such as {of_column!r}; join them: {name}.columns = "
                f"['_'.join(map(str, parts)) for parts in {name}.columns]"
            )
    names = [str(of_column) for of_column in given]
    if len(set(names)) < len(names):
        twice = next(of_column for place, of_column in enumerate(names) if of_column in names[:place])
        raise DataError(f"{name} has two columns named {twice!r}; rename one of them")
    columns, categories = [], []
    unusable: dict[str, str] = {}
    for of_column, key in zip(names, given, strict=True):
        values, is_category = _values(f"column {of_column!r}", column(key))
        columns.append(_canonical_or_not(of_column, values, where, unusable))
        categories += [of_column] if is_category else []
    if columns and all(values.ndim == 0 for values in columns):
        raise DataError(
            f"{name} holds single values by name, but must hold columns: for one row, pass lists of one value, such as "
            f"{{{names[0]!r}: [...]}}, or pandas.DataFrame([{name}])"
        )
    if any(values.ndim != 1 or len(values) != len(columns[0]) for values in columns):
        raise DataError(f"columns must have shape (rows,), got {[values.shape for values in columns]}")
    return Table(tuple(columns), tuple(names), frozenset(categories), unusable)


def _canonical_or_not(of_column: str, values: np.ndarray, where: Where | None, unusable: dict[str, str]) -> np.ndarray:
    """Return `canonical` values; or the values as they are, if they have no such form, with the reason in unusable."""
    try:
        return canonical(f"column {of_column!r}", values, where)
    except DataError as error:
        unusable[of_column] = str(error)
        return values


def _arrow_table(name: str, value: Any) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"{name} is a {type(value).__name__}, which requires pyarrow to read; install: {pip_install('arrow')}"
        ) from error
    return pyarrow.table(value)


def _columns_of_array(name: str, value: Any, names: Sequence[str] | None, where: Where | None) -> Table:
    check_unmasked(name, value)
    try:
        # Without `object`, lists of numbers and text would become all text, each value as long as the longest.
        array = np.array(value, object) if isinstance(value, list | tuple) else np.asarray(_on_host(value))
        if array.ndim != 2:
            array = np.asarray(_on_host(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name} is not a rectangular array: {error}") from error
    expected = "columns" if names is None else len(names)
    if array.ndim != 2 or (names is not None and array.shape[1] != len(names)):
        raise DataError(f"{name} must have shape (rows, {expected}), as the preprocessing expects, got {array.shape}")
    if array.size == 0:
        raise DataError(f"{name} has no rows or no columns, its shape is {array.shape}; at least 1 is needed")
    wanted = positions(array.shape[1]) if names is None else tuple(names)
    unusable: dict[str, str] = {}
    columns = tuple(_canonical_or_not(of, column, where, unusable) for of, column in zip(wanted, array.T, strict=True))
    return Table(columns, wanted, unusable=unusable)


def check_dense(name: str, value: Any) -> None:
    """Raise for a sparse matrix, which NumPy would treat as a single object.

    Raises:
        DataError: with the way to make it dense.
    """
    if hasattr(type(value), "nnz") and hasattr(type(value), "toarray"):
        raise DataError(f"{name} is a sparse matrix, but a network needs a dense one: pass {name}.toarray()")


def check_unmasked(name: str, value: Any) -> None:
    """Raise for a numpy.ma array with masked values, where NumPy would use the data under the mask.

    Raises:
        DataError: with the position of the first one.
    """
    if (masked := sys.modules.get("numpy.ma")) is None:
        return  # no masked array can exist yet, and the import is slow
    for row, part in enumerate(value if isinstance(value, list | tuple) else [value]):
        if not isinstance(part, masked.MaskedArray) or not masked.is_masked(part):
            continue
        if part is value:
            row = int(np.argwhere(masked.getmaskarray(part))[0][0]) if part.ndim else 0
        raise DataError(
            f"{name} has masked values, the first in row {row}, but every value must be known. Omit their rows, or "
            "replace them by a number, as values.filled(0) does; a preprocessing with missing='fill' "
            "(gradflow.data.fit_preprocessing) accepts values.filled(numpy.nan)"
        )


# -- columns ----------------------------------------------------------------------------------------------------------


def is_series(value: Any) -> bool:
    """True for a single column of pandas or polars."""
    # Look at the class, here and below: pandas objects also have an attribute for each column or row label.
    return hasattr(type(value), "to_frame")


def plain_values(name: str, value: Any) -> Any:
    """Convert targets or weights to an array: one column gives (rows,), several give (rows, columns).

    Anything but a column or table of another library is returned unchanged.

    Raises:
        DataError: for values that are neither numbers nor text, and for several columns that are not all numeric.
    """
    value = _named(name, value, None)
    if isinstance(value, Table):
        if len(value.usable().columns) == 1:
            return value.columns[0]
        for of_column, values in zip(value.names, value.columns, strict=True):
            if values.dtype.kind == "O":
                raise DataError(
                    f"{name} has several columns, but {of_column!r} holds text: only one column may hold it"
                )
        return value.matrix()
    if is_series(value) or hasattr(type(value), "to_pylist"):
        return canonical(name, _values(name, value)[0])
    return value


def _values(label: str, column: Any) -> tuple[np.ndarray, bool]:
    """Return a column as a NumPy array, and True if its library declares it to hold categories."""
    dtype = _declared_type(column)
    if dtype.startswith("dictionary"):
        column = column.cast(column.type.value_type)  # pyarrow's conversion represents nulls differently
    check_unmasked(label, column)
    if isinstance(column, list | tuple):
        array = np.array(column, object)  # in a text array, every value takes as much memory as the longest
    else:
        try:
            # In polars, __array__ makes every text as wide as the longest; to_numpy does not.
            # The zoned times of pandas would become objects; these are in UTC.
            of = ("datetime64[us]",) if dtype.startswith("datetime64[") else ()
            array = np.asarray(column.to_numpy(*of) if is_series(column) else _on_host(column))
        except (ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"{label} cannot be read as an array: {error}") from error
    return array, dtype.startswith(("category", "Categorical", "Enum", "dictionary"))


def _declared_type(column: Any) -> str:
    """Return the dtype that another library declares for a column; "" for a NumPy dtype."""
    if hasattr(type(column), "dtype"):
        return "" if isinstance(column.dtype, np.dtype) else str(column.dtype)
    return str(column.type) if hasattr(type(column), "type") else ""


def _on_host(value: Any) -> Any:
    return value.get() if hasattr(value, "__cuda_array_interface__") else value


def canonical(label: str, values: np.ndarray, where: Where | None = None) -> np.ndarray:
    """Convert a column to the form of a `Table`: numbers or booleans (missing: NaN), or text objects (missing: None).

    Raises:
        DataError: for times, bytes, complex numbers, lists and other objects, naming the first of them.
    """
    if values.dtype.kind in "fiub" or values.ndim != 1:
        return values
    if values.dtype.kind == "m":
        raise DataError(f"{label} holds durations (dtype {values.dtype}); {_DURATION_ADVICE}")
    if values.dtype.kind == "M":
        raise DataError(f"{label} holds times (dtype {values.dtype}); {TIME_ADVICE}")
    if values.dtype.kind not in "OUT":
        advice = "decode it to text" if values.dtype.kind == "S" else "expected numbers or text"
        raise DataError(f"{label} has dtype {values.dtype}; {advice}")
    values = values.astype(object)
    if str in (kinds := set(map(type, values))) and kinds <= {str, NoneType}:
        return values  # the usual case: what follows takes ten times as long
    missing = np.array([is_missing(value) for value in values], np.bool_)
    present = values[~missing]
    types = set(map(type, present))
    if all(map(_is_number_type, types)):
        return _numbers(values, missing, types)
    for of_value in types:
        if not (issubclass(of_value, str) or _is_number_type(of_value)):
            raise _unusable(label, values, of_value, where)
    values[missing] = None
    return values


def _numbers(values: np.ndarray, missing: np.ndarray, types: set[type]) -> np.ndarray:
    if not missing.any() and all(issubclass(of_value, bool | np.bool_) for of_value in types):
        return values.astype(np.bool_)
    if not missing.any() and all(issubclass(of_value, numbers.Integral) for of_value in types):
        try:
            return values.astype(np.int64)
        except OverflowError:
            pass
    return np.array([np.nan if gone else float(value) for gone, value in zip(missing, values, strict=True)])


def is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and pandas.NA, which cannot be compared."""
    if value is None:
        return True
    if isinstance(value, str):
        return False
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, numbers.Number) and value != value)


def _is_number_type(of_value: type) -> bool:
    """True for real numbers, decimals and booleans, but not for complex numbers."""
    is_real = issubclass(of_value, numbers.Real) or not issubclass(of_value, numbers.Complex)
    is_number = issubclass(of_value, numbers.Number) and is_real and not issubclass(of_value, np.timedelta64)
    return is_number or issubclass(of_value, np.bool_)


def _unusable(label: str, values: np.ndarray, of_value: type, where: Where | None) -> DataError:
    place = next(place for place, value in enumerate(values) if type(value) is of_value)
    row = f"row {place}" if where is None else where.row(place)
    if issubclass(of_value, datetime.timedelta | np.timedelta64):
        return DataError(f"{label} holds durations (a {of_value.__name__} in {row}); {_DURATION_ADVICE}")
    if issubclass(of_value, _TIMES):
        return DataError(f"{label} holds times (a {of_value.__name__} in {row}); {TIME_ADVICE}")
    advice = "decode it to text" if issubclass(of_value, bytes) else "expected numbers or text"
    return DataError(f"{label} holds a {of_value.__name__} in {row}; {advice}")
