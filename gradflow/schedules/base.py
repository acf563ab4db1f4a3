"""What a schedule is, and the two plainest: a constant rate, and a function of one's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from gradflow.arguments import positive
from gradflow.errors import DataError, GradflowError
from gradflow.names import register

__all__ = ["SCHEDULES", "ConstantSchedule", "FunctionSchedule", "History", "Schedule"]

SCHEDULES: dict[str, type[Schedule]] = {}
"""Every schedule class by its name."""


_MOST_CHECKED = 1000
"""How many values of a function are looked at before training; each may take its time."""


class History(Protocol):
    """The values of the epochs that are finished, by name."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> Sequence[float]: ...


class Schedule:
    """The learning rate as a function of time, which is counted in epochs: 2.5 is the middle of the third.

    The rates of all steps of an epoch are computed on the host when it begins, in float64, and lie on the device, 8
    bytes for each step: a step moves nothing and takes no launch more, and every backend sees the same bits.

    A subclass defines `rates`, and `config` with the arguments that make it again.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(SCHEDULES, cls, Schedule)

    def rates(self, times: np.ndarray, epochs: int, history: History) -> np.ndarray:
        """The rate of each step, float64 of the shape of ``times``.

        Args:
            times: float64 (steps,): when each step begins, in epochs since training began.
            epochs: how many epochs training has.
            history: what was measured in the epochs before.
        """
        raise GradflowError(f"schedule {type(self).__name__} does not define rates(times, epochs, history)")

    def check(self, epochs: int, names: Collection[str]) -> None:
        """Refuse to begin a training for which this schedule is not made.

        Args:
            epochs: how many epochs it has.
            names: the values that its history will have.

        Raises:
            DataError: if the schedule ends before training, or watches a value that there is not.
        """

    def config(self) -> dict[str, Any]:
        """The arguments that make this schedule again."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


class ConstantSchedule(Schedule):
    """The same learning rate throughout, above 0: what a plain number stands for."""

    name = "constant"

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = positive("learning_rate", learning_rate)

    def rates(self, times: np.ndarray, epochs: int, history: History) -> np.ndarray:
        return np.full(times.shape, self.learning_rate)

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate}


class FunctionSchedule(Schedule):
    """rate(t) by a function of the time t in epochs, such as ``lambda t: 0.1 * 0.9 ** t``.

    Its values must be numbers that are finite and at least 0.
    """

    name = "function"

    def __init__(self, function: Callable[[float], float]) -> None:
        self.function = function

    def rates(self, times: np.ndarray, epochs: int, history: History) -> np.ndarray:
        return np.array([self._rate(float(time)) for time in times])

    def _rate(self, time: float) -> float:
        rate = self.function(time)
        try:
            number = float(rate)
        except (TypeError, ValueError):
            number = float("nan")
        if not 0 <= number < float("inf"):
            raise DataError(
                f"the learning rate function gave {rate!r} for epoch {time:g}; it must give finite numbers, at least 0"
            )
        return number

    def check(self, epochs: int, names: Collection[str]) -> None:
        # A part of them, where there are many: the others are checked as their epochs begin.
        for epoch in (*range(0, epochs, -(-epochs // _MOST_CHECKED)), epochs - 1):
            self._rate(float(epoch))

    def config(self) -> dict[str, Any]:
        return {"function": getattr(self.function, "__qualname__", repr(self.function))}
