"""A learning rate that falls when training stops making progress."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from gradflow.checks import fraction, non_negative, positive, positive_integer, text
from gradflow.errors import DataError
from gradflow.names import larger_is_better
from gradflow.schedules.base import EpochValues, Schedule


class PlateauSchedule(Schedule):
    """Multiply the rate by ``factor`` when a value of the history has not improved for ``patience`` epochs.

    The count then starts again. The rate of an epoch depends only on the history, so resumed training continues with
    the same rate.

    Args:
        learning_rate: the initial rate, above 0.
        monitor: the value to monitor, a name in the history; None is "val_loss" with validation data, else "loss".
        factor: the factor by which the rate is reduced, at least 0 and below 1.
        patience: the number of epochs without improvement, at least 1.
        min_delta: a value counts as an improvement if it beats the best so far by more than this, at least 0.
        lowest: the lower limit of the rate, at least 0.
    """

    name = "plateau"

    def __init__(
        self,
        learning_rate: float,
        *,
        monitor: str | None = None,
        factor: float = 0.1,
        patience: int = 10,
        min_delta: float = 0.0,
        lowest: float = 0.0,
    ) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.monitor = None if monitor is None else text("monitor", monitor)
        self.factor = fraction("factor", factor)
        self.patience = positive_integer("patience", patience)
        self.min_delta = non_negative("min_delta", min_delta)
        self.lowest = non_negative("lowest", lowest)

    def check(self, epochs: int, names: Collection[str]) -> None:
        if self.monitor is not None and self.monitor not in names:
            raise DataError(f"the plateau schedule cannot monitor {self.monitor!r}; valid names: {', '.join(names)}")

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        name = self.monitor or ("val_loss" if "val_loss" in history else "loss")
        sign = -1 if larger_is_better(name) else 1
        reductions = self._reductions([sign * value for value in history[name]] if name in history else [])
        return np.full(times.shape, max(self.learning_rate * self.factor**reductions, self.lowest))

    def _reductions(self, values: Sequence[float]) -> int:
        """Return the number of reductions after epochs with these values; smaller values are better."""
        best, waited, reductions = float("inf"), 0, 0
        for value in values:
            if value < best - self.min_delta:
                best, waited = value, 0
                continue
            waited += 1
            if waited == self.patience:
                reductions, waited = reductions + 1, 0
        return reductions

    def config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "monitor": self.monitor,
            "factor": self.factor,
            "patience": self.patience,
            "min_delta": self.min_delta,
            "lowest": self.lowest,
        }
