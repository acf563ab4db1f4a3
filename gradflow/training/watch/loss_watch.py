"""Warnings about a loss that explodes, stalls or stays high, checked between epochs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from gradflow.errors import DeviceLostError, GradflowError, TrainingWarning, warn
from gradflow.ops import Array
from gradflow.training.data.feed import PassData
from gradflow.training.step.objective import Objective
from gradflow.training.watch.diagnosis import LookAtLayers, advice_against_long_steps, layer_grown_most

EXPLODED = 10.0
"""A loss has exploded if it is more than this many times that of the first step, and that of outputs 0."""
STALL_EPOCHS = 10
"""A loss has stalled if it has not fallen for this many epochs,"""
PROGRESS = 0.01
"""by this fraction of itself,"""
LEARNT = 0.5
"""and is still above this fraction of the loss of a constant prediction."""
LOW = 0.3
"""A final loss below this is not examined: on targets of unit size, little is left to learn."""
VARIED = 1e-4
"""There is something to learn only if a constant prediction has more than this fraction of the loss of outputs 0."""


class LossWatch:
    """Warns at most once per fit if the loss explodes, stalls or stays high.

    - The loss has exploded if that of an epoch is above `EXPLODED` times that of the first step, and that of outputs 0.
      The explosion began in the layer whose parameters have grown most since the best epoch.
    - The loss has stalled if it has not fallen by `PROGRESS` for `STALL_EPOCHS` epochs, and a constant prediction is
      not much worse. A batch is then run forward and backward to find the cause (`LookAtLayers.cause`). If there is
      none, training may have converged: there is no warning, and the next check comes after twice as many epochs.
    - With a schedule that has cycles, the loss rises and falls with the rate: it does not count as exploded, and only
      layers, not the rate, as the cause of a stall.
    - A fit of at least `STALL_EPOCHS` epochs was slow if its final loss is still high, and inputs or targets are far
      from unit size.

    Args:
        objective: the objective.
        data: the training data.
        losses: losses of the epochs that a resumed run has already finished.
    """

    def __init__(self, objective: Objective, data: PassData, losses: Sequence[float]) -> None:
        self._objective, self._data = objective, data
        known = [loss for loss in losses if not math.isnan(loss)]
        self._first = known[0] if known else None
        self._lowest, self._last = math.inf, math.nan
        self._epochs_since = 0
        self._patience = STALL_EPOCHS
        self._has_warned = False
        for loss in known:
            self._note(loss)

    @property
    def _has_cycles(self) -> bool:
        return self._objective.optimizer.schedule.has_cycles

    @property
    def most_epochs(self) -> int:
        """The number of epochs after which the next look at the network may be due."""
        return sys.maxsize if self._has_warned else max(self._patience - self._epochs_since, 1)

    @property
    def limit(self) -> float:
        """The loss above which a look at the network is due at once."""
        return math.inf if self._has_warned or self._first is None else EXPLODED * abs(self._first)

    def epoch_ended(
        self, epoch: int, loss: float, first_loss: float, best_state: Array, learning_rates: np.ndarray
    ) -> None:
        """Check the loss of an epoch and of its first step; ``best_state`` is that of the best epoch before it."""
        if math.isnan(loss):
            return  # All rows of the epoch have weight 0.
        if self._first is None:
            self._first = first_loss
        self._note(loss)
        if loss > EXPLODED * abs(self._first) or self._epochs_since >= self._patience:  # most epochs need no look
            rate = float(learning_rates.max())
            self._warn(lambda: self._explosion(epoch, loss, best_state, rate) or self._stall(loss, rate))

    def fit_ended(self, epochs: int) -> None:
        """Check the final loss, after ``epochs`` epochs."""
        self._warn(lambda: self._slowness(epochs))

    def _warn(self, report_on: Callable[[], str | None]) -> None:
        if self._has_warned:
            return
        try:
            with np.errstate(all="ignore"):
                report = report_on()
        except DeviceLostError:
            raise
        except GradflowError:
            return  # Out of memory, or infinite weights: training continues without the check.
        if report is not None:
            self._has_warned = True
            warn(report, TrainingWarning)

    def _note(self, loss: float) -> None:
        self._last = loss
        if self._lowest == math.inf or loss < self._lowest - PROGRESS * abs(self._lowest):
            self._lowest, self._epochs_since, self._patience = loss, 0, STALL_EPOCHS
        else:
            self._epochs_since += 1

    @cached_property
    def _answers(self) -> tuple[float, float]:
        """Losses of a constant prediction, and of outputs 0."""
        look = LookAtLayers(self._objective, self._data)
        return look.loss_of_one_answer(), look.loss_of_zeros()

    def _explosion(self, epoch: int, loss: float, best_state: Array, learning_rate: float) -> str | None:
        assert self._first is not None
        if self._has_cycles:
            return None
        if loss <= EXPLODED * abs(self._first) or loss <= EXPLODED * abs(self._answers[1]):
            return None
        return (
            f"the loss has exploded: it was {self._first:.3g} in the first step, but is {loss:.3g} in epoch {epoch}. "
            f"It began in {layer_grown_most(self._objective.network, best_state)}. "
            f"{advice_against_long_steps(self._objective, self._data, learning_rate)}"
        )

    def _stall(self, loss: float, learning_rate: float) -> str | None:
        if self._epochs_since < self._patience:
            return None
        self._patience *= 2  # The check takes as long as several steps.
        constant, zeros = self._answers
        if loss <= LEARNT * constant or constant <= VARIED * abs(zeros):
            return None
        look = LookAtLayers(self._objective, self._data)
        cause = look.cause(learning_rate, has_cycles=self._has_cycles)
        if cause is None:
            return None
        advice = look.unit_size_advice()
        cause = f"{advice}. Then, if it still stalls: {cause}" if advice else cause
        return (
            f"the loss has stalled: it is {loss:.3g} and has not fallen for {self._epochs_since} epochs, while a "
            f"constant prediction has {constant:.3g}. {cause}"
        )

    def _slowness(self, epochs: int) -> str | None:
        """Return a report on data far from unit size if the final loss is still high; None otherwise."""
        if epochs < STALL_EPOCHS or not self._last > LOW:
            return None
        look = LookAtLayers(self._objective, self._data)
        constant = look.loss_of_one_answer()
        if self._last <= LEARNT * constant or not (advice := look.unit_size_advice()):
            return None
        return (
            f"after {epochs} epochs the loss is still {self._last:.3g}, while a constant prediction has "
            f"{constant:.3g}. {advice}"
        )
