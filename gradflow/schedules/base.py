"""Base class of schedules, and the two simplest ones: a constant rate and a user-defined function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import numpy as np

from gradflow.checks import positive
from gradflow.configurable import Configurable
from gradflow.errors import DataError, GradflowError

SCHEDULES: dict[str, type[Schedule]] = {}
"""Every schedule class by its name."""


_MOST_CHECKED = 1000
"""Maximum number of values of a function that are checked before training; each may be slow to compute."""


class EpochValues(Protocol):
    """The values of the finished epochs, by name."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> Sequence[float]: ...


class Schedule(Configurable, registry=SCHEDULES):
    """The learning rate as a function of time, measured in epochs: 2.5 is the middle of the third epoch.

    Weight decay, the rate of dropout and label smoothing can be schedules, too; ``learning_rate`` is then their highest
    value.

    When an epoch begins, the rates of all its steps are computed on the host in float64 and copied to the device, 8
    bytes per step. A step thus needs no additional transfer or launch, and every backend sees the same bits.

    A subclass defines `rates`, and `config` with the arguments that recreate it.
    """

    @property
    def has_cycles(self) -> bool:
        """True if the rate falls and rises again, so that a loss that rises or stalls meanwhile is no cause to warn."""
        return False

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        """Return the rate of each step, float64 of the shape of ``times``.

        Args:
            times: float64 (steps,): the start of each step, in epochs since training began.
            epochs: the number of epochs of training.
            history: the values measured in previous epochs.
        """
        raise GradflowError(f"schedule {type(self).__name__} does not define rates(times, epochs, history)")

    def initial(self) -> float:
        """Return the value at the beginning of a long training."""
        return float(self.rates(np.zeros(1), 10**6, {})[0])

    def check(self, epochs: int, names: Collection[str]) -> None:
        """Check, before training begins, that this schedule is suitable for it.

        Args:
            epochs: the number of epochs of training.
            names: the names of the values that the history will have.

        Raises:
            DataError: if the schedule ends before training, or monitors a nonexistent value.
        """


class ConstantSchedule(Schedule):
    """A constant learning rate above 0; a plain number stands for it."""

    name = "constant"

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        return np.full(times.shape, self.learning_rate)

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate}


class FunctionSchedule(Schedule):
    """rate(t) given by a function of the time t in epochs, such as ``lambda t: 0.1 * 0.9 ** t``.

    Its values must be finite numbers that are at least 0.
    """

    name = "function"

    def __init__(self, function: Callable[[float], float]) -> None:
        self.function = function

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        return np.array([self._rate(float(time)) for time in times])

    def _rate(self, time: float) -> float:
        rate = self.function(time)
        try:
            number = float(rate)
        except (TypeError, ValueError):
            number = float("nan")
        if not 0 <= number < float("inf"):
            raise DataError(
                f"the learning rate function returned {rate!r} for epoch {time:g}; it must return finite numbers, at "
                "least 0"
            )
        return number

    def check(self, epochs: int, names: Collection[str]) -> None:
        # Only a subset if there are many: the others are checked when their epochs begin.
        for epoch in (*range(0, epochs, -(-epochs // _MOST_CHECKED)), epochs - 1):
            self._rate(float(epoch))

    def config(self) -> dict[str, Any]:
        return {"function": getattr(self.function, "__qualname__", repr(self.function))}
