"""Early stopping: ending training when a value no longer improves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gradflow.checks import boolean, known_name, non_negative, positive_integer
from gradflow.configurable import Configurable
from gradflow.errors import DataError
from gradflow.metrics.base import larger_is_better

CONVERGENCE_EPOCHS = 10
"""Number of epochs without progress beyond the tolerance after which the loss has converged."""


class EarlyStopping(Configurable):
    """Stops once a value has not improved for ``patience`` epochs, and restores the weights of the best epoch.

    For a validation value, these are the weights at the end of that epoch; for a training value, which is measured
    while the epoch runs, the weights at its start.

    Larger is better for accuracies and other scores defined so; smaller is better for losses, errors, and the values
    that callbacks return, unless ``larger_is_better`` says otherwise.

    Args:
        monitor: name of the value to watch in the history. A value of a callback is taken to belong to the weights at
            the end of the epoch; of several ranks, the value of rank 0 counts.
        patience: number of epochs without improvement after which training stops, at least 1.
        min_delta: minimum improvement over the best value so far that counts, at least 0.
        ties: the epoch that counts as best if several have the same value, "first" or "last". A value that changes in
            steps, such as an accuracy on few rows, often has several; training longer then decides, as in RealMLP.
        larger_is_better: True or False for the direction that counts as better; None goes by the name of the value.

    Raises:
        DataError: for a ``monitor`` that is no text, and values out of range.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        ties: str = "first",
        larger_is_better: bool | None = None,
    ) -> None:
        if not isinstance(monitor, str):
            raise DataError(f"monitor must be the name of a value in the history, got {monitor!r}")
        self.monitor = monitor
        self.patience = positive_integer("patience", patience)
        self.min_delta = non_negative("min_delta", min_delta)
        self.ties = known_name("ties", ties, ("first", "last"))
        self.larger_is_better = None if larger_is_better is None else boolean("larger_is_better", larger_is_better)

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"monitor": self.monitor, "patience": self.patience, "min_delta": self.min_delta}
        if self.ties != "first":
            config["ties"] = self.ties
        if self.larger_is_better is not None:
            config["larger_is_better"] = self.larger_is_better
        return config


class BestValue:
    """Tracks the best value so far, its epoch, and the number of epochs since.

    Args:
        name: name of the value in the history; it determines whether larger or smaller is better.
        min_delta: minimum improvement over the best value so far that counts.
        ties: the epoch that is best of those with the same value, "first" or "last".
        is_larger: True if larger values are better, False if smaller ones are; None goes by the name.
    """

    def __init__(self, name: str, min_delta: float = 0.0, ties: str = "first", is_larger: bool | None = None) -> None:
        self.name = name
        self.epoch = 0
        self.epochs_since = 0
        self.is_larger = larger_is_better(name) if is_larger is None else is_larger
        self._sign = -1 if self.is_larger else 1
        self.min_delta = min_delta
        self.takes_ties = ties == "last"
        self._best = math.inf

    @property
    def value(self) -> float:
        """The best value so far; before the first an infinite one, which any other improves on."""
        return self._sign * self._best

    def update(self, values: Mapping[str, float]) -> bool:
        """Record the next epoch's value; return True if it is the best so far."""
        value = self._sign * values[self.name]
        needed = self._best - self.min_delta
        if value < needed or (self.takes_ties and value == needed < math.inf):
            self._best = value
            self.epoch += self.epochs_since + 1
            self.epochs_since = 0
            return True
        self.epochs_since += 1
        return False
