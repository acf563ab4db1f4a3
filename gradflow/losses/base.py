"""What a loss is."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from gradflow.errors import DataError, GradflowError
from gradflow.names import register
from gradflow.ops import FIRST_BAD_STEP, POSITION, STEP, Array, Executor, op

__all__ = ["LOSSES", "OUTPUT_ACTIVATIONS", "Loss", "RegressionLoss", "dense_targets", "record_losses", "weigh_hits"]

LOSSES: dict[str, type[Loss]] = {}
"""Every loss class by its name."""

OUTPUT_ACTIVATIONS = ("identity", "sigmoid", "softmax")
"""What can turn the outputs that a loss takes into predictions."""


class Loss:
    """A loss, fused with the activation that belongs to it and with its gradient.

    A subclass names itself, checks and converts targets, and calls the op that writes, for outputs (batch, n_out):

    - ``d_outputs``: dL/doutputs of the mean loss over the batch;
    - ``row_losses``: the loss of each row, at the row's place in the epoch;
    - ``row_hits``, if `has_accuracy`: the share of the row that is predicted right, likewise.

    The op also notes the first step whose loss is not finite on the clock.
    """

    name: ClassVar[str]
    output_activation: ClassVar[str]
    """The activation that turns outputs into predictions: "identity", "sigmoid" or "softmax"."""
    has_accuracy: ClassVar[bool]
    predicts_targets: ClassVar[bool] = True
    """Whether an output stands for its target itself, as metrics of numbers take it: not a log rate or a quantile."""
    takes_any_scale: ClassVar[bool] = True
    """Whether targets may be shifted and scaled: not where they are counts, for which 0 has a meaning."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        register(LOSSES, cls, Loss)

    def config(self) -> dict[str, Any]:
        """The arguments that make this loss again: numbers, strings and booleans, or lists of these."""
        return {}

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        """Targets checked and converted for outputs (batch, n_out): a NumPy or CuPy array, as it came.

        Raises:
            DataError: if shape, dtype or values do not fit.
        """
        raise GradflowError(f"loss {type(self).__name__} does not define targets(y, n_out, dtype)")

    def smoothed(self, targets: Array) -> Array:
        """Return the targets (batch, n_out) that `apply` compares with the outputs, where labels are smoothed."""
        return targets

    def apply(
        self,
        ops: Executor,
        outputs: Array,
        targets: Array,
        row_weight: Array | None,
        d_outputs: Array,
        row_losses: Array,
        row_hits: Array,
        clock: Array,
    ) -> None:
        """Call the loss's op."""
        raise GradflowError(f"loss {type(self).__name__} does not define apply(ops, outputs, targets, ...)")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"


class RegressionLoss(Loss):
    """The base of losses of numbers: outputs are predictions as they are, and targets (batch, n_out)."""

    output_activation = "identity"
    has_accuracy = False

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        return dense_targets(y, n_out, dtype)


@op(shapes="row_weight: rows; row_hits: epoch_rows; clock: 4", writes=("row_hits",))
def weigh_hits(row_weight: Array, row_hits: Array, clock: Array) -> None:
    """hits *= w, for the rows of the batch at their places in the epoch"""
    position = clock[POSITION]
    row_hits[position : position + len(row_weight)] *= row_weight


def record_losses(losses: Array, row_losses: Array, clock: Array) -> None:
    """Put the losses of a batch at its place in the epoch, and note on the clock if one is not finite."""
    position = clock[POSITION]
    row_losses[position : position + len(losses)] = losses
    if not (abs(losses) < float("inf")).all():
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP])


def dense_targets(y: Array, n_out: int, dtype: Any) -> Array:
    """Numeric targets of shape (batch, n_out); (batch,) stands for (batch, 1) where there is one output."""
    if y.ndim == 1 and n_out == 1:
        y = y.reshape(-1, 1)
    if y.ndim != 2 or y.shape[1] != n_out:
        expected = f"(batch, {n_out})" + (" or (batch,)" if n_out == 1 else "")
        other = f"; a network with {y.shape[1]} outputs takes them" if y.ndim == 2 else ""
        raise DataError(f"targets must have shape {expected} for a network with {n_out} outputs, got {y.shape}{other}")
    with np.errstate(over="ignore", under="ignore"):
        converted = y.astype(dtype)
    if not bool((abs(converted) < float("inf")).all()):
        raise DataError(f"targets contain NaN, infinity, or numbers too large for {dtype}; remove or replace them")
    return converted
