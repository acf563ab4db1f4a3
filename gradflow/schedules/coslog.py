"""Cycles from zero to the highest rate and back, each about twice as long as the one before."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import integer, positive
from gradflow.schedules.base import EpochValues, Schedule


class CosLogSchedule(Schedule):
    """rate(t) = learning_rate · ½ (1 - cos(2π log₂(1 + (2ⁿ - 1) t / T))), with n cycles in the T epochs of training.

    With four cycles this is "coslog4" of RealMLP (Holzmüller, Grinsztajn & Steinwart, 2024, "Better by default"): the
    rate rises from 0 and falls back to 0 in the first fifteenth of training, then in the next two, four and eight.

    Args:
        learning_rate: the highest rate, above 0.
        cycles: the number of cycles n, from 1 to 32.
    """

    name = "coslog"

    def __init__(self, learning_rate: float, *, cycles: int = 4) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.cycles = integer("cycles", cycles, least=1, most=32)

    @property
    def has_cycles(self) -> bool:
        return True

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        cycle = np.log2(1 + (2**self.cycles - 1) * (times / epochs))
        curve: np.ndarray = self.learning_rate * 0.5 * (1 - np.cos(2 * np.pi * cycle))
        return curve

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "cycles": self.cycles}
