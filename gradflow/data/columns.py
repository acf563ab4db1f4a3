"""Columns of data as numbers or categories, and the transforms that turn them into network inputs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from gradflow.checks import boolean, known_name, positive, positive_integer
from gradflow.data.normal_quantiles import normal_quantile
from gradflow.data.table import number_in
from gradflow.data.where import Where
from gradflow.errors import DataError, shown

MISSING = ("refuse", "fill", "mark")
UNKNOWN = ("refuse", "zeros")
MOST_NUMBERS = 2**24
"""float32 holds every whole number up to this one."""

LARGEST_SQUARED = 1e150
"""Numbers are limited to this before they are squared."""


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
            f"column {name!r} holds numbers, but {shown(value)} in {where.row(place)}; correct it, or pass None or NaN "
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


def refuse_missing(name: str, gone: np.ndarray, where: Where, missing: str) -> None:
    """Raise a DataError for the first missing value if ``missing`` is "refuse"."""
    if missing == "refuse" and gone.any():
        place = int(np.flatnonzero(gone)[0])
        raise DataError(
            f"column {name!r} has no value in {where.row(place)}; remove such rows, or fit the preprocessing with "
            f"missing='fill' or missing='mark' for this column"
        )


# -- fitted columns ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """Base class of fitted columns."""

    kind: ClassVar[str]

    def config(self) -> dict[str, Any]:
        """Return the JSON representation."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class NumberColumn(Column):
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
        known_name("missing", self.missing, MISSING)


@dataclass(frozen=True)
class ClippedColumn(NumberColumn):
    """Numbers, as y / √(1 + (y / limit)²) with y = (x - center) / scale: nearly y around 0, and always within ±limit.

    Attributes:
        limit: the limit, above 0.
    """

    kind: ClassVar[str] = "clipped number"
    limit: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("limit", self.limit)

    def shape(self, scaled: np.ndarray) -> np.ndarray:
        """Return the clipped numbers for those that are centered and scaled."""
        return smoothly_clipped(scaled, self.limit)


def smoothly_clipped(x: np.ndarray, limit: float) -> np.ndarray:
    """Return x / √(1 + (x / limit)²)."""
    # Squares of larger numbers might overflow; these are at the limit anyway.
    size = np.clip(x / limit, -LARGEST_SQUARED, LARGEST_SQUARED)
    clipped: np.ndarray = limit * (size / np.sqrt(1 + size * size))
    return clipped


@dataclass(frozen=True)
class QuantileColumn(NumberColumn):
    """Numbers, as the normal quantile of the fraction of the training data below them.

    The fraction is linear between the quantiles; a number that equals several of them, as many rows do, has the mean of
    their fractions; one beyond the outer quantiles has 0 or 1, which is limited to 1e-7 from there, at ±5.2.

    Attributes:
        quantiles: those of evenly spaced fractions from 0 to 1, sorted; at least two that differ, if `scale` is not 0.
    """

    kind: ClassVar[str] = "quantile number"
    quantiles: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "quantiles", tuple(self.quantiles))
        edges = np.array(self.quantiles, np.float64)
        with np.errstate(over="ignore"):
            is_sound = len(edges) > 1 and 0 < edges[-1] - edges[0] < np.inf and (np.diff(edges) >= 0).all()
        if self.scale and not is_sound:
            raise DataError("quantiles must be sorted, and their range finite and above 0")

    @cached_property
    def knots(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distinct quantiles, and the smallest and largest fraction of each."""
        found, first, count = np.unique(self.quantiles, return_index=True, return_counts=True)
        fractions = np.linspace(0, 1, len(self.quantiles))
        return found, fractions[first], fractions[first + count - 1]

    def ranked(self, numbers: np.ndarray) -> np.ndarray:
        """Return the normal numbers for finite ones."""
        found, least, most = self.knots
        place = np.clip(np.searchsorted(found, numbers, "right") - 1, 0, len(found) - 2)
        start, width = found[place], np.diff(found)[place]
        # Far beyond the ends, the difference may overflow.
        within = np.clip(numbers, found[0], found[-1]) - start
        fraction = most[place] + within / width * (least[place + 1] - most[place])
        fraction = np.where(numbers == start, (least[place] + most[place]) / 2, fraction)
        fraction = np.where(numbers <= found[0], 0, np.where(numbers >= found[-1], 1, fraction))
        return normal_quantile(fraction)


@dataclass(frozen=True)
class _Categories(Column):
    categories: tuple[str | float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        if not self.categories or list(self.categories) != sorted(set(self.categories)):
            raise DataError(f"categories must be a sorted list of distinct values, got {self.categories!r}")

    @property
    def is_text(self) -> bool:
        """True if the categories are text."""
        return isinstance(self.categories[0], str)

    @cached_property
    def _place_of_text(self) -> dict[str | float, int]:
        return {category: place for place, category in enumerate(self.categories)}

    def places(self, values: np.ndarray) -> np.ndarray:
        """Return the index of each value among the categories; -1 if it is not one of them."""
        if self.is_text:
            return np.array([self._place_of_text.get(value, -1) for value in values], np.int64)
        categories = np.array(self.categories)
        place = np.minimum(np.searchsorted(categories, values), len(categories) - 1)
        return np.where(categories[place] == values, place, -1)


@dataclass(frozen=True)
class CategoryColumn(_Categories):
    """Categories, each as an input that is 1 in its rows and 0 elsewhere (one-hot).

    Attributes:
        categories: those of the training data, sorted: all text, or all numbers.
        missing: "refuse"; "fill" sets all inputs of the column to 0; "mark" also adds an input that is 1 where a value
            is missing.
        unknown: treatment of categories that are not in the training data: "refuse", or "zeros" in all inputs.
        signs: True for one input in place of two, if there are two categories: -1 for the first and 1 for the second.
        clip: None, or the limit of smooth clipping: each of these inputs x then is y / √(1 + (y / clip)²), with
            y = (x - center) / scale.
        centers, scales: those of each input, if there is a limit.
    """

    kind: ClassVar[str] = "category"
    missing: str = "refuse"
    unknown: str = "refuse"
    signs: bool = False
    clip: float | None = None
    centers: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known_name("missing", self.missing, MISSING)
        known_name("unknown", self.unknown, UNKNOWN)
        boolean("signs", self.signs)
        inputs = 0
        if self.clip is not None:
            positive("clip", self.clip)
            inputs = len(self.labels) + (self.missing == "mark")
        for name in ("centers", "scales"):
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != inputs or not np.isfinite(values).all() or not all(self.scales):
                raise DataError(f"{name} must be {inputs} finite numbers, one for each clipped input, got {values!r}")

    @property
    def has_sign(self) -> bool:
        """True if its two categories are one input, of -1 and 1."""
        return self.signs and len(self.categories) == 2

    @property
    def labels(self) -> tuple[str | float, ...]:
        """The categories that have an input: none if there is only one category, and the second if they are signs."""
        return self.categories[1:] if self.has_sign or len(self.categories) == 1 else self.categories

    def coded(self, places: np.ndarray) -> np.ndarray:
        """Return the inputs (rows, n) for the places of categories, -1 if unknown, and their number if missing."""
        n = len(self.categories)
        with_input = np.arange(n - len(self.labels), n + (self.missing == "mark"))
        inputs: np.ndarray = (places[:, None] == with_input).astype(np.float64)
        if self.has_sign:
            inputs[:, 0] -= places == 0
        if self.clip is not None:
            inputs = smoothly_clipped((inputs - np.array(self.centers)) / np.array(self.scales), self.clip)
        return inputs


@dataclass(frozen=True)
class EmbeddingColumn(_Categories):
    """Categories as one input that holds their number, for which `gradflow.EmbedColumns` has a vector.

    The number is 0 for all categories that are not listed, 1 for the first of ``categories``, and so on.

    Attributes:
        categories: those with a vector of their own, sorted: all text, or all numbers.
        size: the number of elements of a vector.
        missing: "refuse"; "fill" treats missing values as a category that is not listed; "mark" gives them the last
            number, and thereby a vector of their own.
    """

    kind: ClassVar[str] = "embedding"
    size: int
    missing: str = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_integer("size", self.size)
        known_name("missing", self.missing, MISSING)
        if self.rows > MOST_NUMBERS:
            raise DataError(f"an embedding can have at most {MOST_NUMBERS} rows, got {self.rows}")

    @property
    def rows(self) -> int:
        """The number of vectors."""
        return len(self.categories) + 1 + (self.missing == "mark")
