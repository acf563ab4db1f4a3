"""When training ends before its last epoch: no more progress on validation, or none on the loss itself."""

from __future__ import annotations

import math

from gradflow.arguments import non_negative, positive_integer
from gradflow.direction import larger_is_better
from gradflow.errors import DataError

__all__ = ["CONVERGENCE_EPOCHS", "BestValue", "EarlyStopping"]

CONVERGENCE_EPOCHS = 10
"""The loss has converged after this many epochs without progress beyond the tolerance."""


class EarlyStopping:
    """Stop once a value has not become better for ``patience`` epochs, and restore the weights of the best epoch.

    These are the weights at its end for a value on validation data, and those that it began with for a training value,
    which is measured while the epoch runs.

    Accuracies, and the other scores that say so, are better when larger; losses and errors when smaller.

    Args:
        monitor: the value to watch, a name in the history.
        patience: the epochs without improvement after which training stops, at least 1.
        min_delta: by how much a value must beat the best so far to count, at least 0.
    """

    def __init__(self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0) -> None:
        if not isinstance(monitor, str):
            raise DataError(f"monitor must be the name of a value in the history, got {monitor!r}")
        self.monitor = monitor
        self.patience = positive_integer("patience", patience)
        self.min_delta = non_negative("min_delta", min_delta)

    def config(self) -> dict[str, str | int | float]:
        """The arguments that make this object again."""
        return {"monitor": self.monitor, "patience": self.patience, "min_delta": self.min_delta}

    def __repr__(self) -> str:
        return f"EarlyStopping({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


class BestValue:
    """The best value of a name so far, in which epoch that was, and how many epochs have passed since.

    Args:
        name: the value's name in the history; it says whether larger or smaller is better.
        min_delta: by how much a value must beat the best so far to count.
    """

    def __init__(self, name: str, min_delta: float = 0.0) -> None:
        self.name = name
        self.epoch = 0
        self.epochs_since = 0
        self._sign = -1 if larger_is_better(name) else 1
        self._min_delta = min_delta
        self._best = math.inf

    def is_improved_by(self, values: dict[str, float]) -> bool:
        """Whether the next epoch's value is better than all before; then it is the best from now on."""
        value = self._sign * values[self.name]
        if value < self._best - self._min_delta:
            self._best = value
            self.epoch += self.epochs_since + 1
            self.epochs_since = 0
            return True
        self.epochs_since += 1
        return False
