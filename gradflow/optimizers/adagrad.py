"""Adagrad.

References:
    J. Duchi, E. Hazan & Y. Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
        *JMLR* 12 (2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import positive
from gradflow.ops import Array, has_diverged, op, record_update
from gradflow.optimizers.base import OWN, Optimizer, learning_rates, regularized
from gradflow.schedules import LearningRate


@op(
    shapes="parameters, gradients, square_sum: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "square_sum", "clock"),
)
def adagrad(
    parameters: Array,
    gradients: Array,
    square_sum: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """s = s + g²;  w -= rate g / (√s + ε)"""
    if has_diverged(clock):
        return
    g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
    square_sum += g * g
    parameters -= learning_rates(parameters, hyper) * (g / (np.sqrt(square_sum) + float(hyper[OWN])))
    record_update(parameters, clock)


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer, 2011), the diagonal form: w -= learning_rate g / (√s + epsilon), s the sum of g².

    Each weight has its own rate, which only falls. Suitable for sparse inputs, which are rarely different from 0.

    Args:
        learning_rate: the step size, above 0, or a schedule.
        epsilon: keeps the quotient finite, above 0.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
    """

    name = "adagrad"
    op = adagrad
    state = ("square_sum",)

    def __init__(
        self,
        learning_rate: LearningRate = 1e-2,
        epsilon: float = 1e-10,
        *,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, factors=factors)
        self.epsilon = positive("epsilon", epsilon)

    def hyper(self) -> list[float]:
        return [self.epsilon]

    def config(self) -> dict[str, Any]:
        return super().config() | {"epsilon": self.epsilon}
