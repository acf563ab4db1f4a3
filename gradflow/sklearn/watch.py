"""The work between the epochs of an estimator's fit: its attributes, its reports, and the rule that ends it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradflow.sklearn.solver import Solver
from gradflow.training import Callback


class Penalty(NamedTuple):
    """The L2 penalty, as scikit-learn adds it to the loss of each batch: alpha / 2 · Σ weight² / rows of the batch.

    Attributes:
        alpha: the coefficient.
        rows: the (weighted) number of rows of an epoch.
        batches: the number of batches.
    """

    alpha: float
    rows: float
    batches: int

    def mean(self, before: float, after: float) -> float:
        """Return the mean over an epoch, for Σ weight² before and after it; exact for a single batch."""
        squares = before if self.batches == 1 else (before + after) / 2
        return self.alpha / 2 * squares * self.batches / self.rows


class Watch(Callback):
    """Keeps ``loss_``, ``loss_curve_``, ``n_iter_`` and the other attributes of an estimator, and ends its training.

    Training ends after more than ``n_iter_no_change`` epochs in which the loss has not fallen below its best by more
    than ``tol``, or with early stopping, the validation score has not risen above its best by ``tol``. With early
    stopping the network then has the weights of the best score.

    Args:
        estimator: the estimator.
        solver: its solver.
        rows: number of training rows.
        penalty: the penalty.
        loss: converts the loss that gradflow measures to that of scikit-learn.
        score: returns the validation score; None without early stopping.
    """

    def __init__(
        self,
        estimator: Any,
        solver: Solver,
        *,
        rows: int,
        penalty: Penalty,
        loss: Callable[[float], float],
        score: Callable[[], float] | None,
    ) -> None:
        self._estimator, self._solver, self._rows = estimator, solver, rows
        self._penalty, self._loss, self._score = penalty, loss, score
        self._best_weights: dict[str, np.ndarray] | None = None
        self.has_converged = False

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self._squares = self._sum_of_squares(trainer)
        if self._score is not None:
            self._best_weights = trainer.network.get_weights()

    def on_fit_end(self, trainer: Any, history: Any) -> None:
        if self._best_weights is not None:
            trainer.network.set_weights(self._best_weights)

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        estimator, before, rate = self._estimator, self._squares, self._solver.learning_rate
        self._squares = self._sum_of_squares(trainer)
        self.epoch_ended(self._loss(values["loss"]) + self._penalty.mean(before, self._squares))
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._progress_ended(trainer)
        if self._solver.learning_rate != rate:
            # scikit-learn's velocity contains the rate of each of its steps, that of gradflow the current one.
            state = trainer.optimizer_state if trainer._loop is None else trainer._loop.optimizer_state()
            state.multiply(rate / self._solver.learning_rate)

    def epoch_ended(self, loss: float) -> None:
        """Note an epoch, its loss, and its score if there are validation data."""
        estimator = self._estimator
        estimator.n_iter_ += 1
        estimator.t_ += self._rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if self._score is not None:
            self._note_score(self._score() if math.isfinite(loss) else math.nan)
        else:
            estimator._no_improvement_count += 1
            if not loss > estimator.best_loss_ - estimator.tol:
                estimator._no_improvement_count = 0
            estimator.best_loss_ = min(loss, estimator.best_loss_)
        self._solver.epoch_ended(estimator.t_)

    def diverged(self) -> None:
        """Note an epoch in which the loss became infinite or NaN."""
        self.epoch_ended(math.nan)

    def _note_score(self, score: float) -> None:
        estimator = self._estimator
        estimator.validation_scores_.append(score)
        self._report(f"Validation score: {score:.6f}")
        is_worse = not score >= estimator.best_validation_score_ + estimator.tol
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if is_worse else 0
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            self._best_weights = estimator.network_.get_weights()

    def _progress_ended(self, trainer: Any) -> None:
        estimator = self._estimator
        measure = "Validation score" if self._score is not None else "Training loss"
        text = f"{measure} did not improve by more than tol={estimator.tol:g} for {estimator.n_iter_no_change} epochs."
        if self._solver.progress_ended():
            self._report(f"{text} Setting learning rate to {self._solver.learning_rate:g}")
            estimator._no_improvement_count = 0
        else:
            self._report(f"{text} Stopping.")
            self.has_converged = True
            trainer.stop()

    def _report(self, text: str) -> None:
        if self._estimator.verbose:
            print(text)

    def _epochs_at_once(self) -> int:
        if self._score is not None:
            return 1
        left: float = self._estimator.n_iter_no_change + 1 - self._estimator._no_improvement_count
        return max(1, math.floor(min(left, sys.maxsize)))

    def _sum_of_squares(self, trainer: Any) -> float:
        if not self._penalty.alpha:
            return 0.0
        weights = None if trainer._loop is None else trainer._loop.weights_of_epoch
        if weights is None:
            network = self._estimator.network_
            weights = network.backend.to_host(network.parameters[: network.n_decayed])
        with np.errstate(over="ignore"):  # of a fit that diverges
            return float(weights @ weights)
