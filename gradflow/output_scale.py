"""Standardization of regression targets for training, and the conversion of predictions back to their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradflow.checks import positive
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.ops import Array, op


@op(shapes="x, y: rows columns; mean, deviation: columns", writes=("y",), in_place=(("x", "y"),))
def rescale(x: Array, mean: Array, deviation: Array, y: Array) -> None:
    """y_ij = mean_j + deviation_j x_ij"""
    y[...] = mean + deviation * x


@dataclass(frozen=True)
class OutputScale:
    """The scale of each output: the layers compute (prediction - mean) / std.

    Attributes:
        mean: mean of the targets, one number per output.
        std: standard deviation of the targets, one number per output; 1 for constant targets.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        shapes = np.shape(self.mean), np.shape(self.std)
        if shapes != ((len(self.mean),),) * 2 or not np.isfinite(self.mean).all():
            raise DataError(f"means and standard deviations must be finite and of equal number, got {self!r}")
        for std in self.std:
            positive("std", std)

    def of_targets(self, outputs_per_target: int) -> OutputScale | None:
        """Return the scale of each target, which has several outputs side by side; None if these differ in scale."""
        first = OutputScale(self.mean[::outputs_per_target], self.std[::outputs_per_target])
        return first if first.of_outputs(outputs_per_target) == self else None

    def of_outputs(self, outputs_per_target: int) -> OutputScale:
        """Return the scale of each output, of which each target has several side by side."""
        mean, std = (np.repeat(part, outputs_per_target).tolist() for part in (self.mean, self.std))
        return OutputScale(tuple(mean), tuple(std))

    @np.errstate(over="ignore", under="ignore")
    def standardize(self, targets: Array, dtype: np.dtype) -> Array:
        """Return (targets - mean) / std in a dtype, on the device of the targets."""
        columns = [
            ((targets[:, column] - mean) / std).astype(dtype)
            for column, (mean, std) in enumerate(zip(self.mean, self.std, strict=True))
        ]
        return np.stack(columns, axis=1)

    def record(self, ops: Executor, y: Array) -> None:
        """Record the in-place conversion of outputs y (batch, n_out) to the units of the targets."""
        mean, std = (ops.backend.from_host(np.array(part, y.dtype)) for part in (self.mean, self.std))
        ops(rescale, y, mean, std, y)

    def config(self) -> dict[str, Sequence[float]]:
        """Return mean and standard deviation in JSON types, under the names that files use."""
        return {"mean": list(self.mean), "deviation": list(self.std)}
