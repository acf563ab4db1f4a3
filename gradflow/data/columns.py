"""Rules that turn one column of data into network inputs, and the column transforms they fit on training data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from gradflow.checks import known_name, positive_integer
from gradflow.data.table import number_in
from gradflow.data.where import Where
from gradflow.errors import DataError, GradflowError
from gradflow.random import SAMPLE_STREAM, philox

_MISSING = ("refuse", "fill", "mark")
_UNKNOWN = ("refuse", "zeros")
_SAMPLE = 65536


# -- input columns ----------------------------------------------------------------------------------------------------


def holds_text(values: np.ndarray) -> bool:
    """True if a `Table` column (rows,) holds text."""
    return values.dtype.kind == "O"


def as_numbers(name: str, values: np.ndarray, where: Where) -> np.ndarray:
    """Convert a column to float64, with missing values (None, NaN) as NaN.

    Raises:
        DataError: naming the first value that is not a finite number.
    """
    if values.dtype.kind in "fiub":
        numbers = values.astype(np.float64)
    else:
        numbers = np.array([_number(name, value, place, where) for place, value in enumerate(values)])
    if np.isinf(numbers).any():
        place = int(np.flatnonzero(np.isinf(numbers))[0])
        raise DataError(f"column {name!r} holds infinity in {where.row(place)}; remove this row or correct it")
    return numbers


def _number(name: str, value: Any, place: int, where: Where) -> float:
    try:
        return np.nan if value is None else number_in(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"column {name!r} holds numbers, but {value!s:.40} in {where.row(place)}; correct it, or pass None or NaN "
            "for a missing value"
        ) from None


def as_categories(name: str, values: np.ndarray, where: Where, *, text: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a column as text or float64, and a mask of the missing values (None, NaN), which are "" or 0 there.

    Raises:
        DataError: naming the first value that is not a number, if the categories are numbers.
    """
    if not text:
        numbers = as_numbers(name, values, where)
        missing = np.isnan(numbers)
        return np.where(missing, 0, numbers), missing
    if not holds_text(values):
        values = np.array([None if value != value else category_label(value) for value in values.tolist()], object)
    missing = np.array([value is None for value in values], np.bool_)
    # An object array, because in a text array every value takes as much memory as the longest.
    filled = ["" if gone else str(value) for value, gone in zip(values, missing, strict=True)]
    return np.array(filled, object), missing


def category_label(category: str | float) -> str:
    """Format a category for display: whole numbers without a decimal point."""
    if isinstance(category, float) and category.is_integer():
        return str(int(category))
    return str(category)


# -- fitted columns ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberColumn:
    """Numbers, as (x - center) / scale.

    Attributes:
        center: the value that is mapped to 0, and that replaces missing values.
        scale: positive; or 0 for a column that was constant in training, which is dropped.
        missing: "refuse"; "fill" replaces missing values by `center`; "mark" also adds an input that is 1 where a value
            is missing and 0 elsewhere.
    """

    kind: ClassVar[str] = "number"
    center: float
    scale: float
    missing: str = "refuse"

    def __post_init__(self) -> None:
        if not (np.isfinite([self.center, self.scale]).all() and self.scale >= 0):
            raise DataError(f"center and scale must be finite, and scale at least 0, got {self!r}")
        known_name("missing", self.missing, _MISSING)

    def config(self) -> dict[str, Any]:
        """Return the JSON representation."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class CategoryColumn:
    """Categories, each as an input that is 1 in its rows and 0 elsewhere (one-hot).

    Attributes:
        categories: those of the training data, sorted: all text, or all numbers.
        missing: "refuse"; "fill" sets all inputs of the column to 0; "mark" also adds an input that is 1 where a value
            is missing.
        unknown: treatment of categories that are not in the training data: "refuse", or "zeros" in all inputs.
    """

    kind: ClassVar[str] = "category"
    categories: tuple[str | float, ...]
    missing: str = "refuse"
    unknown: str = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        if not self.categories or list(self.categories) != sorted(set(self.categories)):
            raise DataError(f"categories must be a sorted list of distinct values, got {self.categories!r}")
        known_name("missing", self.missing, _MISSING)
        known_name("unknown", self.unknown, _UNKNOWN)

    @property
    def is_text(self) -> bool:
        """True if the categories are text."""
        return any(isinstance(category, str) for category in self.categories)

    def config(self) -> dict[str, Any]:
        """Return the JSON representation."""
        return {"kind": self.kind, **asdict(self)}


# -- rules ------------------------------------------------------------------------------------------------------------


class ColumnFit:
    """Statistics of a column that a rule accumulates in one pass over the training data."""

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        """Add more rows."""
        raise GradflowError(f"{type(self).__name__} does not define update(name, values, where)")

    def result(self) -> NumberColumn | CategoryColumn:
        """Return the column fitted on all rows so far."""
        raise GradflowError(f"{type(self).__name__} does not define result()")


class ColumnRule:
    """Base class of the rules that turn a column into inputs."""

    def begin(self) -> ColumnFit:
        """Return a fit that has seen no rows."""
        raise GradflowError(f"{type(self).__name__} does not define begin()")


class _NumberRule(ColumnRule):
    def __init__(self, missing: str = "refuse") -> None:
        self.missing = known_name("missing", missing, _MISSING)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(missing={self.missing!r})"


class Standardize(_NumberRule):
    """Scale numbers to mean 0 and standard deviation 1 on the training data; a constant column is dropped.

    Args:
        missing: "refuse" missing values; "fill" them with the mean; or also "mark" them in an extra input.
    """

    def begin(self) -> ColumnFit:
        return Moments(self.missing)


class RobustScale(_NumberRule):
    """Scale numbers to median 0 and interquartile range 1 on the training data, which is robust to outliers.

    Quantiles are exact up to 65,536 rows; beyond that they are estimated from a random sample of that size, with a
    standard error of 0.2 % in rank. If half of the values are equal, the standard deviation is the scale. A constant
    column is dropped.

    Args:
        missing: "refuse" missing values; "fill" them with the median; or also "mark" them in an extra input.
    """

    def begin(self) -> ColumnFit:
        return _Quantiles(self.missing)


class Unchanged(ColumnRule):
    """Pass numbers through unchanged. Missing values are refused."""

    def begin(self) -> ColumnFit:
        return _Nothing()

    def __repr__(self) -> str:
        return "Unchanged()"


class OneHot(ColumnRule):
    """Encode each category as one input; a column with a single category is dropped.

    Args:
        missing: "refuse" missing values; "fill" with 0 in all inputs; or "mark" them in an extra input.
        unknown: treatment of categories that are not in the training data: "refuse", or "zeros" in all inputs.
        most: refuse columns with more categories than this, such as names.
    """

    def __init__(self, missing: str = "refuse", unknown: str = "refuse", most: int = 1000) -> None:
        self.missing = known_name("missing", missing, _MISSING)
        self.unknown = known_name("unknown", unknown, _UNKNOWN)
        self.most = positive_integer("most", most)

    def begin(self) -> ColumnFit:
        return CategoryFit(self)

    def __repr__(self) -> str:
        return f"OneHot(missing={self.missing!r}, unknown={self.unknown!r}, most={self.most})"


class Moments(ColumnFit):
    """Mean and sum of squared deviations, updated chunk by chunk: Chan, Golub & LeVeque (1979), equation 2.1.

    Attributes:
        mean: the mean of all numbers so far.
    """

    def __init__(self, missing: str) -> None:
        self._missing = missing
        self._count, self.mean, self._squares = 0, 0.0, 0.0
        self._low, self._high = np.inf, -np.inf

    @np.errstate(all="ignore")
    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        numbers = _present(name, values, where, self._missing)
        if not len(numbers):
            return
        mean, count = float(numbers.mean()), self._count + len(numbers)
        difference = mean - self.mean
        self._squares += float(((numbers - mean) ** 2).sum()) + difference**2 * self._count * len(numbers) / count
        self.mean += difference * len(numbers) / count
        self._count = count
        self._low, self._high = min(self._low, float(numbers.min())), max(self._high, float(numbers.max()))

    @property
    def std(self) -> float:
        """The standard deviation; exactly 0 for a constant column, regardless of rounding."""
        if not self._low < self._high:
            return 0.0
        # The squares of numbers around 1e-170 underflow to 0; their range then serves as the scale.
        return math.sqrt(self._squares / self._count) or self._high - self._low

    def result(self) -> NumberColumn:
        return NumberColumn(self.mean, self.std, self._missing)


class _Quantiles(ColumnFit):
    """A random sample of the rows: each row draws a random number, and the rows with the smallest are kept."""

    def __init__(self, missing: str) -> None:
        self._moments = Moments(missing)
        self._missing = missing
        self._updates = 0
        self._keys, self._sample = np.empty(0, np.uint64), np.empty(0)

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        self._moments.update(name, values, where)
        numbers = _present(name, values, where, self._missing)
        keys = philox(2 * len(numbers), seed=0, stream=SAMPLE_STREAM, step=self._updates).view(np.uint64)
        self._updates += 1
        self._keys, self._sample = np.append(self._keys, keys), np.append(self._sample, numbers)
        if len(self._keys) > _SAMPLE:
            kept = np.argpartition(self._keys, _SAMPLE)[:_SAMPLE]
            self._keys, self._sample = self._keys[kept], self._sample[kept]

    def result(self) -> NumberColumn:
        if not len(self._sample):
            return NumberColumn(0.0, 0.0, self._missing)
        low, median, high = (float(value) for value in np.quantile(self._sample, [0.25, 0.5, 0.75]))
        std = self._moments.std
        return NumberColumn(median, high - low if std and high > low else std, self._missing)


class _Nothing(ColumnFit):
    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        _present(name, values, where, "refuse")

    def result(self) -> NumberColumn:
        return NumberColumn(0.0, 1.0)


class CategoryFit(ColumnFit):
    """The categories seen so far.

    Attributes:
        seen: the categories.
        rows: the number of rows with a category.
    """

    def __init__(self, rule: OneHot) -> None:
        self._rule = rule
        self._name, self._text, self._bool = "", False, True
        self.seen: set[str | float] = set()
        self.rows = 0

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        if not self.seen:
            self._name, self._text = name, holds_text(values)
        self._bool = self._bool and values.dtype.kind == "b"
        categories, missing = as_categories(name, values, where, text=self._text)
        refuse_missing(name, missing, where, self._rule.missing)
        present = categories[~missing]
        self.rows += len(present)
        self.seen.update(set(present) if self._text else np.unique(present).tolist())
        if len(self.seen) > self._rule.most:
            raise DataError(
                f"column {name!r} has more than {self._rule.most} categories; omit it from the features, merge "
                "categories, or pass OneHot(most=...)"
            )

    def result(self) -> CategoryColumn:
        if not self.seen:
            raise DataError(f"column {self._name!r} has no value in any row; omit it from the features")
        categories = sorted(map(bool, self.seen)) if self._bool else sorted(self.seen)
        return CategoryColumn(tuple(categories), self._rule.missing, self._rule.unknown)


def _present(name: str, values: np.ndarray, where: Where, missing: str) -> np.ndarray:
    numbers = as_numbers(name, values, where)
    gone = np.isnan(numbers)
    refuse_missing(name, gone, where, missing)
    return numbers[~gone] if gone.any() else numbers


def refuse_missing(name: str, gone: np.ndarray, where: Where, missing: str) -> None:
    """Raise a DataError for the first missing value if ``missing`` is "refuse"."""
    if missing == "refuse" and gone.any():
        place = int(np.flatnonzero(gone)[0])
        raise DataError(
            f"column {name!r} has no value in {where.row(place)}; remove such rows, or fit the preprocessing with "
            f"missing='fill' or missing='mark' for this column"
        )
