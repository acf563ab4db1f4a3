"""Early stopping: ending training when a value no longer improves."""

from __future__ import annotations

import math
from typing import Any

from gradflow.checks import known_name, non_negative, positive_integer
from gradflow.configurable import Configurable
from gradflow.errors import DataError
from gradflow.metrics.base import larger_is_better

CONVERGENCE_EPOCHS = 10
"""Number of epochs without progress beyond the tolerance after which the loss has converged."""


class EarlyStopping(Configurable):
    """Stops once a value has not improved for ``patience`` epochs, and restores the weights of the best epoch.

    For a validation value, these are the weights at the end of that epoch; for a training value, which is measured
    while the epoch runs, the weights at its start.

    Larger is better for accuracies and other scores defined so; smaller is better for losses and errors.

    Args:
        monitor: name of the value to watch in the history.
        patience: number of epochs without improvement after which training stops, at least 1.
        min_delta: minimum improvement over the best value so far that counts, at least 0.
        ties: the epoch that counts as best if several have the same value, "first" or "last". A value that changes in
            steps, such as an accuracy on few rows, often has several; training longer then decides, as in RealMLP.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0, ties: str = "first"
    ) -> None:
        if not isinstance(monitor, str):
            raise DataError(f"monitor must be the name of a value in the history, got {monitor!r}")
        self.monitor = monitor
        self.patience = positive_integer("patience", patience)
        self.min_delta = non_negative("min_delta", min_delta)
        self.ties = known_name("ties", ties, ("first", "last"))

    def config(self) -> dict[str, Any]:
        config = {"monitor": self.monitor, "patience": self.patience, "min_delta": self.min_delta}
        return config | ({"ties": self.ties} if self.ties != "first" else {})


class BestValue:
    """Tracks the best value so far, its epoch, and the number of epochs since.

    Args:
        name: name of the value in the history; it determines whether larger or smaller is better.
        min_delta: minimum improvement over the best value so far that counts.
        ties: the epoch that is best of those with the same value, "first" or "last".
    """

    def __init__(self, name: str, min_delta: float = 0.0, ties: str = "first") -> None:
        self.name = name
        self.epoch = 0
        self.epochs_since = 0
        self._sign = -1 if larger_is_better(name) else 1
        self._min_delta = min_delta
        self._is_last = ties == "last"
        self._best = math.inf

    def update(self, values: dict[str, float]) -> bool:
        """Record the next epoch's value; return True if it is the best so far."""
        value = self._sign * values[self.name]
        needed = self._best - self._min_delta
        if value < needed or (self._is_last and value == needed < math.inf):
            self._best = value
            self.epoch += self.epochs_since + 1
            self.epochs_since = 0
            return True
        self.epochs_since += 1
        return False
