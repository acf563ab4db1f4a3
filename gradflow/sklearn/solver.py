"""The learning rate of a solver, which may change between epochs, and the optimizer that uses it."""

from __future__ import annotations

import copy

from gradflow.optimizers import SGD, Adam, GradientDescent, Optimizer
from gradflow.schedules import LearningRate, Schedule

_LEAST_RATE = 1e-6
_SHRINKING = 5.0


class Solver:
    """The solver "sgd" or "adam", with the meaning that scikit-learn gives to its parameters.

    With "sgd", the learning rate is constant, ``learning_rate_init / (t + 1) ** power_t`` for t samples seen so far
    ("invscaling"), or a fifth of what it was whenever an epoch ends without progress ("adaptive").

    Args:
        name: "sgd" or "adam".
        learning_rate_init: the learning rate at first.
        schedule: "constant", "invscaling" or "adaptive", which only "sgd" uses; or a schedule in their place.
        power_t: the exponent of "invscaling".
        momentum, nesterovs_momentum: for "sgd".
        beta_1, beta_2, epsilon: for "adam".

    Attributes:
        learning_rate: the current learning rate.
    """

    def __init__(
        self,
        name: str,
        learning_rate_init: float,
        schedule: str | Schedule,
        *,
        power_t: float,
        momentum: float,
        nesterovs_momentum: bool,
        beta_1: float,
        beta_2: float,
        epsilon: float,
    ) -> None:
        self.learning_rate = float(learning_rate_init)
        self._name, self._initial, self._schedule, self._power = name, learning_rate_init, schedule, power_t
        self._momentum, self._nesterov = momentum, nesterovs_momentum and momentum > 0
        self._adam = beta_1, beta_2, epsilon

    def optimizer(self, *, factor: float = 1.0, is_partial: bool = False) -> Optimizer:
        """Return the optimizer.

        Args:
            factor: the gradient is this many times smaller than scikit-learn's, for which the step makes up.
            is_partial: True for a single pass, in which the rate does not change.
        """
        if self._name == "adam":
            beta_1, beta_2, epsilon = self._adam
            rate = self._schedule if isinstance(self._schedule, Schedule) else self.learning_rate
            return Adam(rate, beta_1, beta_2, 0.0, epsilon_hat=epsilon / factor)
        if isinstance(self._schedule, Schedule):
            return self._descent(_multiplied(self._schedule, factor))
        if self._schedule != "constant" and not is_partial:
            return self._descent(lambda time: factor * self.learning_rate)
        return self._descent(factor * self.learning_rate)

    def _descent(self, rate: LearningRate) -> Optimizer:
        if not self._momentum:
            return GradientDescent(rate)
        return SGD(rate, self._momentum, self._nesterov)

    def epoch_ended(self, samples_seen: int) -> None:
        """Note that an epoch has ended."""
        if self._name == "sgd" and self._schedule == "invscaling":
            self.learning_rate = self._initial / (samples_seen + 1) ** self._power

    def progress_ended(self) -> bool:
        """Shrink the learning rate after epochs without progress; return False if training should end instead."""
        if self._name != "sgd" or self._schedule != "adaptive" or self.learning_rate <= _LEAST_RATE:
            return False
        self.learning_rate /= _SHRINKING
        return True


def _multiplied(schedule: Schedule, factor: float) -> Schedule:
    """Return a schedule with rates that are ``factor`` times those of another."""
    if factor == 1:
        return schedule
    multiplied = copy.copy(schedule)
    multiplied.rates = lambda *moment: factor * schedule.rates(*moment)  # type: ignore[method-assign]
    return multiplied
