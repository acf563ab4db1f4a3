"""What an optimizer is: a rule on the flat parameter vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gradflow.errors import GradflowError
from gradflow.names import register
from gradflow.ops import Array, Executor, Op
from gradflow.schedules import ConstantSchedule, LearningRate, Schedule, get_schedule

__all__ = ["OPTIMIZERS", "OWN", "Optimizer", "penalised", "with_penalties"]

OPTIMIZERS: dict[str, type[Optimizer]] = {}
"""Every optimizer class by the name that the command line takes."""


# The hyper-parameters that all optimizers have, by their places in the vector on the device, and where an optimizer's
# own begin (kernels/update.h).
LEARNING_RATE, L2, L1, CLIP_VALUE, OWN = range(5)


def with_penalties(parameters: Array, gradients: Array, hyper: Array, n_decayed: int) -> Array:
    """dL/dw + l2 w + l1 sign(w), the penalties on the first n_decayed parameters only; without any, dL/dw as it is."""
    g, w = gradients.copy(), parameters[:n_decayed]
    l2, l1 = float(hyper[L2]), float(hyper[L1])
    if l2 or l1:
        g[:n_decayed] += l2 * w + l1 * np.sign(w)
    return g


def penalised(parameters: Array, gradients: Array, hyper: Array, gradient_scale: Array, n_decayed: int) -> Array:
    """The gradient that a rule sees: with its penalties, times the scale, and then held within ±clip_value."""
    limit = float(hyper[CLIP_VALUE])
    return np.clip(gradient_scale[0] * with_penalties(parameters, gradients, hyper, n_decayed), -limit, limit)


class Optimizer:
    """A rule that updates all parameters from all gradients in one op.

    A subclass has a `name`, the names of its `state` vectors, its `op`, whose arguments are ``parameters, gradients,
    <state vectors>, hyper, gradient_scale, clock, n_decayed``, and the `hyper` values of its own.

    Args:
        learning_rate: the step size: a number above 0, a schedule, or a function of the time in epochs.

    Attributes:
        schedule: the learning rate over time; of a plain number, a constant one.
    """

    name: ClassVar[str]
    default_learning_rate: ClassVar[float] = 0.01
    """What `get_optimizer` takes for a name alone."""
    state: tuple[str, ...] = ()

    def __init__(self, learning_rate: LearningRate) -> None:
        self.schedule = get_schedule(learning_rate)

    @property
    def learning_rate(self) -> float | Schedule:
        """The step size, or the schedule that gives it."""
        schedule = self.schedule
        return schedule.learning_rate if type(schedule) is ConstantSchedule else schedule

    @learning_rate.setter
    def learning_rate(self, learning_rate: LearningRate) -> None:
        raise GradflowError(
            "the learning rate of an optimizer cannot be changed; make a new one, or pass a schedule or a function of "
            "the time in epochs, which changes it while the network trains"
        )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(OPTIMIZERS, cls, Optimizer)

    @property
    def op(self) -> Op:
        """The op that does the update."""
        raise GradflowError(f"optimizer {type(self).__name__} does not define its op")

    def hyper(self) -> list[float]:
        """The optimizer's own entries of the device's hyper-parameter vector, behind those that all have."""
        return []

    def config(self) -> dict[str, Any]:
        """The arguments that make this optimizer again."""
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"
