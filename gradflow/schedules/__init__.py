"""The learning rate over time: a number, one of these schedules, or any function of the time in epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradflow.checks import known_name
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

Scheduled = float | Schedule
"""A number, or a schedule of it."""

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


def number_or_schedule(name: str, value: Any, check: Callable[[str, Any], float]) -> Scheduled:
    """Return a number after a check, or the schedule of it, which may be described as by `described`.

    Raises:
        DataError: if it is neither, or a schedule that files cannot describe.
    """
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        arguments = dict(value)
        made = SCHEDULES[known_name("schedule", arguments.pop("name"), SCHEDULES)]
        value = made(**arguments)
    if isinstance(value, FunctionSchedule):
        raise DataError(f"{name} is saved with the model, which cannot hold a function; use a schedule of gradflow")
    if isinstance(value, ConstantSchedule) and type(value) is ConstantSchedule:
        return check(name, value.learning_rate)
    return value if isinstance(value, Schedule) else check(name, value)


def described(value: Scheduled) -> Any:
    """Return a number, or the description of a schedule as JSON: its name and its arguments."""
    return {"name": value.name, **value.config()} if isinstance(value, Schedule) else value


def initial(value: Scheduled) -> float:
    """Return a number, or the one with which a schedule of it begins."""
    return value.initial() if isinstance(value, Schedule) else value


def schedules_of(owner: object) -> dict[str, Schedule]:
    """Return the attributes of a layer or loss that are schedules, by name."""
    return {name: value for name, value in vars(owner).items() if isinstance(value, Schedule)}
