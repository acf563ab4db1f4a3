"""The learning rate over time: a number, one of these schedules, or any function of the time in epochs."""

from __future__ import annotations

from collections.abc import Callable

from gradflow.errors import DataError
from gradflow.schedules.base import SCHEDULES as SCHEDULES
from gradflow.schedules.base import ConstantSchedule as ConstantSchedule
from gradflow.schedules.base import FunctionSchedule as FunctionSchedule
from gradflow.schedules.base import Schedule as Schedule
from gradflow.schedules.cosine import CosineSchedule as CosineSchedule
from gradflow.schedules.coslog import CosLogSchedule as CosLogSchedule
from gradflow.schedules.exponential import ExponentialSchedule as ExponentialSchedule
from gradflow.schedules.flat_cosine import FlatCosineSchedule as FlatCosineSchedule
from gradflow.schedules.one_cycle import OneCycleSchedule as OneCycleSchedule
from gradflow.schedules.plateau import PlateauSchedule as PlateauSchedule
from gradflow.schedules.step import StepSchedule as StepSchedule

LearningRate = float | Schedule | Callable[[float], float]
"""Learning rates that optimizers accept."""


def get_schedule(learning_rate: LearningRate) -> Schedule:
    """Return the schedule of a learning rate: a number is constant, and a function is called with the time in epochs.

    Raises:
        DataError: if it is a number that is not above 0, or anything else.
    """
    if isinstance(learning_rate, Schedule):
        return learning_rate
    if isinstance(learning_rate, type):
        raise DataError(f"learning_rate must be a number, a schedule or a function, got the class {learning_rate!r}")
    if callable(learning_rate):
        return FunctionSchedule(learning_rate)
    return ConstantSchedule(learning_rate)
