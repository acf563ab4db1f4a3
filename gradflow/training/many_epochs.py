"""Several epochs in one call of the backend: for a small network, Python in between takes as long as an epoch."""

from __future__ import annotations

import numpy as np

from gradflow.backends.reference import SeveralEpochs, WatchedEpochs
from gradflow.clock import StatusReading, readings_of
from gradflow.network import Sequential
from gradflow.ops import CLOCK_ENTRIES, Array
from gradflow.training.progress.early_stopping import BestValue
from gradflow.training.step.epoch import Epoch
from gradflow.training.step.training_step import TrainingStep

_MOST = 64
_MOST_BYTES = 1 << 20  # of the weights that are kept
_SECONDS = 0.02  # between two looks at requests to end
_ALIGNMENT = 64  # of the weights of an epoch


class ManyEpochs:
    """Epochs that run one after the other without a return to Python; the state of the best one is kept.

    Args:
        epochs: runs them.
        best: the best value so far.
        readings: int64 (most, words), receives the status after each epoch.
        weights: (most, n), receives the decayed weights after each epoch.

    Attributes:
        most: their maximum number in one call.
        weights: the decayed weights after each of the last epochs.
    """

    def __init__(self, epochs: SeveralEpochs, best: BestValue, readings: Array, weights: Array) -> None:
        self.most, self.weights = len(readings), weights
        self._epochs, self._best, self._readings = epochs, best, readings

    @classmethod
    def of(
        cls, network: Sequential, step: TrainingStep, validating: Epoch | None, best_state: Array, best: BestValue
    ) -> ManyEpochs | None:
        """Return the epochs of a training; None if Python has to do something between them, or they are too large.

        Args:
            network: the network.
            step: its step.
            validating: the evaluation after each epoch.
            best_state: receives the state of the best epoch.
            best: decides which one it is.
        """
        passes = [each for each in (step.epoch, validating) if each is not None]
        decisive = {"loss": step.epoch, "val_loss": validating}.get(best.name)
        needs_python = step.update.acts_between_epochs or not all(each.is_plain for each in passes)
        if decisive is None or best.is_larger or needs_python:
            return None
        backend, weights = network.backend, network.parameters[: network.n_decayed]
        room = -(-weights.nbytes // _ALIGNMENT) * _ALIGNMENT
        most = min(_MOST, _MOST_BYTES // max(room, 1))
        programs = [each.programs() for each in passes]
        if most < 2 or None in programs:
            return None
        first_sum = len(CLOCK_ENTRIES)
        readings = backend.empty((most, len(step.status.words)), np.int64)
        kept = backend.empty((most, room // weights.itemsize), weights.dtype)
        watched = WatchedEpochs(
            step.status.words,
            readings,
            (first_sum, step.epoch.metrics.total_weight()),
            (first_sum if decisive is step.epoch else first_sum + 3, decisive.metrics.total_weight()),
            best.min_delta,
            best.takes_ties,
            network.state,
            best_state,
            weights,
            kept,
        )
        parts = [(program.replay, times) for each in programs for program, times in each or ()]
        epochs = backend.epochs(parts, watched)
        return None if epochs is None else cls(epochs, best, readings, kept[:, : len(weights)])

    def run(self, most: int, limit: float) -> list[StatusReading]:
        """Run at most so many epochs, in a short time, and none after one with a loss above the limit; return the
        status after each."""
        count = self._epochs.run(most, best=self._best.value, limit=limit, seconds=_SECONDS)
        return readings_of(self._readings[:count])
