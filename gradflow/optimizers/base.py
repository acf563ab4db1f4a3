"""Base class of optimizers: a rule on the flat parameter vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from gradflow.configurable import Configurable
from gradflow.errors import DataError, GradflowError
from gradflow.executors import Executor
from gradflow.layers import Layer
from gradflow.names import is_built_in
from gradflow.ops import Array, Op
from gradflow.optimizers.factors import Segment, checked_factors, segments
from gradflow.schedules import ConstantSchedule, LearningRate, Schedule, Scheduled, get_schedule

OPTIMIZERS: dict[str, type[Optimizer]] = {}
"""Every optimizer class by the name that the command line accepts."""


# Indices of the common hyperparameters in the vector on the device, and of the first optimizer-specific one
# (kernels/optimizers/update.h).
LEARNING_RATE, WEIGHT_DECAY, L2, L1, CLIP_VALUE, FACTORS, OWN = range(7)


def hyper_vector(
    own: Sequence[float],
    *,
    learning_rate: float = 0.0,
    weight_decay: float = 0.0,
    l2: float = 0.0,
    l1: float = 0.0,
    clip_value: float = math.inf,
    factors: Sequence[Segment] = (),
) -> np.ndarray:
    """Return the vector of hyperparameters: the common ones, the optimizer's own, and the table of factors."""
    table = [len(factors), *(number for segment in factors for number in segment)] if factors else []
    place = OWN + len(own) if factors else 0
    return np.array([learning_rate, weight_decay, l2, l1, clip_value, place, *own, *table], np.float64)


def learning_rates(parameters: Array, hyper: Array) -> Array | float:
    """Return the learning rate of each parameter: one number for all, unless parameters have factors."""
    return _scaled(float(hyper[LEARNING_RATE]), parameters, hyper, 1)


def weight_decays(parameters: Array, hyper: Array) -> Array | float:
    """Return the weight decay of each parameter: one number for all, unless parameters have factors."""
    return _scaled(float(hyper[WEIGHT_DECAY]), parameters, hyper, 2)


def _scaled(value: float, parameters: Array, hyper: Array, column: int) -> Array | float:
    if not hyper[FACTORS]:
        return value
    table = _table(hyper)
    ends = table[:, 0].astype(np.int64)
    factors = np.repeat(value * table[:, column], ends - np.concatenate([[0], ends[:-1]]))
    return factors.astype(parameters.dtype)


def _table(hyper: Array) -> Array:
    """Return the table of factors: end, factor of the learning rate and factor of the weight decay of each segment."""
    begin = int(hyper[FACTORS])
    return np.reshape(hyper[begin + 1 : begin + 1 + 3 * int(hyper[begin])], (-1, 3))


def rates_at(hyper: Array, place: int) -> tuple[float, float]:
    """Return learning rate and weight decay of the parameter at a place of the flat vector."""
    rate, decay = float(hyper[LEARNING_RATE]), float(hyper[WEIGHT_DECAY])
    if not hyper[FACTORS]:
        return rate, decay
    table = _table(hyper)
    _, of_rate, of_decay = table[np.searchsorted(table[:, 0], place, side="right")]
    return rate * float(of_rate), decay * float(of_decay)


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
        factors: factors of the learning rate, above 0, by layer or kind of parameter: ``{"0": 0.1}`` for the layer at
            index 0, "0.weight" for one parameter, "bias" for all biases, "Dense" for all layers of a class,
            "Dense.bias" for their biases. If several names fit a parameter, their factors are multiplied.
        decay_factors: factors of the weight decay, at least 0, by the same names. They are multiplied by those of the
            learning rate, since the rate scales the decay.

    Attributes:
        schedule: the learning rate over time; constant for a plain number.

    Raises:
        DataError: if a number is out of range; when training begins, if a name of a factor fits no parameter.
    """

    default_learning_rate: ClassVar[float] = 0.01
    """Learning rate used when the optimizer is given by name only."""
    state: tuple[str, ...] = ()
    weight_decay: Scheduled = 0.0
    """Decoupled weight decay per step, in units of the learning rate; a number or a schedule."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        factors: Mapping[str, float] | None = None,
        decay_factors: Mapping[str, float] | None = None,
    ) -> None:
        self.schedule = get_schedule(learning_rate)
        self.factors = checked_factors("factors", factors, may_be_zero=False)
        self.decay_factors = checked_factors("decay_factors", decay_factors, may_be_zero=True)

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

    def segments(self, layers: Sequence[Layer], ranges: Mapping[str, tuple[int, int]]) -> list[Segment]:
        """Return the factors of the parameters of a network (`factors.segments`).

        Raises:
            DataError: if a name fits no parameter, or the rule is the user's, who may not know of factors.
        """
        found = segments(layers, ranges, self.factors, self.decay_factors, self.own_factors(layers, ranges))
        if found and not is_built_in(self.op.reference):
            raise DataError(f"factors have no effect on the op {self.op.name!r} of {type(self).__name__}; omit them")
        return found

    def own_factors(
        self, layers: Sequence[Layer], ranges: Mapping[str, tuple[int, int]]
    ) -> Mapping[str, tuple[float, float]]:
        """Return the factors of learning rate and weight decay by parameter that the rule itself has."""
        return {}

    def of_network(self, layers: Sequence[Layer], ranges: Mapping[str, tuple[int, int]]) -> Optimizer:
        """Return the optimizer that steps with a network: itself, unless the rule depends on the shapes of parameters.

        Args:
            layers: the layers of the network.
            ranges: start and end of each trained parameter in the flat vectors, by name.
        """
        return self

    def config(self) -> dict[str, Any]:
        given = {"factors": self.factors, "decay_factors": self.decay_factors}
        return {"learning_rate": self.learning_rate} | {name: factors for name, factors in given.items() if factors}

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
