"""Rules that turn one column of data into network inputs, and the statistics that they collect to fit a transform."""

from __future__ import annotations

import copy
import math
from collections import Counter
from dataclasses import replace
from typing import Self

import numpy as np

from gradflow.checks import boolean, instance, integer, known_name, non_negative, positive, positive_integer
from gradflow.data.columns import (
    MISSING,
    MOST_NUMBERS,
    UNKNOWN,
    CategoryColumn,
    ClippedColumn,
    Column,
    EmbeddingColumn,
    NumberColumn,
    QuantileColumn,
    as_categories,
    as_numbers,
    holds_text,
    refuse_missing,
)
from gradflow.data.where import Where
from gradflow.errors import DataError, GradflowError
from gradflow.random import NOISE_STREAM, SAMPLE_STREAM, RandomNumbers, philox

_SAMPLE = 65536
_PART = 4096


class ColumnFit:
    """Statistics of a column that a rule accumulates in one pass over the training data."""

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        """Add more rows."""
        raise GradflowError(f"{type(self).__name__} does not define update(name, values, where)")

    def result(self) -> Column:
        """Return the column fitted on all rows so far."""
        raise GradflowError(f"{type(self).__name__} does not define result()")

    @property
    def categories(self) -> Counter[str | float] | None:
        """The number of rows with each category, if they have inputs of their own; None for other columns."""
        return None


class ColumnRule:
    """Base class of the rules that turn a column into inputs."""

    def begin(self) -> ColumnFit:
        """Return a fit that has seen no rows."""
        raise GradflowError(f"{type(self).__name__} does not define begin()")


class _NumberRule(ColumnRule):
    def __init__(self, missing: str = "refuse") -> None:
        self.missing = known_name("missing", missing, MISSING)

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


class SmoothClip(_NumberRule):
    """Scale numbers robustly, and keep outliers within ±limit without a jump: the preprocessing of RealMLP.

    It is y / √(1 + (y / limit)²) with y = (x - median) / s, where s is the interquartile range; half the range of x
    where the quartiles coincide (Holzmüller, Grinsztajn & Steinwart, 2024, arXiv:2407.04491). Quantiles are those of
    `RobustScale`, and a constant column is dropped.

    Args:
        missing: "refuse" missing values; "fill" them with the median; or also "mark" them in an extra input.
        limit: the limit, above 0.
    """

    def __init__(self, missing: str = "refuse", limit: float = 3.0) -> None:
        super().__init__(missing)
        self.limit = positive("limit", limit)

    def begin(self) -> ColumnFit:
        return _ClippedFit(self.missing, self.limit)

    def __repr__(self) -> str:
        return f"SmoothClip(missing={self.missing!r}, limit={self.limit!r})"


class QuantileNormal(_NumberRule):
    """Turn numbers of any distribution into normally distributed ones, by their rank in the training data.

    A number becomes the normal quantile of the fraction of rows below it, as by scikit-learn's
    ``QuantileTransformer(output_distribution="normal")``: linear between quantiles, at the mean of the fractions of
    equal quantiles, and ±5.2 at and beyond the smallest and the largest number. There is a quantile for each 30 rows,
    from 10 to ``quantiles`` of them, as TabM and others of its authors take (Gorishniy et al., 2025, arXiv:2410.24210).
    They are those of `RobustScale`'s sample, with the smallest and the largest number of all rows. A constant column is
    dropped.

    Noise, only for the fit, spreads equal numbers at the ends: without it those of a column of counts, half of them 0,
    become -5.2; with it, -0.67, in the middle of their ranks. The authors' "noisy-quantile" divides 1e-3 by the
    standard deviation, which depends on the unit; here noise is a fraction of it.

    Args:
        missing: "refuse" missing values; "fill" them with the median; or also "mark" them in an extra input.
        quantiles: the largest number of quantiles, at least 2.
        noise: the standard deviation of normal noise on the training data, in standard deviations of the column, such
            as 1e-3; 0 adds none.
        seed: for the noise.
    """

    def __init__(self, missing: str = "refuse", quantiles: int = 1000, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__(missing)
        self.quantiles = integer("quantiles", quantiles, least=2, most=_SAMPLE)
        self.noise = non_negative("noise", noise)
        self.seed = integer("seed", seed, least=0, most=2**64 - 1)

    def begin(self) -> ColumnFit:
        return _NormalFit(self)

    def __repr__(self) -> str:
        return (
            f"QuantileNormal(missing={self.missing!r}, quantiles={self.quantiles}, noise={self.noise!r}, "
            f"seed={self.seed})"
        )


class Unchanged(ColumnRule):
    """Pass numbers through unchanged. Missing values are refused."""

    def begin(self) -> ColumnFit:
        return _Nothing()

    def __repr__(self) -> str:
        return "Unchanged()"


class OneHot(ColumnRule):
    """Encode each category as one input; a column with a single category is dropped.

    RealMLP's coding (Holzmüller, Grinsztajn & Steinwart, 2024, arXiv:2407.04491) of columns with at most eight
    categories, and with a vector of eight numbers for each category of the others, is::

        OneHot("fill", "zeros", most=8, signs=True, clip=3.0, otherwise=Embedding(8, min_rows=1, missing="fill"))

    Args:
        missing: "refuse" missing values; "fill" with 0 in all inputs; or "mark" them in an extra input.
        unknown: treatment of categories that are not in the training data: "refuse", or "zeros" in all inputs.
        most: refuse columns with more categories than this, such as names, or leave them to ``otherwise``.
        signs: True encodes two categories as one input, -1 for the first and 1 for the second, in place of two inputs.
            Inputs that would be 0 in both are 0.
        clip: None, or the limit of smooth clipping, above 0: each input then is centered, scaled and clipped as numbers
            are by ``SmoothClip(limit=clip)``, with exact quantiles. An input without variation keeps the scale 1.
        otherwise: the rule of columns with more categories; it refuses missing values if and only if this rule does.
    """

    def __init__(
        self,
        missing: str = "refuse",
        unknown: str = "refuse",
        most: int = 1000,
        *,
        signs: bool = False,
        clip: float | None = None,
        otherwise: Embedding | None = None,
    ) -> None:
        self.missing = known_name("missing", missing, MISSING)
        self.unknown = known_name("unknown", unknown, UNKNOWN)
        self.most = positive_integer("most", most)
        self.signs = boolean("signs", signs)
        self.clip = None if clip is None else positive("clip", clip)
        self.otherwise = otherwise
        if otherwise is not None:
            instance("otherwise", otherwise, Embedding, "a gradflow.Embedding(...), or None")
            if (otherwise.missing == "refuse") != (missing == "refuse"):
                raise DataError(
                    f"otherwise must accept missing values if and only if this rule does: one has missing="
                    f"{missing!r}, the other {otherwise.missing!r}"
                )

    def begin(self) -> ColumnFit:
        return CategoryFit(self)

    def __repr__(self) -> str:
        others = {"signs": self.signs, "clip": self.clip, "otherwise": self.otherwise}
        given = "".join(f", {name}={value!r}" for name, value in others.items() if value not in (False, None))
        return f"OneHot(missing={self.missing!r}, unknown={self.unknown!r}, most={self.most}{given})"


class Embedding(ColumnRule):
    """Turn each category into a vector that the network learns: suited to columns with many categories.

    The preprocessing produces one input that holds the category's number, and `gradflow.EmbedColumns`, the first layer
    of the network, replaces it by the vector: ``gf.MLP([preprocessing.n_out, 64, 10], preprocessing=preprocessing)``.
    Categories that are rare in the training data, or not in it, share one vector.

    Args:
        size: the number of elements of a vector. None chooses min(600, round(1.6 n^0.56)) for n vectors, the rule of
            thumb of fastai (Howard & Gugger, 2020): 6 for 10, 21 for 100, 77 for 1000.
        min_rows: the number of training rows from which a category has a vector of its own.
        missing: "refuse" missing values; "fill" treats them as a category that is not in the training data; "mark"
            gives them a vector of their own.
        most: refuse columns with more categories than this, such as names; at most 2**24 - 2.
    """

    def __init__(
        self, size: int | None = None, min_rows: int = 2, missing: str = "refuse", most: int = 100_000
    ) -> None:
        self.size = None if size is None else positive_integer("size", size)
        self.min_rows = positive_integer("min_rows", min_rows)
        self.missing = known_name("missing", missing, MISSING)
        self.most = integer("most", most, least=1, most=MOST_NUMBERS - 2)

    def begin(self) -> ColumnFit:
        return _EmbeddingFit(self)

    def __repr__(self) -> str:
        return f"Embedding(size={self.size}, min_rows={self.min_rows}, missing={self.missing!r}, most={self.most})"


class _NumberFit(ColumnFit):
    """Statistics of numbers in parts of 4096, which makes their rounding independent of how the rows come."""

    def __init__(self, missing: str) -> None:
        self._missing = missing
        self._waiting = np.empty(0)

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        numbers = np.append(self._waiting, _present(name, values, where, self._missing))
        whole = len(numbers) - len(numbers) % _PART
        for start in range(0, whole, _PART):
            self._add(numbers[start : start + _PART])
        self._waiting = numbers[whole:]

    def complete(self) -> Self:
        """Return the statistics of all rows so far, with the last part, which may be smaller."""
        of_all = copy.copy(self)
        if len(self._waiting):
            of_all._add(self._waiting)
            of_all._waiting = np.empty(0)
        return of_all

    def _add(self, numbers: np.ndarray) -> None:
        """Add numbers, at least one."""
        raise GradflowError(f"{type(self).__name__} does not define _add(numbers)")


class Moments(_NumberFit):
    """Mean and sum of squared deviations, updated part by part: Chan, Golub & LeVeque (1979), equation 2.1.

    Attributes:
        count: the number of numbers, when `complete`.
        mean: their mean, when `complete`.
    """

    def __init__(self, missing: str) -> None:
        super().__init__(missing)
        self.count, self.mean, self._squares = 0, 0.0, 0.0
        self._low, self._high = np.inf, -np.inf

    @np.errstate(all="ignore")
    def _add(self, numbers: np.ndarray) -> None:
        mean, count = float(numbers.mean()), self.count + len(numbers)
        difference = mean - self.mean
        self._squares += (
            float(((numbers - mean) ** 2).sum()) + difference * difference * self.count * len(numbers) / count
        )
        self.mean += difference * len(numbers) / count
        self.count = count
        self._low, self._high = min(self._low, float(numbers.min())), max(self._high, float(numbers.max()))

    @property
    def std(self) -> float:
        """The standard deviation, when `complete`; exactly 0 for a constant column, regardless of rounding."""
        if not self._low < self._high:
            return 0.0
        # The squares of numbers around 1e-170 underflow to 0; their range then serves as the scale.
        return math.sqrt(self._squares / self.count) or self._high - self._low

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest number, when `complete`; 0 without numbers."""
        return (self._low, self._high) if self.count else (0.0, 0.0)

    def result(self) -> NumberColumn:
        of_all = self.complete()
        return NumberColumn(of_all.mean, of_all.std, self._missing)


class _Quantiles(_NumberFit):
    """A random sample of the rows: each row draws a random number, and the rows with the smallest are kept."""

    def __init__(self, missing: str) -> None:
        super().__init__(missing)
        self._moments = Moments(missing)
        self._parts = 0
        self._keys, self._sample = np.empty(0, np.uint64), np.empty(0)

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        self._moments.update(name, values, where)
        super().update(name, values, where)

    def _add(self, numbers: np.ndarray) -> None:
        keys = philox(2 * len(numbers), seed=0, stream=SAMPLE_STREAM, step=self._parts).view(np.uint64)
        self._parts += 1
        self._keys, self._sample = np.append(self._keys, keys), np.append(self._sample, numbers)
        if len(self._keys) > _SAMPLE:
            kept = np.argpartition(self._keys, _SAMPLE)[:_SAMPLE]
            self._keys, self._sample = self._keys[kept], self._sample[kept]

    def result(self) -> NumberColumn:
        low, median, high = self.quartiles()
        std = self._moments.complete().std
        return NumberColumn(median, high - low if std and high > low else std, self._missing)

    def quartiles(self) -> tuple[float, float, float]:
        """Return the quartiles of the sample; 0 if it is empty."""
        sample = self.complete()._sample
        low, median, high = np.quantile(sample, [0.25, 0.5, 0.75]).tolist() if len(sample) else (0.0, 0.0, 0.0)
        return low, median, high


class _ClippedFit(_Quantiles):
    def __init__(self, missing: str, limit: float) -> None:
        super().__init__(missing)
        self._limit = limit

    def result(self) -> ClippedColumn:
        low, median, high = self.quartiles()
        moments = self._moments.complete()
        least, most = moments.ends
        return ClippedColumn(
            median, high - low if moments.std and high > low else most / 2 - least / 2, self._missing, self._limit
        )


class _NormalFit(_Quantiles):
    def __init__(self, rule: QuantileNormal) -> None:
        super().__init__(rule.missing)
        self._rule = rule

    @np.errstate(all="ignore")
    def result(self) -> QuantileColumn:
        _, median, _ = self.quartiles()
        moments = self._moments.complete()
        if not moments.std:
            return QuantileColumn(median, 0.0, self._missing)
        sample = np.sort(self.complete()._sample)
        if self._rule.noise:
            noise = RandomNumbers(self._rule.seed, NOISE_STREAM).normal(self._rule.noise, sample.shape)
            sample += noise * moments.std
        count = min(self._rule.quantiles, moments.count, max(10, moments.count // 30))
        quantiles = np.maximum.accumulate(np.quantile(sample, np.linspace(0, 1, count)))
        # The sample may lack the ends, and noise may have moved them inwards.
        least, most = moments.ends
        quantiles[0], quantiles[-1] = min(quantiles[0], least), max(quantiles[-1], most)
        return QuantileColumn(median, 1.0, self._missing, tuple(quantiles.tolist()))


class _Nothing(ColumnFit):
    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        _present(name, values, where, "refuse")

    def result(self) -> NumberColumn:
        return NumberColumn(0.0, 1.0)


class _CategoryCounts(ColumnFit):
    """The categories so far.

    Args:
        rule: the rule.
        most: the largest number of categories.
        otherwise: what may suit a column with too many categories better.

    Attributes:
        name: the name of the column.
        counts: the number of rows with each category.
        missing: the number of rows without one.
    """

    def __init__(self, rule: OneHot | Embedding, most: int, otherwise: str) -> None:
        self._most, self._missing, self._kind = most, rule.missing, type(rule).__name__
        self._otherwise = otherwise
        self.name, self._text, self._bool = "", False, True
        self.counts: Counter[str | float] = Counter()
        self.missing = 0

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        if not self.counts:
            self.name, self._text = name, holds_text(values)
        self._bool = self._bool and values.dtype.kind == "b"
        categories, missing = as_categories(name, values, where, text=self._text)
        refuse_missing(name, missing, where, self._missing)
        self.missing += int(np.count_nonzero(missing))
        present = categories[~missing]
        if self._text:
            self.counts.update(present)
        else:
            numbers, rows = np.unique(present, return_counts=True)
            self.counts.update(dict(zip(numbers.tolist(), rows.tolist(), strict=True)))
        if len(self.counts) > self._most:
            raise DataError(
                f"column {name!r} has more than {self._most} categories; {self._otherwise}, omit it from the features, "
                f"merge categories, or pass {self._kind}(most=...)"
            )

    def sorted_categories(self, min_rows: int = 1) -> list[str | float]:
        """Return the categories with at least so many rows, sorted."""
        if not self.counts:
            raise DataError(f"column {self.name!r} has no value in any row; omit it from the features")
        found = sorted(category for category, rows in self.counts.items() if rows >= min_rows)
        return [bool(category) for category in found] if self._bool else found


class CategoryFit(_CategoryCounts):
    """The categories so far, for inputs of their own."""

    def __init__(self, rule: OneHot) -> None:
        most = rule.most if rule.otherwise is None else max(rule.most, rule.otherwise.most)
        remedy = "set its rule to gradflow.Embedding(), or to gradflow.data.Dates() if it holds dates"
        super().__init__(rule, most, remedy)
        self._rule = rule

    @property
    def categories(self) -> Counter[str | float]:
        return self.counts

    def result(self) -> CategoryColumn | EmbeddingColumn:
        rule = self._rule
        if rule.otherwise is not None and len(self.counts) > rule.most:
            return _embedding_column(rule.otherwise, self)
        column = CategoryColumn(tuple(self.sorted_categories()), rule.missing, rule.unknown, rule.signs)
        if rule.clip is None:
            return column
        # One row for each category, for the missing value, and all of their numbers.
        codes = column.coded(np.arange(len(column.categories) + 1))
        rows = np.array([*(self.counts[category] for category in column.categories), self.missing])
        scaling = [_scaling_of_counts(values, rows) for values in codes.T]
        return replace(
            column,
            clip=rule.clip,
            centers=tuple(center for center, _ in scaling),
            scales=tuple(scale for _, scale in scaling),
        )


def _scaling_of_counts(values: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """Return the center and the scale that `SmoothClip` has for values, each in so many rows; 1 if it is 0."""
    values, rows = values[rows > 0], rows[rows > 0]
    order = np.argsort(values, kind="stable")
    last = np.cumsum(rows[order])
    position = np.array([0.25, 0.5, 0.75]) * (last[-1] - 1)
    below = np.floor(position)
    lower, upper = (values[order][np.searchsorted(last, place, "right")] for place in (below, np.ceil(position)))
    low, median, high = (lower + (upper - lower) * (position - below)).tolist()
    scale = high - low or float(values.max() - values.min()) / 2
    return median, scale or 1.0


class _EmbeddingFit(_CategoryCounts):
    def __init__(self, rule: Embedding) -> None:
        super().__init__(rule, rule.most, "set its rule to gradflow.data.Dates() if it holds dates")
        self._rule = rule

    def result(self) -> EmbeddingColumn:
        return _embedding_column(self._rule, self)


def _embedding_column(rule: Embedding, found: _CategoryCounts) -> EmbeddingColumn:
    categories = tuple(found.sorted_categories(rule.min_rows))
    if not categories:
        raise DataError(
            f"column {found.name!r} has {len(found.counts)} categories, none of them in {rule.min_rows} rows or more; "
            "omit it from the features, or pass Embedding(min_rows=1)"
        )
    column = EmbeddingColumn(categories, rule.size or 1, rule.missing)
    return column if rule.size is not None else replace(column, size=embedding_size(column.rows))


def embedding_size(vectors: int) -> int:
    """Return the default number of elements of an embedding's vectors: min(600, round(1.6 n^0.56)) for n vectors.

    That is the rule of thumb of fastai: J. Howard & S. Gugger, "fastai: A layered API for deep learning", *Information*
    11 (2020).
    """
    return min(600, round(1.6 * math.pow(vectors, 0.56)))


def _present(name: str, values: np.ndarray, where: Where, missing: str) -> np.ndarray:
    numbers = as_numbers(name, values, where)
    gone = np.isnan(numbers)
    refuse_missing(name, gone, where, missing)
    return numbers[~gone] if gone.any() else numbers
