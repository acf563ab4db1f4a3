"""Weights of rows and of classes: checked, and brought to one weight per row with mean 1."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.validation import as_array
from gradflow.errors import DataError
from gradflow.ops import Array

__all__ = ["ClassWeight", "class_totals", "described_weight", "row_weights"]

ClassWeight = Mapping[Any, Any] | str
"""A weight for each class by its number, 1 for those left out; or "balanced"."""


def row_weights(
    sample_weight: Any, class_weight: ClassWeight | None, classes: np.ndarray | None, rows: int, backend: Any, kind: str
) -> np.ndarray | None:
    """The weight of each row, float64 (rows,) with mean 1: sample weight times class weight. None without either.

    With mean 1 over all rows, the mean of weighted losses is the weighted mean, and no batch needs a sum of its own.

    Args:
        sample_weight: numbers of shape (rows,), at least 0 and not all 0; or None.
        class_weight: by class, or "balanced": rows / (classes · rows of the class); or None.
        classes: labels (rows,) or shares of the classes (rows, classes), on the host; None where there are no classes.
        rows: how many rows there are.
        backend: of the network, for weights on its device.
        kind: names the data in errors.

    Raises:
        DataError: for weights of the wrong length, negative, not finite or all 0; for class weights without classes.
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(rows)
    if sample_weight is not None:
        weights = _checked(f"{kind}sample_weight", sample_weight, rows, backend)
    if class_weight is not None:
        if classes is None:
            raise DataError(
                "class_weight goes with classes: with softmax_cross_entropy, or binary_cross_entropy and one output; "
                "use sample_weight"
            )
        table = _table(class_weight, classes)
        weights = weights * (table[classes] if classes.ndim == 1 else classes @ table)
        if not weights.any():
            raise DataError(f"class_weight gives every row of the {kind}data the weight 0")
    normalised: np.ndarray = weights / weights.mean()
    return normalised


def class_totals(classes: np.ndarray, n_classes: int) -> np.ndarray:
    """How many rows each class has, float64 (n_classes,); rows that are shared count by their shares."""
    if classes.ndim == 1:
        return np.bincount(classes, minlength=n_classes).astype(np.float64)
    totals: np.ndarray = classes.sum(axis=0, dtype=np.float64)
    return totals


def _checked(name: str, value: Any, rows: int, backend: ReferenceBackend) -> np.ndarray:
    array: Array = as_array(name, value, backend)
    weights = (backend.to_host(array) if hasattr(array, "__cuda_array_interface__") else array).astype(np.float64)
    if weights.shape != (rows,):
        raise DataError(f"{name} must have shape ({rows},), one weight for each row, got {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        row = int(np.argmin(np.isfinite(weights) & (weights >= 0)))
        raise DataError(f"{name} must hold finite numbers, at least 0, got {weights[row]:g} in row {row}")
    if not weights.any():
        raise DataError(f"{name} is 0 in every row; nothing would be learned")
    return weights


def _table(class_weight: ClassWeight, classes: np.ndarray) -> np.ndarray:
    """The weight of each class, float64."""
    n_classes = int(classes.max()) + 1 if classes.ndim == 1 else classes.shape[1]
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise DataError(f'class_weight must be a dict of classes and weights, or "balanced", got {class_weight!r}')
        totals = class_totals(classes, n_classes)
        present = totals > 0
        return np.where(present, totals.sum() / (present.sum() * np.where(present, totals, 1)), 0)
    if not isinstance(class_weight, Mapping):
        raise DataError(f'class_weight must be a dict of classes and weights, or "balanced", got {class_weight!r}')
    table = np.ones(max([n_classes, *(int(label) + 1 for label in class_weight if _is_label(label))]))
    for label, weight in class_weight.items():
        if not _is_label(label):
            raise DataError(f"class_weight must name classes by their numbers, 0, 1, ..., got {label!r}")
        if not isinstance(weight, numbers.Real) or not 0 <= float(weight) < float("inf"):
            raise DataError(f"class_weight of class {label} must be a finite number, at least 0, got {weight!r}")
        table[int(label)] = weight
    return table[:n_classes]


def _is_label(label: Any) -> bool:
    return isinstance(label, numbers.Integral) and int(label) >= 0


def described_weight(class_weight: ClassWeight | None) -> str | dict[str, float] | None:
    """Class weights as JSON holds them."""
    if class_weight is None or isinstance(class_weight, str):
        return class_weight
    return {str(label): float(weight) for label, weight in class_weight.items()}
