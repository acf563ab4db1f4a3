"""Sample and class weights: validated, and combined into one weight per row with mean 1."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gradflow.data.classes import Classes, listed, suggestion
from gradflow.data.sources import Converted, equal_parts
from gradflow.data.validation import of_numbers
from gradflow.data.where import Where
from gradflow.errors import DataError, shown

ClassWeight = Mapping[Any, Any] | str
"""A weight for each class by its name or number, 1 for classes that are left out; or "balanced"."""


class RowWeights(NamedTuple):
    """Row weights: sample weight times class weight, divided by the mean of this product over the data.

    With mean 1 over all rows, the mean of weighted losses is the weighted mean, and no batch needs its own sum.

    Sample weights, and then class weights, are scaled by powers of 2 so that the largest weight of a row is about 1.
    This is exact, and no sum or product overflows, however large or small the weights are.

    Attributes:
        exponent: sample weights are in units of 2^exponent.
        of_class: float64 (classes,), the weight of each class that has rows, in a unit of its own.
        mean: the mean of sample weight times class weight over all rows, in these units.
        class_totals: float64 (classes,), the number of rows in each class.
    """

    exponent: int
    of_class: np.ndarray
    mean: float
    class_totals: np.ndarray

    @classmethod
    def fit(
        cls, parts: Iterable[Converted], class_weight: ClassWeight | None, n_classes: int, kind: str = ""
    ) -> RowWeights:
        """Compute the mean, in one pass over the rows.

        Args:
            parts: pairs of sample weights (rows,) and labels (rows,) or class probabilities (rows, classes). The result
                is bit-identical however the rows are cut into parts.
            class_weight: by class number; "balanced": rows / (classes · rows of the class); or None.
            n_classes: the number of classes.
            kind: the name of the data in error messages.

        Raises:
            DataError: if class_weight is invalid, or no row has a weight above 0.
        """
        totals, weights, rows, largest = np.zeros(n_classes), np.zeros(n_classes), 0, 0.0
        for sample_weight, classes in equal_parts(parts):
            rows += len(classes)
            totals += class_totals(classes, n_classes)
            before, largest = largest, max(largest, float(sample_weight.max()))
            weights = _scaled(weights, _exponent(before) - _exponent(largest))
            weights += class_totals(classes, n_classes, _scaled(sample_weight, -_exponent(largest)))
        if not weights.any():
            raise DataError(f"{kind}sample_weight is 0 in every row; nothing would be learned")
        of_class = np.ones(n_classes) if class_weight is None else _table(class_weight, totals)
        of_class = np.where(weights > 0, of_class, 0)
        if not of_class.any():
            raise DataError(f"class_weight gives every row of the {kind}data weight 0")
        of_class = _scaled(of_class, -int((np.frexp(of_class)[1] + np.frexp(weights)[1])[of_class > 0].max()))
        if not np.isfinite(of_class).all():
            raise DataError(
                f"the weights of the {kind}data differ too much: some are more than 1e300 times as large as others; "
                "pass weights that are closer to each other"
            )
        with np.errstate(under="ignore"):
            mean = float((of_class * weights).sum()) / rows
        return cls(_exponent(largest), of_class, mean, totals)

    @np.errstate(under="ignore")
    def of(self, sample_weight: np.ndarray, classes: np.ndarray, *, dtype: Any = np.float64) -> np.ndarray:
        """Return the weight of each row, (rows,)."""
        # The rounding of a matmul would depend on the number of rows.
        of_class = self.of_class[classes] if classes.ndim == 1 else (classes * self.of_class).sum(axis=1)
        weights: np.ndarray = (_scaled(sample_weight, -self.exponent) * of_class / self.mean).astype(dtype, copy=False)
        return weights


def _exponent(value: float) -> int:
    """Return the exponent e for which value / 2^e is in [½, 1); 0 for 0."""
    return math.frexp(value)[1]


def _scaled(values: np.ndarray, exponent: int) -> np.ndarray:
    """Return values · 2^exponent, exact unless it underflows or overflows."""
    with np.errstate(under="ignore", over="ignore"):
        scaled: np.ndarray = np.ldexp(values, exponent)
    return scaled


def class_totals(classes: np.ndarray, n_classes: int, sample_weight: np.ndarray | None = None) -> np.ndarray:
    """Return the rows of each class, float64 (n_classes,), counted by class probabilities and weights if given."""
    if classes.ndim == 1:
        return np.bincount(classes, weights=sample_weight, minlength=n_classes).astype(np.float64)
    with np.errstate(under="ignore"):
        weighted = classes if sample_weight is None else sample_weight[:, None] * classes
    totals: np.ndarray = weighted.sum(axis=0, dtype=np.float64)
    return totals


def checked_weights(name: str, values: np.ndarray, where: Where) -> np.ndarray:
    """Validate row weights and return them as float64 (rows,).

    Raises:
        DataError: for weights of the wrong shape, and for the first one that is negative or not finite, with its row.
    """
    with np.errstate(over="ignore"):
        weights: np.ndarray = of_numbers(name, values).astype(np.float64)
    rows = len(where.rows)
    if weights.shape != (rows,):
        raise DataError(f"{name} must have shape ({rows},), one weight for each row, got {weights.shape}")
    is_weight = np.isfinite(weights) & (weights >= 0)
    if not is_weight.all():
        place = int(np.argmin(is_weight))
        raise DataError(f"{name} must hold finite numbers, at least 0, got {weights[place]:g} in {where.row(place)}")
    return weights


def _table(class_weight: ClassWeight, totals: np.ndarray) -> np.ndarray:
    """Return the weight of each class, float64."""
    n_classes = len(totals)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise DataError(f'class_weight must be a dict of classes and weights, or "balanced", got {class_weight!r}')
        present = totals > 0
        return np.where(present, totals.sum() / (present.sum() * np.where(present, totals, 1)), 0)
    if not isinstance(class_weight, Mapping):
        raise DataError(f'class_weight must be a dict of classes and weights, or "balanced", got {class_weight!r}')
    table = np.ones(n_classes)
    for label, weight in class_weight.items():
        if not _is_label(label):
            raise DataError(f"class_weight must name classes by their numbers, 0, 1, ..., got {label!r}")
        if int(label) >= n_classes:
            raise DataError(f"class_weight names class {label}, but the classes are 0 to {n_classes - 1}")
        table[int(label)] = _class_weight(label, weight)
    return table


def weights_by_number(class_weight: ClassWeight | None, classes: Classes | None) -> ClassWeight | None:
    """Return class weights by class number instead of by name.

    Without class names, and for anything but a dict, the weights are returned unchanged.

    Raises:
        DataError: for a name that is not that of a class, or a weight that is none.
    """
    if classes is None or not isinstance(class_weight, Mapping):
        return class_weight
    numbers_of = {of_class: number for number, of_class in enumerate(classes)}
    for name in class_weight:
        if name not in numbers_of:
            hint = suggestion(name, classes)
            raise DataError(
                f"class_weight names the class {shown(name)}, but the classes are {listed(classes)}{hint and '.'}{hint}"
            )
    return {numbers_of[name]: _class_weight(name, weight) for name, weight in class_weight.items()}


def _class_weight(label: Any, weight: Any) -> float:
    try:
        number = float(weight) if isinstance(weight, numbers.Real) else -1.0
    except OverflowError:  # an integer beyond the largest float
        number = math.inf
    if not 0 <= number < math.inf:
        raise DataError(f"class_weight of class {label} must be a finite number, at least 0, got {shown(weight)}")
    return number


def _is_label(label: Any) -> bool:
    return isinstance(label, numbers.Integral) and int(label) >= 0


def described_weight(class_weight: ClassWeight | None, classes: Classes | None) -> str | dict[str, float] | None:
    """Return the JSON representation of valid class weights: by class name, or by number where there are no names."""
    if class_weight is None or isinstance(class_weight, str):
        return class_weight
    names = classes or range(1 + max(map(int, class_weight), default=-1))
    return {str(name): float(class_weight[name]) for name in names if name in class_weight}
