"""Half a cosine from the highest rate to the lowest, with optional warm-up and restarts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from gradflow.checks import non_negative, positive
from gradflow.errors import DataError
from gradflow.schedules.base import EpochValues, Schedule


class CosineSchedule(Schedule):
    """Cosine annealing (Loshchilov & Hutter, 2017, "SGDR", equation 5) after a linear warm-up (Goyal et al., 2017).

    rate(t) = t / warmup · learning_rate during the warm-up; then, with s the elapsed fraction of the current cycle,

        rate(t) = final + ½ (learning_rate - final) (1 + cos(π s))

    Without ``restart_every`` there is one cycle, from the warm-up to the end of training. With it, the rate jumps back
    up after that many epochs, and each cycle is ``growth`` times as long as the previous one (T_0 and T_mult in the
    paper).

    Args:
        learning_rate: the highest rate, above 0.
        warmup: the length of the warm-up in epochs, at least 0; may be fractional. Its first step has rate 0.
        final: the lowest rate, at least 0 and below ``learning_rate``.
        epochs: the end of the single cycle, in epochs since training began; None is the end of training.
        restart_every: the length of the first cycle in epochs; None disables restarts.
        growth: the ratio of the lengths of consecutive cycles, at least 1.

    Raises:
        DataError: if numbers are out of range, or both ``epochs`` and ``restart_every`` are given. When training
            begins: if it has more epochs than the schedule, or none after the warm-up.
    """

    name = "cosine"

    def __init__(
        self,
        learning_rate: float,
        *,
        warmup: float = 0.0,
        final: float = 0.0,
        epochs: float | None = None,
        restart_every: float | None = None,
        growth: float = 1.0,
    ) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)
        self.warmup = non_negative("warmup", warmup)
        self.final = non_negative("final", final)
        self.epochs = None if epochs is None else positive("epochs", epochs)
        self.restart_every = None if restart_every is None else positive("restart_every", restart_every)
        self.growth = positive("growth", growth)
        if self.final >= self.learning_rate:
            raise DataError(f"final must be below learning_rate, which is {learning_rate!r}, got {final!r}")
        if self.growth < 1:
            raise DataError(f"growth must be at least 1, got {growth!r}")
        if self.epochs is not None and self.restart_every is not None:
            raise DataError("with restart_every the cycles never end; omit epochs")

    def check(self, epochs: int, names: Collection[str]) -> None:
        if self.epochs is not None and self.epochs < epochs:
            raise DataError(
                f"the cosine schedule ends after {self.epochs:g} epochs, but training has {epochs}; omit epochs= to "
                "end it with training, or use restart_every"
            )
        end = epochs if self.epochs is None else self.epochs
        if self.warmup >= end:
            raise DataError(f"a warm-up of {self.warmup:g} epochs leaves nothing of {end:g}; shorten it")

    @property
    def has_cycles(self) -> bool:
        return self.restart_every is not None

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        passed = np.maximum(times - self.warmup, 0)
        if self.restart_every is None:
            fraction = np.minimum(passed / ((epochs if self.epochs is None else self.epochs) - self.warmup), 1)
        else:
            fraction = self._fraction_of_cycle(passed / self.restart_every)
        rates = self.final + 0.5 * (self.learning_rate - self.final) * (1 + np.cos(np.pi * fraction))
        is_warm = times >= self.warmup
        return np.where(is_warm, rates, self.learning_rate * times / (1 if self.warmup == 0 else self.warmup))

    def _fraction_of_cycle(self, passed: np.ndarray) -> np.ndarray:
        """Return the elapsed fraction of the cycle at each time, which is given in units of the first cycle."""
        if self.growth == 1:
            remainder: np.ndarray = np.mod(passed, 1)
            return remainder
        # Cycle k begins at (growth^k - 1) / (growth - 1) and is growth^k long. At the start of a cycle, the quotient of
        # the logarithms may be a rounding error below k.
        cycle = np.floor(np.log1p(passed * (self.growth - 1)) / np.log(self.growth) + 1e-12)
        begin = (self.growth**cycle - 1) / (self.growth - 1)
        fraction: np.ndarray = np.clip((passed - begin) / self.growth**cycle, 0, 1)
        return fraction

    def config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "warmup": self.warmup,
            "final": self.final,
            "epochs": self.epochs,
            "restart_every": self.restart_every,
            "growth": self.growth,
        }
