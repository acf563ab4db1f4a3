"""Base class of optimizers: a rule on the flat parameter vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gradflow.configurable import Configurable
from gradflow.errors import GradflowError
from gradflow.executors import Executor
from gradflow.ops import Array, Op
from gradflow.schedules import ConstantSchedule, LearningRate, Schedule, get_schedule

OPTIMIZERS: dict[str, type[Optimizer]] = {}
"""Every optimizer class by the name that the command line accepts."""


# Indices of the common hyperparameters in the vector on the device, and of the first optimizer-specific one
# (kernels/optimizers/update.h).
LEARNING_RATE, L2, L1, CLIP_VALUE, OWN = range(5)


def with_penalties(parameters: Array, gradients: Array, hyper: Array, n_decayed: int) -> Array:
    """Return dL/dw + l2 w + l1 sign(w), with penalties on the first n_decayed parameters only; if both are 0, dL/dw."""
    g, w = gradients.copy(), parameters[:n_decayed]
    l2, l1 = float(hyper[L2]), float(hyper[L1])
    if l2 or l1:
        g[:n_decayed] += l2 * w + l1 * np.sign(w)
    return g


def regularized(parameters: Array, gradients: Array, hyper: Array, gradient_scale: Array, n_decayed: int) -> Array:
    """Return the regularized gradient as a rule sees it: with penalties, scaled, then clipped to ±clip_value."""
    limit = float(hyper[CLIP_VALUE])
    return np.clip(gradient_scale[0] * with_penalties(parameters, gradients, hyper, n_decayed), -limit, limit)


class Optimizer(Configurable, registry=OPTIMIZERS):
    """A rule that updates all parameters from all gradients in one op.

    A subclass defines its `name`, the names of its `state` vectors, its `op`, whose arguments are ``parameters,
    gradients, <state vectors>, hyper, gradient_scale, clock, n_decayed``, and its own `hyper` values.

    Args:
        learning_rate: the step size: a number above 0, a schedule, or a function of the time in epochs.

    Attributes:
        schedule: the learning rate over time; constant for a plain number.
    """

    default_learning_rate: ClassVar[float] = 0.01
    """Learning rate used when the optimizer is given by name only."""
    state: tuple[str, ...] = ()

    def __init__(self, learning_rate: LearningRate) -> None:
        self.schedule = get_schedule(learning_rate)

    @property
    def learning_rate(self) -> float | Schedule:
        """The step size, or the schedule that defines it."""
        schedule = self.schedule
        return schedule.learning_rate if type(schedule) is ConstantSchedule else schedule

    @learning_rate.setter
    def learning_rate(self, learning_rate: LearningRate) -> None:
        raise GradflowError(
            "the learning rate of an optimizer cannot be changed; create a new one, or pass a schedule or a function "
            "of the time in epochs, which changes it during training"
        )

    @property
    def op(self) -> Op:
        """The op that does the update."""
        raise GradflowError(f"optimizer {type(self).__name__} does not define its op")

    def hyper(self) -> list[float]:
        """Return the optimizer's own entries of the device's hyperparameter vector, which follow the common ones."""
        return []

    def config(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate}

    def step(
        self,
        ops: Executor,
        parameters: Array,
        gradients: Array,
        state: Mapping[str, Array],
        hyper: Array,
        gradient_scale: Array,
        clock: Array,
        n_decayed: int,
    ) -> None:
        """Call the op once, on flat vectors of shape (n_parameters,)."""
        ops(
            self.op,
            parameters,
            gradients,
            **state,
            hyper=hyper,
            gradient_scale=gradient_scale,
            clock=clock,
            n_decayed=n_decayed,
        )
