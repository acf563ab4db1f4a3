"""Epochs of L-BFGS: runs of SciPy's minimizer over all data, in place of steps on batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradflow.errors import DataError
from gradflow.layers import Dropout
from gradflow.layers.stack import with_inner
from gradflow.network import Sequential
from gradflow.optimizers.lbfgs import LBFGS, Minimum
from gradflow.training.data.feed import DataSet, PassData
from gradflow.training.step.objective import Objective
from gradflow.training.step.training_step import TrainingStep


def check_minimization(objective: Objective, data: PassData, *, batch_size: int, parts: int) -> None:
    """Raise for options that L-BFGS does not support: those that make the objective random or not differentiable.

    Raises:
        DataError: naming the option.
    """
    for name in ("l1", "clip_norm", "clip_value", "average", "layer_statistics"):
        if getattr(objective, name):
            raise DataError(f"{name} is not supported with L-BFGS; omit it, or use another optimizer")
    if objective.precision != "float32":
        raise DataError(f"precision={objective.precision!r} is too coarse for the line search of L-BFGS; omit it")
    if not isinstance(data, DataSet):
        raise DataError("L-BFGS processes all data at once; pass arrays in memory, or use another optimizer")
    if batch_size < len(data) or parts > 1:
        raise DataError(
            f"L-BFGS needs all {len(data)} rows as one batch; pass batch_size=None and accumulate=1, got batches of "
            f"{batch_size} rows in {parts} parts"
        )
    if objective.scheduled_values():
        raise DataError(f"the label smoothing of {objective.loss!r} must be a number with L-BFGS")
    everywhere = with_inner(objective.network.layers)
    if layer := next((layer for layer in everywhere if layer.training_only or isinstance(layer, Dropout)), None):
        raise DataError(f"{layer!r} makes the loss random, but L-BFGS needs a deterministic one; omit the layer")


class _InterruptedError(Exception):
    pass


class Minimization:
    """Runs the minimizer for an epoch.

    Args:
        objective: the objective; its optimizer is an `LBFGS`, which leaves the weights of a step unchanged.
        step: computes the loss over all rows, and the gradient.

    Attributes:
        minimum: the end of the last search that was not interrupted.
    """

    minimum: Minimum

    def __init__(self, objective: Objective, step: TrainingStep) -> None:
        assert isinstance(objective.optimizer, LBFGS)
        self._optimizer = objective.optimizer
        self._network: Sequential = objective.network
        self._l2 = objective.l2
        self._step = step

    def run(self, is_interrupted: Callable[[], bool] = lambda: False) -> bool:
        """Minimize, then measure; return False if interrupted, with the best weights so far in the network."""
        best = self._network.backend.to_host(self._network.parameters).astype(np.float64)
        lowest = np.inf

        def evaluate(point: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal best, lowest
            if is_interrupted():
                raise _InterruptedError
            value, gradient = self._at(point)
            if value < lowest:
                best, lowest = point.copy(), value
            return value, gradient

        try:
            self.minimum = self._optimizer.minimize(evaluate, best)
            self._at(self.minimum.point)
        except _InterruptedError:
            self._move_to(best)
            return False
        return True

    def _at(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Move the weights to a point; return objective and gradient there, or infinity if it is not finite."""
        network, status = self._network, self._step.status
        self._move_to(point)
        status.begin(epoch=status.read().epoch)
        if not self._step.run():
            raise _InterruptedError
        gradient = network.backend.to_host(network.gradients).astype(np.float64)
        weight = point[: network.n_decayed]
        gradient[: network.n_decayed] += self._l2 * weight
        value = status.read().training[0] / self._step.epoch.rows + self._l2 / 2 * float(weight @ weight)
        return (value, gradient) if np.isfinite(value) else (np.inf, np.zeros_like(gradient))

    def _move_to(self, point: np.ndarray) -> None:
        backend = self._network.backend
        backend.copy(backend.from_host(point.astype(self._network.dtype)), self._network.parameters)
