"""Adam, and AdamW with decoupled weight decay.

References:
    D. P. Kingma & J. Ba, "Adam", ICLR (2015).
    I. Loshchilov & F. Hutter, "Decoupled weight decay regularization", ICLR (2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import fraction, non_negative, positive
from gradflow.ops import STEP, Array, has_diverged, op, record_update
from gradflow.optimizers.base import OWN, Optimizer, learning_rates, rates_at, regularized, weight_decays
from gradflow.optimizers.factors import checked_factors
from gradflow.schedules import LearningRate, Scheduled, described, number_or_schedule


def _step(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> Array:
    """Update the moments, and return the step of a learning rate of 1, to subtract from the parameters."""
    beta1, beta2, epsilon, epsilon_hat = map(float, hyper[OWN : OWN + 4])
    g = regularized(parameters, gradients, hyper, gradient_scale, n_decayed)
    first_moment[...] = beta1 * first_moment + (1 - beta1) * g
    second_moment[...] = beta2 * second_moment + (1 - beta2) * g * g
    mean = first_moment / (1 - beta1 ** int(clock[STEP]))
    root_correction = math.sqrt(1 - beta2 ** int(clock[STEP]))
    deviation = np.sqrt(second_moment) / root_correction
    return np.asarray(mean / (deviation + (epsilon + epsilon_hat / root_correction)))


def _change(parameters: Array, gradients: Array, *others: Any) -> Array:
    """Update the moments, and return what to subtract from the parameters; ``others`` are those of `_step`."""
    hyper = others[2]
    return learning_rates(parameters, hyper) * _step(parameters, gradients, *others)


@op(
    shapes="parameters, gradients, first_moment, second_moment: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "first_moment", "second_moment", "clock"),
)
def adam(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= rate m / (1 - β₁ᵗ) / (√(v / (1 - β₂ᵗ)) + ε)"""
    if not has_diverged(clock):
        parameters -= _change(
            parameters, gradients, first_moment, second_moment, hyper, gradient_scale, clock, n_decayed
        )
        record_update(parameters, clock)


@op(
    shapes="parameters, gradients, first_moment, second_moment: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "first_moment", "second_moment", "clock"),
)
def adamw(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> None:
    """w -= rate weight_decay w on the weights, then the step of Adam with the g from before the decay"""
    if not has_diverged(clock):
        change = _change(parameters, gradients, first_moment, second_moment, hyper, gradient_scale, clock, n_decayed)
        kept = 1 - learning_rates(parameters, hyper) * weight_decays(parameters, hyper)
        parameters[:n_decayed] = (kept * parameters)[:n_decayed]
        parameters -= change
        record_update(parameters, clock)


@op(
    shapes="parameters, gradients, first_moment, second_moment: n; hyper: *any; gradient_scale: 1; clock: 4",
    writes=("parameters", "first_moment", "second_moment", "clock"),
)
def adamw_range(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    decayed: bool,
    first: int,
) -> None:
    """AdamW on a range from parameter `first` on, with the factors of that one, all of it decayed or not"""
    if not has_diverged(clock):
        rate, decay = rates_at(hyper, first)
        n_decayed = len(parameters) if decayed else 0
        step = _step(parameters, gradients, first_moment, second_moment, hyper, gradient_scale, clock, n_decayed)
        if decayed:
            parameters *= 1 - rate * decay
        parameters -= rate * step
        record_update(parameters, clock)


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2015, algorithm 1): steps of about the learning rate, whatever the gradient's scale.

    m and v are running means of g and g², with bias correction for their start at zero; w -= learning_rate m̂ / (√v̂ +
    epsilon). epsilon is outside the square root, after the correction, as in the paper's algorithm 1 and in PyTorch;
    epsilon_hat before it, as at the end of the paper's section 2 and in scikit-learn.

    Args:
        learning_rate: the step size: a number above 0, a schedule, or a function of the time in epochs.
        beta1: the decay rate of m, at least 0 and below 1.
        beta2: the decay rate of v, at least 0 and below 1.
        epsilon: keeps the quotient finite, above 0; with ``epsilon_hat`` it may be 0.
        epsilon_hat: adds epsilon_hat / √(1 - β₂ᵗ) to epsilon, at least 0.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
    """

    name = "adam"
    op = adam
    default_learning_rate = 1e-3
    state = ("first_moment", "second_moment")

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        epsilon_hat: float = 0.0,
        factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, factors=factors)
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.epsilon_hat = non_negative("epsilon_hat", epsilon_hat)
        self.epsilon = (non_negative if self.epsilon_hat else positive)("epsilon", epsilon)

    def hyper(self) -> list[float]:
        logarithms = [math.log(beta) if beta else -math.inf for beta in (self.beta1, self.beta2)]
        return [self.beta1, self.beta2, self.epsilon, self.epsilon_hat, *logarithms]

    def config(self) -> dict[str, Any]:
        config = super().config() | {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        return config | ({"epsilon_hat": self.epsilon_hat} if self.epsilon_hat else {})


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2): w -= rate weight_decay w comes first.

    Unlike an L2 penalty (``Trainer(..., l2=)``), the decay does not enter m and v. It is scaled by the learning rate,
    as in PyTorch, and does not apply to biases.

    Args:
        learning_rate: the step size: a number above 0, a schedule, or a function of the time in epochs.
        beta1: the decay rate of m, at least 0 and below 1.
        beta2: the decay rate of v, at least 0 and below 1.
        epsilon: keeps the quotient finite, above 0.
        weight_decay: the decay per step in units of the learning rate, at least 0; or a schedule of it.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
        decay_factors: factors of the weight decay by the same names.
    """

    name = "adamw"
    op = adamw

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: Scheduled = 0.01,
        *,
        factors: Mapping[str, float] | None = None,
        decay_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, factors=factors)
        self.decay_factors = checked_factors("decay_factors", decay_factors, may_be_zero=True)
        self.weight_decay = number_or_schedule("weight_decay", weight_decay, non_negative)

    def config(self) -> dict[str, Any]:
        return super().config() | {"weight_decay": described(self.weight_decay)}
