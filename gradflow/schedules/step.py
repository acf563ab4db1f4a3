"""A learning rate that falls in steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive
from gradflow.schedules.base import EpochValues, Schedule


class StepSchedule(Schedule):
    """rate(t) = learning_rate · factor^⌊t / every⌋: the rate is multiplied by ``factor`` every ``every`` epochs.

    Args:
        learning_rate: the initial rate, above 0.
        every: the number of epochs between two steps, above 0; may be fractional.
        factor: the factor of each step, above 0.
    """

    name = "step"

    def __init__(self, learning_rate: float, every: float, factor: float = 0.1) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.every = positive("every", every)
        self.factor = positive("factor", factor)

    @np.errstate(under="ignore")
    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        return self.learning_rate * self.factor ** np.floor(times / self.every)

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "every": self.every, "factor": self.factor}
