"""Gradient descent, plain and with momentum.

References:
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods" (1964).
    I. Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML (2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradflow.checks import boolean, fraction
from gradflow.errors import DataError
from gradflow.ops import Array, Op, has_diverged, op, record_update
from gradflow.optimizers.base import OWN, Optimizer, learning_rates, regularized
from gradflow.schedules import LearningRate


@op(shapes="parameters, gradients: n; hyper: *any; gradient_scale: 1; clock: 4", writes=("parameters", "clock"))
def gradient_descent(
    parameters: Array, gradients: Array, hyper: Array, gradient_scale: Array, clock: Array, n_decayed: int
) -> None:
    """w -= rate g"""
    if not has_diverged(clock):
        parameters -= learning_rates(parameters, hyper) * regularized(
            parameters, gradients, hyper, gradient_scale, n_decayed
        )
        record_update(parameters, clock)


@op(
    shapes="parameters, gradients, velocity: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "velocity", "clock"),
)
def momentum(
    parameters: Array,
    gradients: Array,
    velocity: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """v = momentum v + g;  w -= rate v"""
    if not has_diverged(clock):
        g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
        velocity[...] = float(hyper[OWN]) * velocity + g
        parameters -= learning_rates(parameters, hyper) * velocity
        record_update(parameters, clock)


@op(
    shapes="parameters, gradients, velocity: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "velocity", "clock"),
)
def nesterov(
    parameters: Array,
    gradients: Array,
    velocity: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """v = momentum v + g;  w -= rate (g + momentum v)"""
    if not has_diverged(clock):
        g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
        velocity[...] = float(hyper[OWN]) * velocity + g
        parameters -= learning_rates(parameters, hyper) * (g + float(hyper[OWN]) * velocity)
        record_update(parameters, clock)


class GradientDescent(Optimizer):
    """w -= learning_rate dL/dw. With all data in one batch this is steepest descent (Cauchy, 1847).

    Args:
        learning_rate: the step size: a number above 0, a schedule, or a function of the time in epochs.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
    """

    name = "gradient_descent"
    op = gradient_descent

    def __init__(self, learning_rate: LearningRate, *, factors: Mapping[str, float] | None = None) -> None:
        super().__init__(learning_rate, factors=factors)


class SGD(Optimizer):
    """v = momentum v + g, then w -= learning_rate v, or w -= learning_rate (g + momentum v) with ``nesterov``.

    Stochastic gradient descent with momentum (Polyak, 1964) or Nesterov's (Sutskever et al., 2013). As in PyTorch, the
    velocity starts at zero, and contains neither dampening nor the learning rate.

    Args:
        learning_rate: the step size: a number above 0, a schedule, or a function of the time in epochs.
        momentum: the decay rate of the velocity, at least 0 and below 1.
        nesterov: look ahead along the velocity; requires momentum above 0.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
    """

    name = "sgd"

    def __init__(
        self,
        learning_rate: LearningRate,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, factors=factors)
        self.momentum = fraction("momentum", momentum)
        self.nesterov = boolean("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise DataError("nesterov=True needs momentum above 0, got momentum=0")
        self.state = ("velocity",) if self.momentum else ()

    @property
    def op(self) -> Op:
        if not self.momentum:
            return gradient_descent
        return nesterov if self.nesterov else momentum

    def hyper(self) -> list[float]:
        return [self.momentum]

    def config(self) -> dict[str, Any]:
        return super().config() | {"momentum": self.momentum, "nesterov": self.nesterov}
