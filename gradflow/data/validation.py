"""Validation of user data: checked at the boundary and converted once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.frames import canonical, check_dense, check_unmasked, plain_values
from gradflow.data.where import Where
from gradflow.errors import DataError
from gradflow.ops import Array

_CUDA_OF_DLPACK = 2  # kDLCUDA in dlpack.h


def as_array(name: str, value: Any, backend: ReferenceBackend) -> Array:
    """Return numbers or booleans as an array: unchanged if on the backend's GPU, otherwise as a NumPy array.

    Arrays of other libraries are not copied if they have ``__cuda_array_interface__``, ``__array__`` or DLPack.

    Raises:
        DataError: for objects, strings, complex numbers, ragged lists, or an array on a GPU not used by the backend.
    """
    return of_numbers(name, _array(name, value, backend))


def as_targets(name: str, value: Any, backend: ReferenceBackend) -> Array:
    """Return targets as an array, as `as_array` does, or class names as text objects, with None for missing ones.

    Raises:
        DataError: as `as_array`, except for text in one column.
    """
    return numbers_or_names(name, _array(name, value, backend))


def numbers_or_names(name: str, y: Array, where: Where | None = None) -> Array:
    """Return targets after checking that they hold numbers or booleans, or text in one column.

    Raises:
        DataError: if they do not.
    """
    if y.dtype.kind not in "fiub" and y.ndim and y.shape[1:] in ((), (1,)):
        y = canonical(name, y.reshape(-1), where)
    return y if y.dtype.kind == "O" and y.ndim == 1 else of_numbers(name, y)


def _array(name: str, value: Any, backend: ReferenceBackend) -> Array:
    if not _lies_on_gpu(value):
        return host_array(name, value)
    array = backend.of_device(value)
    if array is None:
        raise DataError(
            f"{name} is on a GPU, but the network's backend is {backend.name!r}; pass a NumPy array ({name}.get()), "
            "or create the network with backend='cupy'"
        )
    if not backend.owns(array):
        raise DataError(
            f"{name} is on the GPU cuda:{array.device.id}, but the network is on {backend.place}; copy it there, or "
            f"pass a NumPy array ({name}.get())"
        )
    return array


def _lies_on_gpu(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return False  # the usual case: the checks below take as long as a small layer
    if hasattr(value, "__cuda_array_interface__"):
        return True
    return hasattr(value, "__dlpack_device__") and int(value.__dlpack_device__()[0]) == _CUDA_OF_DLPACK


def host_array(name: str, value: Any) -> np.ndarray:
    """Return data in host memory as a NumPy array of any dtype, without a copy if possible.

    Raises:
        DataError: for None, ragged lists, a sparse matrix, masked values, anything that cannot become an array, or an
            array on a GPU.
    """
    if value is None:
        raise DataError(f"{name} is missing: expected an array, got None")
    if type(value) is np.ndarray and value.dtype.names is None:
        return value  # the usual case: the checks below take as long as a small layer
    check_dense(name, value)
    check_unmasked(name, value)
    value = plain_values(name, value)
    if _lies_on_gpu(value):
        raise DataError(f"{name} is on a GPU, but must be on the host; pass a NumPy array ({name}.get())")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
        # NumPy has made text of numbers and missing values in a list that holds text.
        return np.array(value, object) if array.dtype.kind == "U" and isinstance(value, list | tuple) else array
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise DataError(f"{name} is not a rectangular array of numbers: {error}") from error


def of_numbers(name: str, array: Array) -> Array:
    """Return the array after checking that it holds numbers or booleans.

    Raises:
        DataError: if it does not.
    """
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} must hold numbers, got dtype {array.dtype}; convert numbers with {name}.astype('float32'), and "
            "categories with gradflow.data.fit_preprocessing"
        )
    return array


def feature_matrix(name: str, array: Array, n_in: int) -> Array:
    """Return the array after checking that it has shape (batch, n_in), batch at least 1.

    Raises:
        DataError: if it has not.
    """
    if array.ndim != 2:
        hint = f"{name}.reshape(len({name}), -1)" if array.ndim > 2 or n_in == 1 else f"{name}.reshape(1, -1)"
        raise DataError(
            f"{name} must have shape (batch, {n_in}), got {array.shape}; {hint} gives two dimensions, if that is "
            "intended"
        )
    check_width(name, array.shape[1], n_in)
    if len(array) == 0:
        raise DataError(f"{name} has no rows; at least 1 is needed")
    return array


def check_width(name: str, width: int, n_in: int) -> None:
    """Check that inputs have the width of the first layer.

    Raises:
        DataError: if not, with both widths.
    """
    if width != n_in:
        raise DataError(f"{name} must have {n_in} features, as the network's first layer expects, got {width}")


def finite(name: str, array: Array, dtype: np.dtype, where: Where) -> Array:
    """Convert a matrix to ``dtype`` and check that all numbers are finite there.

    Raises:
        DataError: naming the first number that is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        converted = array.astype(dtype, copy=False)
        # Reductions need no memory; an elementwise comparison needs as much as the data. A finite sum decides in one
        # pass. If the sum overflows, the minimum and maximum decide; they are NaN if any value is.
        if abs(float(converted.sum())) < float("inf"):
            return converted
        if converted.min() > -float("inf") and converted.max() < float("inf"):
            return converted
    place, column = (int(index[0]) for index in (~(abs(converted) < float("inf"))).nonzero())
    value = float(converted[place, column])
    kind = "NaN" if value != value else f"infinity or a number too large for {dtype}"
    raise DataError(
        f"{name} holds values that are not finite, the first ({kind}) in {where.cell(place, column)}; remove these "
        "rows or fill in the values"
    )


def check_category_numbers(name: str, array: Array, categories: Sequence[int], where: Where) -> None:
    """Check that each of the last columns holds whole numbers from 0 up to its number of categories, exclusive.

    Raises:
        DataError: naming the first value that is none.
    """
    for column, most in enumerate(categories, start=array.shape[1] - len(categories)):
        numbers = array[:, column]
        wrong = (numbers < 0) | (numbers >= most) | (numbers % 1 != 0)
        if bool(wrong.any()):
            place = int(wrong.argmax())
            raise DataError(
                f"{name} holds {float(numbers[place]):g} in {where.cell(place, column)}, where the first layer, "
                f"EmbedColumns, expects the number of a category: a whole number from 0 to {most - 1}"
            )


def finite_targets(name: str, y: np.ndarray, where: Where) -> np.ndarray:
    """Return targets (rows, ...) after checking that all numbers are finite.

    Raises:
        DataError: naming the first row with a number that is not.
    """
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        place = int(np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(axis=1))[0])
        raise DataError(f"{name} holds NaN or infinity in {where.row(place)}; remove these rows or fill in the values")
    return y
