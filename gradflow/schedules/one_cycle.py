"""One cycle: up to a high rate, then down to almost none."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from gradflow.checks import fraction, positive
from gradflow.errors import DataError
from gradflow.schedules.base import EpochValues, Schedule


class OneCycleSchedule(Schedule):
    """The one-cycle policy (Smith & Topin, 2018, "Super-convergence"), with half cosines instead of lines.

    The rate rises from learning_rate / start_division to learning_rate during the fraction ``rise`` of training, then
    falls to learning_rate / start_division / end_division at the end. Momentum is not changed.

    Args:
        learning_rate: the highest rate, above 0; `learning_rate_range_test` helps to choose it.
        rise: the fraction of training during which the rate rises, at least 0 and below 1.
        start_division: ratio of the highest to the initial rate, at least 1.
        end_division: ratio of the initial to the final rate, at least 1.
        epochs: the length of the cycle; None is that of training.

    Raises:
        DataError: if numbers are out of range; when training begins, if it has more epochs than the cycle.
    """

    name = "one_cycle"

    def __init__(
        self,
        learning_rate: float,
        *,
        rise: float = 0.3,
        start_division: float = 25.0,
        end_division: float = 1e4,
        epochs: float | None = None,
    ) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.rise = fraction("rise", rise)
        self.start_division = positive("start_division", start_division)
        self.end_division = positive("end_division", end_division)
        for name, division in (("start_division", start_division), ("end_division", end_division)):
            if division < 1:
                raise DataError(f"{name} must be at least 1, got {division!r}")
        self.epochs = None if epochs is None else positive("epochs", epochs)

    def check(self, epochs: int, names: Collection[str]) -> None:
        if self.epochs is not None and self.epochs < epochs:
            raise DataError(
                f"the cycle ends after {self.epochs:g} epochs, but training has {epochs}; omit epochs= to make it as "
                "long as training"
            )

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        fraction = np.minimum(times / (epochs if self.epochs is None else self.epochs), 1)
        first = self.learning_rate / self.start_division
        rising = _half_cosine(first, self.learning_rate, fraction / (self.rise or 1))
        falling = _half_cosine(self.learning_rate, first / self.end_division, (fraction - self.rise) / (1 - self.rise))
        return np.where(fraction < self.rise, rising, falling)

    def config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "rise": self.rise,
            "start_division": self.start_division,
            "end_division": self.end_division,
            "epochs": self.epochs,
        }


def _half_cosine(begin: float, end: float, fraction: np.ndarray) -> np.ndarray:
    curve: np.ndarray = begin + (end - begin) * 0.5 * (1 - np.cos(np.pi * fraction))
    return curve
