"""A loss that explodes or stalls: noticed between two epochs, and reported with the layer where it began."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from gradflow.errors import DeviceLostError, GradflowError, TrainingWarning, warn
from gradflow.ops import Array
from gradflow.training.data_set import PassData
from gradflow.training.diagnosis import LookAtLayers, advice_against_long_steps, layer_grown_most
from gradflow.training.update import Objective

__all__ = ["LossWatch"]

EXPLODED = 10.0
"""A loss has exploded once it is so many times that of the first step, and that of outputs 0."""
STALL_EPOCHS = 10
"""A loss has stalled once it has not fallen for so many epochs,"""
PROGRESS = 0.01
"""by this share of itself,"""
LEARNT = 0.5
"""and is still above this share of the loss of one answer for all rows."""
LOW = 0.3
"""At the end of a fit a loss below this is worth no look: on targets of unit size little is left to learn."""
VARIED = 1e-4
"""Only targets whose loss of one answer is above this share of that of outputs 0 leave anything to learn."""


class LossWatch:
    """Warns once in a fit, if its loss explodes or stalls.

    - It has exploded where the loss of an epoch is above `EXPLODED` times that of the first step, and that of outputs
      0. The layer where it began is the one whose parameters have grown most since the best epoch.
    - It has stalled where it has not fallen by `PROGRESS` for `STALL_EPOCHS` epochs, and one answer for all rows is not
      much worse. A batch is then run forwards and backwards, to see why (`LookAtLayers.cause`). Where it shows no
      reason, nothing is said, for it may have converged; the next look comes after twice as many epochs.
    - A fit of at least `STALL_EPOCHS` epochs has been slow where its loss is high to the end, and inputs or targets are
      far from unit size.

    Args:
        objective: what is minimised.
        data: what it is trained on.
        losses: those of the epochs that a resumed run has behind it.
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

    def epoch_ended(self, epoch: int, loss: float, first_loss: float, best_state: Array, learning_rate: float) -> None:
        """Look at the loss of an epoch and of its first step, where ``best_state`` is that of the best epoch before."""
        if math.isnan(loss):
            return  # That of an epoch whose rows have no weight.
        if self._first is None:
            self._first = first_loss
        self._note(loss)
        self._warn(lambda: self._explosion(epoch, loss, best_state, learning_rate) or self._stall(loss, learning_rate))

    def fit_ended(self, epochs: int) -> None:
        """Look at the loss once more, behind the last of so many epochs."""
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
            return  # No memory is left for a look, or weights are infinite: training goes on without one.
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
        """The losses of one answer for all rows, and of the answer 0."""
        look = LookAtLayers(self._objective, self._data)
        return look.loss_of_one_answer(), look.loss_of_zeros()

    def _explosion(self, epoch: int, loss: float, best_state: Array, learning_rate: float) -> str | None:
        assert self._first is not None
        if loss <= EXPLODED * abs(self._first) or loss <= EXPLODED * abs(self._answers[1]):
            return None
        return (
            f"the loss has exploded: it was {self._first:.3g} in the first step, and is {loss:.3g} in epoch {epoch}. "
            f"It began in {layer_grown_most(self._objective.network, best_state)}. "
            f"{advice_against_long_steps(self._objective, self._data, learning_rate)}"
        )

    def _stall(self, loss: float, learning_rate: float) -> str | None:
        if self._epochs_since < self._patience:
            return None
        self._patience *= 2  # A look takes as long as some steps.
        constant, zeros = self._answers
        if loss <= LEARNT * constant or constant <= VARIED * abs(zeros):
            return None
        look = LookAtLayers(self._objective, self._data)
        cause = look.cause(learning_rate)
        if cause is None:
            return None
        advice = look.unit_size_advice()
        cause = f"{advice}. Then, if it still stalls: {cause}" if advice else cause
        return (
            f"the loss has stalled: it is {loss:.3g} and has not fallen for {self._epochs_since} epochs, while one "
            f"answer for all rows has {constant:.3g}. {cause}"
        )

    def _slowness(self, epochs: int) -> str | None:
        """What is far from unit size, where the fit has ended and its loss is still high."""
        if epochs < STALL_EPOCHS or not self._last > LOW:
            return None
        look = LookAtLayers(self._objective, self._data)
        constant = look.loss_of_one_answer()
        if self._last <= LEARNT * constant or not (advice := look.unit_size_advice()):
            return None
        return (
            f"after {epochs} epochs the loss is still {self._last:.3g}, while one answer for all rows has "
            f"{constant:.3g}. {advice}"
        )
