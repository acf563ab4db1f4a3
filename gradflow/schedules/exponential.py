"""A learning rate that falls by the same factor in each epoch."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive
from gradflow.schedules.base import EpochValues, Schedule


class ExponentialSchedule(Schedule):
    """rate(t) = learning_rate · factor^t, a little lower at every step.

    Args:
        learning_rate: the initial rate, above 0.
        factor: the factor by which the rate changes within an epoch, above 0; 0.95 lowers it by 5 percent.
    """

    name = "exponential"

    def __init__(self, learning_rate: float, factor: float) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.factor = positive("factor", factor)

    @np.errstate(under="ignore")
    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        return self.learning_rate * self.factor**times

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "factor": self.factor}
