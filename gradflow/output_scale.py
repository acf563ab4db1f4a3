"""Regression targets are standardised for training, and predictions brought back to their scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradflow.arguments import positive
from gradflow.errors import DataError
from gradflow.ops import Array, Executor, op

__all__ = ["OutputScale", "rescale"]


@op(shapes="x, y: rows columns; mean, deviation: columns", writes=("y",), in_place=(("x", "y"),))
def rescale(x: Array, mean: Array, deviation: Array, y: Array) -> None:
    """y_ij = mean_j + deviation_j x_ij"""
    y[...] = mean + deviation * x


@dataclass(frozen=True)
class OutputScale:
    """The scale of each output: what the layers give is (prediction - mean) / deviation.

    Attributes:
        mean: of the targets, one number for each output.
        deviation: their standard deviation, likewise; 1 for targets that are constant.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __post_init__(self) -> None:
        shapes = np.shape(self.mean), np.shape(self.deviation)
        if shapes != ((len(self.mean),),) * 2 or not np.isfinite(self.mean).all():
            raise DataError(f"means and deviations must be finite and of equal number, got {self!r}")
        for deviation in self.deviation:
            positive("deviation", deviation)

    @np.errstate(over="ignore", under="ignore")
    def standardize(self, targets: Array, dtype: np.dtype) -> Array:
        """(targets - mean) / deviation, where the targets lie, in a dtype."""
        columns = [
            ((targets[:, column] - mean) / deviation).astype(dtype)
            for column, (mean, deviation) in enumerate(zip(self.mean, self.deviation, strict=True))
        ]
        return np.stack(columns, axis=1)

    def record(self, ops: Executor, y: Array) -> None:
        """Record what brings outputs y (batch, n_out) back to the scale of the targets, in place."""
        mean, deviation = (ops.backend.from_host(np.array(part, y.dtype)) for part in (self.mean, self.deviation))
        ops(rescale, y, mean, deviation, y)

    def config(self) -> dict[str, Sequence[float]]:
        """What JSON holds of it."""
        return {"mean": list(self.mean), "deviation": list(self.deviation)}
