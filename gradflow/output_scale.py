"""Standardization of regression targets for training, the conversion of predictions back to their units, and limits of
predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradflow.checks import positive
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.ops import Array, op


@op(shapes="x, y: rows columns; mean, deviation: columns", writes=("y",), in_place=(("x", "y"),))
def rescale(x: Array, mean: Array, deviation: Array, y: Array) -> None:
    """y_ij = mean_j + deviation_j x_ij"""
    y[...] = mean + deviation * x


@op(shapes="x, y: rows columns; low, high: columns", writes=("y",), in_place=(("x", "y"),))
def clamp_columns(x: Array, low: Array, high: Array, y: Array) -> None:
    """y_ij = x_ij, limited to the range from low_j to high_j"""
    y[...] = np.where(x > high, high, np.where(x < low, low, x))


@dataclass(frozen=True)
class OutputScale:
    """The scale of each output, and its limits: predictions are mean + std · (what the layers compute), clamped.

    Attributes:
        mean: mean of the targets, one number per output.
        std: standard deviation of the targets, one number per output; 1 for constant targets.
        low, high: the limits of predictions, in the units of the targets, one number each per output; None for no
            limits.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        shapes = np.shape(self.mean), np.shape(self.std)
        if shapes != ((len(self.mean),),) * 2 or not np.isfinite(self.mean).all():
            raise DataError(f"means and standard deviations must be finite and of equal number, got {self!r}")
        for std in self.std:
            positive("std", std)
        low, high = self.low or (), self.high or ()
        shape = (0,) if self.low is self.high is None else np.shape(self.mean)
        are_finite = np.shape(low) == np.shape(high) == shape and np.isfinite([*low, *high]).all()
        if not are_finite or any(least > most for least, most in zip(low, high, strict=True)):
            raise DataError(
                f"low and high must be None, or a finite number each for each mean, low not above high, got {self!r}"
            )

    @classmethod
    def neutral(cls, outputs: int) -> OutputScale:
        """Return the scale that changes nothing."""
        return cls((0.0,) * outputs, (1.0,) * outputs)

    @property
    def without_limits(self) -> OutputScale:
        """The same scale without limits of predictions."""
        return OutputScale(self.mean, self.std)

    def widened(self, other: OutputScale) -> OutputScale:
        """Return this scale with limits that allow what those of another one allow, and what its own do."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return replace(self, low=other.low, high=other.high)
        low, high = np.minimum(self.low, other.low).tolist(), np.maximum(self.high, other.high).tolist()
        return replace(self, low=tuple(low), high=tuple(high))

    def of_targets(self, outputs_per_target: int) -> OutputScale | None:
        """Return the scale of each target, which has several outputs side by side; None if these differ in scale."""
        first = self._of_each(lambda values: values[::outputs_per_target])
        return first if first.of_outputs(outputs_per_target) == self else None

    def of_outputs(self, outputs_per_target: int) -> OutputScale:
        """Return the scale of each output, of which each target has several side by side."""
        return self._of_each(lambda values: tuple(np.repeat(values, outputs_per_target).tolist()))

    def _of_each(self, change: Callable[[tuple[float, ...]], tuple[float, ...]]) -> OutputScale:
        limits = [None if limit is None else change(limit) for limit in (self.low, self.high)]
        return OutputScale(change(self.mean), change(self.std), *limits)

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
        if self.low is not None:
            low, high = (ops.backend.from_host(np.array(part, y.dtype)) for part in (self.low, self.high))
            ops(clamp_columns, y, low, high, y)

    def record_limits(self, ops: Executor, y: Array) -> None:
        """Record the in-place clamping of standardized outputs y (batch, n_out), if there are limits."""
        if self.low is None:
            return
        mean, std = np.array(self.mean), np.array(self.std)
        low, high = (
            ops.backend.from_host(((np.array(limit) - mean) / std).astype(y.dtype)) for limit in (self.low, self.high)
        )
        ops(clamp_columns, y, low, high, y)

    def config(self) -> dict[str, Sequence[float]]:
        """Return the numbers in JSON types, under the names that files use."""
        found: dict[str, Sequence[float]] = {"mean": list(self.mean), "deviation": list(self.std)}
        if self.low is not None and self.high is not None:
            found |= {"low": list(self.low), "high": list(self.high)}
        return found

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> OutputScale:
        """Rebuild a scale from the result of `config`.

        Raises:
            DataError, KeyError, TypeError: if the config does not describe a scale.
        """
        limits = [tuple(config[name]) if name in config else None for name in ("low", "high")]
        return cls(tuple(config["mean"]), tuple(config["deviation"]), *limits)
