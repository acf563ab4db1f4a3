"""RMSprop.

References:
    T. Tieleman & G. Hinton, "Lecture 6.5: RMSprop", Coursera (2012).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import fraction, positive
from gradflow.ops import Array, has_diverged, op, record_update
from gradflow.optimizers.base import OWN, Optimizer, learning_rates, regularized
from gradflow.schedules import LearningRate


@op(
    shapes="parameters, gradients, second_moment: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "second_moment", "clock"),
)
def rmsprop(
    parameters: Array,
    gradients: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """v = β v + (1 - β) g²;  w -= rate g / (√v + ε)"""
    if has_diverged(clock):
        return
    g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
    beta, epsilon = map(float, hyper[OWN : OWN + 2])
    second_moment[...] = beta * second_moment + (1 - beta) * g * g
    parameters -= learning_rates(parameters, hyper) * (g / (np.sqrt(second_moment) + epsilon))
    record_update(parameters, clock)


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton, 2012, lecture 6e): w -= learning_rate g / (√v + epsilon), v a running mean of g².

    As in PyTorch, v starts at zero without bias correction, epsilon is outside the square root, and the mean of g is
    not subtracted. With a running mean of g and bias correction it becomes `Adam`.

    Args:
        learning_rate: the step size, above 0, or a schedule.
        beta: the decay rate of v, at least 0 and below 1.
        epsilon: keeps the quotient finite, above 0.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
    """

    name = "rmsprop"
    op = rmsprop
    default_learning_rate = 1e-3
    state = ("second_moment",)

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta: float = 0.99,
        epsilon: float = 1e-8,
        *,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, factors=factors)
        self.beta = fraction("beta", beta)
        self.epsilon = positive("epsilon", epsilon)

    def hyper(self) -> list[float]:
        return [self.beta, self.epsilon]

    def config(self) -> dict[str, Any]:
        return super().config() | {"beta": self.beta, "epsilon": self.epsilon}
