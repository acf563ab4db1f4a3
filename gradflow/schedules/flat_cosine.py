"""A constant rate, then half a cosine."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import fraction, non_negative, positive
from gradflow.errors import DataError
from gradflow.schedules.base import EpochValues, Schedule


class FlatCosineSchedule(Schedule):
    """Constant during the fraction ``flat`` of training, then half a cosine down to ``final`` at its end.

    With half of training flat and ``final=0`` this is "flat_cos" of RealMLP (Holzmüller, Grinsztajn & Steinwart, 2024,
    "Better by default").

    Args:
        learning_rate: the initial rate, above 0.
        flat: the fraction of training during which the rate is constant, at least 0 and below 1.
        final: the rate at the end, at least 0 and below ``learning_rate``.
    """

    name = "flat_cosine"

    def __init__(self, learning_rate: float, *, flat: float = 0.5, final: float = 0.0) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.flat = fraction("flat", flat)
        self.final = non_negative("final", final)
        if self.final >= self.learning_rate:
            raise DataError(f"final must be below learning_rate, which is {learning_rate!r}, got {final!r}")

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        passed = np.clip((times / epochs - self.flat) / (1 - self.flat), 0, 1)
        curve: np.ndarray = self.final + 0.5 * (self.learning_rate - self.final) * (1 + np.cos(np.pi * passed))
        return curve

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, "flat": self.flat, "final": self.final}
