"""Generation of a case's arguments: arrays of one dtype, one kind of shape and one kind of values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.ops import Array

SHAPES: dict[str, tuple[int, int]] = {
    "empty": (0, 5),
    "one": (1, 1),
    "odd": (7, 13),
    "misaligned": (7, 13),  # every array starts one element after an aligned address
    "large": (1000, 67),
}
"""The kinds of shape as (rows, columns), with at least one column; a flat vector has rows * columns elements."""

VALUES = ("ordinary", "nan", "inf", "denormal", "extreme")
"""The kinds of values of real arrays. "extreme" ranges from the smallest to the largest normal numbers."""

NEVER = np.iinfo(np.int64).max
SENTINEL = 777.0


class Draw:
    """Generator of a case's arrays: one dtype, one kind of shape, one kind of values, one random sequence.

    Attributes:
        rows, columns, n: the shape, and the number of elements of a flat vector.
    """

    def __init__(self, dtype: str, shape: str, values: str, seed: int = 0) -> None:
        self.dtype = np.dtype(dtype)
        self.values = values
        self.rows, self.columns = SHAPES[shape]
        self.n = self.rows * self.columns
        self.random = np.random.default_rng([seed, list(SHAPES).index(shape), VALUES.index(values)])

    def reals(self, *shape: int, room: float = 1, power: int = 1) -> Array:
        """Return numbers of both signs, of this draw's kind of values.

        Args:
            shape: the shape.
            room: the upper limit of the magnitudes is divided by this: for ops that add this many of them.
            power: the limits of the magnitudes are roots of this degree: for ops that multiply this many of them.
        """
        limits = np.finfo(self.dtype)
        ordinary = self.random.standard_normal(shape)
        if self.values == "denormal":
            return (ordinary * 1000 * float(limits.smallest_subnormal)).astype(self.dtype)
        if self.values == "extreme":
            low, high = (math.log(float(limit)) / power for limit in (limits.smallest_normal, limits.max))
            magnitudes = np.exp(self.random.uniform(low, high - math.log(room) - 1e-6, shape))
            return (np.sign(ordinary) * magnitudes).astype(self.dtype)
        array = ordinary.astype(self.dtype)
        chosen = self.random.random(shape) < 0.1
        chosen.reshape(-1)[:1] = True
        if self.values == "nan":
            array[chosen] = np.nan
        if self.values == "inf":
            array[chosen] = np.sign(array[chosen]) * np.inf
        return array

    def between(self, low: float, high: float, *shape: int) -> Array:
        """Return numbers in [low, high], including both ends; also NaN if that is the kind of values."""
        array = self.random.uniform(low, high, shape).astype(self.dtype)
        flat = array.reshape(-1)
        flat[:2] = [low, high][: flat.size]
        if self.values == "nan":
            flat[2::7] = np.nan
        return array

    def blank(self, *shape: int, dtype: Any = None) -> Array:
        """Return an output array, filled with a number that reveals elements that were not written."""
        return np.full(shape, SENTINEL, dtype or self.dtype)

    def like(self, array: Array) -> Array:
        """Return an output array as `blank` does, with the shape of another array."""
        return self.blank(*array.shape)


def clock(*, step: int = 5, epoch: int = 3, position: int = 0, first_bad_step: int = NEVER) -> Array:
    return np.array([step, epoch, position, first_bad_step], np.int64)
