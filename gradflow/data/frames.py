"""Tables of other libraries (pandas, polars, pyarrow, dicts of columns): their columns by name, as NumPy's arrays."""

from __future__ import annotations

import datetime
import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradflow.data.table import Table, positions
from gradflow.errors import DataError
from gradflow.installation import pip_install

if TYPE_CHECKING:
    from gradflow.data.validation import Where

__all__ = ["TIME_ADVICE", "as_columns", "as_table", "check_dense", "check_unmasked", "is_series", "plain_values"]

_TIMES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
TIME_ADVICE = (
    "make numbers of it, such as the seconds since a date, or columns of year, month and weekday; or text, if each "
    "value is a category"
)


# -- tables -----------------------------------------------------------------------------------------------------------


def as_columns(name: str, value: Any, where: Where | None = None) -> Any:
    """A `Table` of inputs with named columns: a dict, a table of pandas, polars or pyarrow, a structured array.

    All else is returned as it is. Names that are no text count as the text that they print as.

    Raises:
        DataError: for names that are tuples or occur twice, columns of different lengths, a sparse matrix, and a single
            row or column.
    """
    if type(value) is np.ndarray and value.dtype.names is None:
        return value  # the usual case, in which questions take as long as a small layer
    check_dense(name, value)
    if is_series(value):
        raise DataError(
            f"{name} is one {type(value).__name__}, but must be a table: if it is a row, pass "
            f"pandas.DataFrame([{name}]); if it is a column, {name}.to_frame()"
        )
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        raise DataError(f"{name} is a list of rows by name; make a table of it: pandas.DataFrame({name})")
    return _named(name, value, where)


def _named(name: str, value: Any, where: Where | None) -> Any:
    """A `Table` of what has named columns; all else as it is."""
    if isinstance(value, Table):
        return value
    if isinstance(value, np.ndarray):
        return value if value.dtype.names is None else _table(name, value.dtype.names, value.__getitem__, where)
    if isinstance(value, Mapping):
        return _table(name, list(value), value.__getitem__, where)
    if hasattr(type(value), "collect_schema") and hasattr(type(value), "collect"):
        value = value.collect()  # a LazyFrame of polars
    if hasattr(value, "__arrow_c_stream__") and not hasattr(value, "__array__"):
        value = _arrow_table(name, value)
    for attribute in ("column_names", "columns"):
        if hasattr(type(value), attribute) and not callable(getattr(value, attribute)):
            return _table(name, list(getattr(value, attribute)), value.__getitem__, where)
    return value


def as_table(name: str, value: Any, names: Sequence[str] | None = None, where: Where | None = None) -> Table:
    """What a caller passed as columns: an array's are named "0", "1", ...; with ``names``, these and no others.

    Raises:
        DataError: as `as_columns`, and for columns that are missing or hold neither numbers nor text, or an array of
            another shape.
    """
    value = as_columns(name, value, where)
    table = value if isinstance(value, Table) else _columns_of_array(name, value, names, where)
    if not table.columns or len(table) == 0:
        raise DataError(f"{name} has no rows or no columns; at least 1 is needed")
    return table.usable() if names is None else table.by_names(name, names)


def _table(name: str, given: Sequence[Any], column: Callable[[Any], Any], where: Where | None) -> Table:
    for of_column in given:
        if isinstance(of_column, tuple):
            raise DataError(
                f"the columns of {name} have names of several parts, such as {of_column!r}; join them: "
                f"{name}.columns = ['_'.join(map(str, parts)) for parts in {name}.columns]"
            )
    names = [str(of_column) for of_column in given]
    if len(set(names)) < len(names):
        twice = next(of_column for place, of_column in enumerate(names) if of_column in names[:place])
        raise DataError(f"{name} has two columns named {twice!r}; rename one of them")
    columns, categories, unusable = [], [], {}
    for of_column, key in zip(names, given, strict=True):
        label = f"column {of_column!r}"
        values, is_category = _values(label, column(key))
        try:
            values = canonical(label, values, where)
        except DataError as error:
            unusable[of_column] = str(error)
        columns.append(values)
        categories += [of_column] if is_category else []
    if columns and all(values.ndim == 0 for values in columns):
        raise DataError(
            f"{name} holds single values by name, but must hold columns: for one row, pass lists of one value, such as "
            f"{{{names[0]!r}: [...]}}, or pandas.DataFrame([{name}])"
        )
    if any(values.ndim != 1 or len(values) != len(columns[0]) for values in columns):
        raise DataError(f"columns must have shape (rows,), got {[values.shape for values in columns]}")
    return Table(tuple(columns), tuple(names), frozenset(categories), unusable)


def _arrow_table(name: str, value: Any) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            f"{name} is a {type(value).__name__}, which needs pyarrow to be read: {pip_install('arrow')}"
        ) from error
    return pyarrow.table(value)


def _columns_of_array(name: str, value: Any, names: Sequence[str] | None, where: Where | None) -> Table:
    check_unmasked(name, value)
    try:
        # Numbers beside text in lists would all become text, each as long as the longest.
        array = np.array(value, object) if isinstance(value, list | tuple) else np.asarray(_on_host(value))
        if array.ndim != 2:
            array = np.asarray(_on_host(value))
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{name} is not a rectangular array: {error}") from error
    expected = "columns" if names is None else len(names)
    if array.ndim != 2 or (names is not None and array.shape[1] != len(names)):
        raise DataError(f"{name} must have shape (rows, {expected}), as the preprocessing takes it, got {array.shape}")
    if array.size == 0:
        raise DataError(f"{name} has no rows or no columns, but shape {array.shape}; at least 1 is needed")
    wanted = positions(array.shape[1]) if names is None else tuple(names)
    columns = tuple(canonical(f"column {of!r}", column, where) for of, column in zip(wanted, array.T, strict=True))
    return Table(columns, wanted)


def check_dense(name: str, value: Any) -> None:
    """Refuse a sparse matrix, which NumPy would take for a single object.

    Raises:
        DataError: with what makes it dense.
    """
    if hasattr(type(value), "nnz") and hasattr(type(value), "toarray"):
        raise DataError(f"{name} is a sparse matrix, and a network takes dense ones: pass {name}.toarray()")


def check_unmasked(name: str, value: Any) -> None:
    """Refuse an array of numpy.ma with values that are masked, of which NumPy would take what lies under the mask.

    Raises:
        DataError: with the place of the first one.
    """
    if (masked := sys.modules.get("numpy.ma")) is None:
        return  # no one has made one, and the import takes time
    for row, part in enumerate(value if isinstance(value, list | tuple) else [value]):
        if not isinstance(part, masked.MaskedArray) or not masked.is_masked(part):
            continue
        if part is value:
            row = int(np.argwhere(masked.getmaskarray(part))[0][0]) if part.ndim else 0
        raise DataError(
            f"{name} has masked values, the first in row {row}, and every value must be known: leave their rows out, "
            "or put a number in their place, as values.filled(0) does; a preprocessing with missing='fill' "
            "(gradflow.data.fit_preprocessing) takes values.filled(numpy.nan)"
        )


# -- columns ----------------------------------------------------------------------------------------------------------


def is_series(value: Any) -> bool:
    """True for a single column of pandas or polars."""
    # The class is asked, here and below, since pandas has an attribute for each label of a column or row too.
    return hasattr(type(value), "to_frame")


def plain_values(name: str, value: Any) -> Any:
    """Targets or weights as an array: one column gives (rows,), several give (rows, columns).

    What is no column or table of another library is returned as it is.

    Raises:
        DataError: for values that are neither numbers nor text, and several columns that are no numbers.
    """
    value = _named(name, value, None)
    if isinstance(value, Table):
        return value.usable().columns[0] if len(value.columns) == 1 else value.matrix()
    if is_series(value) or hasattr(type(value), "to_pylist"):
        return canonical(name, _values(name, value)[0])
    return value


def _values(label: str, column: Any) -> tuple[np.ndarray, bool]:
    """A column as NumPy's array, and whether its library declares it to hold categories."""
    dtype = _declared_type(column)
    if dtype.startswith("dictionary"):
        column = column.cast(column.type.value_type)  # pyarrow's own array has other values for nulls
    check_unmasked(label, column)
    if isinstance(column, list | tuple):
        array = np.array(column, object)  # as text, each value would take as much as the longest
    else:
        try:
            # Polars' __array__ makes text as wide as the longest, its to_numpy does not.
            array = np.asarray(column.to_numpy() if is_series(column) else _on_host(column))
        except (ValueError, TypeError, RuntimeError) as error:
            raise DataError(f"{label} cannot be read as an array: {error}") from error
    return array, dtype.startswith(("category", "Categorical", "Enum", "dictionary"))


def _declared_type(column: Any) -> str:
    """The type that a library gives to a column, "" for NumPy's."""
    if hasattr(type(column), "dtype"):
        return "" if isinstance(column.dtype, np.dtype) else str(column.dtype)
    return str(column.type) if hasattr(type(column), "type") else ""


def _on_host(value: Any) -> Any:
    return value.get() if hasattr(value, "__cuda_array_interface__") else value


def canonical(label: str, values: np.ndarray, where: Where | None = None) -> np.ndarray:
    """A column as a `Table` holds it: numbers or booleans, missing ones NaN; or text as objects, missing ones None.

    Raises:
        DataError: for times, bytes, complex numbers, lists and other objects, with the first of them.
    """
    if values.dtype.kind in "fiub" or values.ndim != 1:
        return values
    if values.dtype.kind in "mM":
        raise DataError(f"{label} holds times (dtype {values.dtype}); {TIME_ADVICE}")
    if values.dtype.kind not in "OUT":
        advice = "decode it to text" if values.dtype.kind == "S" else "expected numbers or text"
        raise DataError(f"{label} has dtype {values.dtype}; {advice}")
    values = values.astype(object)
    missing = np.array([_is_missing(value) for value in values], np.bool_)
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


def _is_missing(value: Any) -> bool:
    """True for None, NaN, NaT and pandas.NA, which cannot be compared."""
    if value is None:
        return True
    if isinstance(value, str):
        return False
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, numbers.Number) and value != value)


def _is_number_type(of_value: type) -> bool:
    """True for real numbers and booleans; decimals are numbers, but none of Python's complex ones."""
    is_real = issubclass(of_value, numbers.Real) or not issubclass(of_value, numbers.Complex)
    is_number = issubclass(of_value, numbers.Number) and is_real and not issubclass(of_value, np.timedelta64)
    return is_number or issubclass(of_value, np.bool_)


def _unusable(label: str, values: np.ndarray, of_value: type, where: Where | None) -> DataError:
    place = next(place for place, value in enumerate(values) if type(value) is of_value)
    row = f"row {place}" if where is None else where.row(place)
    if issubclass(of_value, _TIMES):
        return DataError(f"{label} holds times (a {of_value.__name__} in {row}); {TIME_ADVICE}")
    advice = "decode it to text" if issubclass(of_value, bytes) else "expected numbers or text"
    return DataError(f"{label} holds a {of_value.__name__} in {row}; {advice}")
