"""Where the arguments of a case come from: arrays of one dtype, one kind of shape and one kind of values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.ops import Array

SHAPES: dict[str, tuple[int, int]] = {
    "empty": (0, 5),
    "one": (1, 1),
    "odd": (7, 13),
    "misaligned": (7, 13),  # every array begins one element behind an aligned address
    "large": (1000, 67),
}
"""The kinds of shape, as rows and columns, of which every layer has at least one; a flat vector has the product."""

VALUES = ("ordinary", "nan", "inf", "denormal", "extreme")
"""The kinds of values of real arrays. "extreme" is from the smallest to the largest normal numbers."""

NEVER = np.iinfo(np.int64).max
SENTINEL = 777.0


class Draw:
    """Where a case takes its arrays from: one dtype, one kind of shape, one kind of values, one sequence of numbers.

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
        """Numbers of either sign of the kind asked for.

        Args:
            shape: the shape.
            room: the largest are this much below the largest number of the dtype: for ops that add so many of them.
            power: and this root of it is taken: for ops that multiply so many of them.
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
        """Numbers in [low, high], both ends among them; with NaN among them where that is the kind of values."""
        array = self.random.uniform(low, high, shape).astype(self.dtype)
        flat = array.reshape(-1)
        flat[:2] = [low, high][: flat.size]
        if self.values == "nan":
            flat[2::7] = np.nan
        return array

    def blank(self, *shape: int, dtype: Any = None) -> Array:
        """An array that is written, filled with a number that shows what was not."""
        return np.full(shape, SENTINEL, dtype or self.dtype)

    def like(self, array: Array) -> Array:
        """The same as `blank`, with the shape of another array."""
        return self.blank(*array.shape)


def clock(*, step: int = 5, epoch: int = 3, position: int = 0, first_bad_step: int = NEVER) -> Array:
    return np.array([step, epoch, position, first_bad_step], np.int64)
