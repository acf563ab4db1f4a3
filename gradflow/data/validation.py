"""What users pass as data, checked at the boundary and converted once."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import DataError
from gradflow.ops import Array

__all__ = ["as_array", "features"]


def as_array(name: str, value: Any, backend: ReferenceBackend) -> Array:
    """Numbers or booleans as an array: the backend's own device array as it is, all else as a NumPy array.

    Raises:
        DataError: for objects, strings, complex numbers, ragged lists, or an array on a GPU.
    """
    if value is None:
        raise DataError(f"{name} is missing: expected an array, got None")
    if hasattr(value, "__cuda_array_interface__"):
        if not backend.owns(value):
            raise DataError(
                f"{name} lies on a GPU, but the network's backend is {backend.name!r}; "
                f"pass a NumPy array ({name}.get()), or make the network with backend='cupy'"
            )
        array = value
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise DataError(f"{name} is not a rectangular array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"{name} must hold numbers, got dtype {array.dtype}; convert with {name}.astype('float32') "
            "and encode text and categories first"
        )
    return array


def features(name: str, value: Any, n_in: int, dtype: np.dtype, backend: ReferenceBackend) -> Array:
    """Inputs of shape (batch, n_in), batch at least 1, all finite, in the network's dtype; on the host or the device.

    Raises:
        DataError: if shape, dtype or values do not fit.
    """
    array = as_array(name, value, backend)
    if array.ndim != 2:
        hint = f"{name}.reshape(len({name}), -1)" if array.ndim > 2 or n_in == 1 else f"{name}.reshape(1, -1)"
        raise DataError(
            f"{name} must have shape (batch, {n_in}), got {array.shape}; {hint} gives two dimensions, if that is meant"
        )
    if array.shape[1] != n_in:
        raise DataError(f"{name} must have {n_in} features, as the network's first layer, got {array.shape[1]}")
    if len(array) == 0:
        raise DataError(f"{name} has no rows; at least 1 is needed")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype, copy=False)
        # Both ends are NaN if any value is; and they take no memory, where a comparison takes as much as the data.
        low, high = float(converted.min()), float(converted.max())
    if not (low > -float("inf") and high < float("inf")):
        raise DataError(_where_not_finite(name, converted))
    return converted


def _where_not_finite(name: str, array: Array) -> str:
    bad = ~(abs(array) < float("inf"))
    row, column = (int(index[0]) for index in bad.nonzero())
    value = float(array[row, column])
    kind = "NaN" if value != value else f"infinity or a number too large for {array.dtype}"
    return (
        f"{name} holds {int(bad.sum())} values that are not finite, the first ({kind}) in row {row}, column {column}; "
        "remove these rows or fill them in"
    )
