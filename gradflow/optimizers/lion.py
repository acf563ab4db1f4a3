"""The Lion optimizer.

References:
    X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS (2023).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import fraction, non_negative
from gradflow.ops import Array, has_diverged, op, record_update
from gradflow.optimizers.base import OWN, Optimizer, learning_rates, regularized, weight_decays
from gradflow.schedules import LearningRate, Scheduled, described, number_or_schedule


@op(
    shapes="parameters, gradients, first_moment: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "first_moment", "clock"),
)
def lion(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """w -= rate (sign(β₁ m + (1 - β₁) g) + decay w), the decay on weights only;  m = β₂ m + (1 - β₂) g"""
    if has_diverged(clock):
        return
    g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
    beta1, beta2 = map(float, hyper[OWN : OWN + 2])
    direction = np.sign(beta1 * first_moment + (1 - beta1) * g)
    direction[:n_decayed] += (weight_decays(parameters, hyper) * parameters)[:n_decayed]
    parameters -= learning_rates(parameters, hyper) * direction
    first_moment[...] = beta2 * first_moment + (1 - beta2) * g
    record_update(parameters, clock)


class Lion(Optimizer):
    """Lion (Chen et al., 2023, algorithm 2): a step of the same size for every weight, with the sign of a mean of g.

    The sign is that of beta1 m + (1 - beta1) g; then m = beta2 m + (1 - beta2) g. Weights, but not biases, also decay
    by learning_rate weight_decay w. Lion has one state vector, and Adam two. The learning rate is usually 3 to 10 times
    smaller than Adam's, and the decay larger by the same factor.

    Args:
        learning_rate: the step size, above 0, or a schedule.
        beta1: the weight of m in the direction of the step, at least 0 and below 1.
        beta2: the decay rate of m, at least 0 and below 1.
        weight_decay: the decay per step in units of the learning rate, at least 0; or a schedule of it.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
        decay_factors: factors of the weight decay by the same names.
    """

    name = "lion"
    op = lion
    default_learning_rate = 1e-4
    state = ("first_moment",)

    def __init__(
        self,
        learning_rate: LearningRate = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weight_decay: Scheduled = 0.0,
        *,
        factors: Mapping[str, float] | None = None,
        decay_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, factors=factors, decay_factors=decay_factors)
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.weight_decay = number_or_schedule("weight_decay", weight_decay, non_negative)

    def hyper(self) -> list[float]:
        return [self.beta1, self.beta2]

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "beta1": self.beta1,
            "beta2": self.beta2,
            "weight_decay": described(self.weight_decay),
        }
