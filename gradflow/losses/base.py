"""Base classes of losses, and helpers for their ops."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from gradflow.configurable import Configurable
from gradflow.errors import DataError, GradflowError
from gradflow.executors import Executor
from gradflow.ops import FIRST_BAD_STEP, POSITION, STEP, Array, Op, op

LOSSES: dict[str, type[Loss]] = {}
"""Every loss class by its name."""

OUTPUT_ACTIVATIONS = ("identity", "sigmoid", "softmax")
"""Activations that can turn the outputs that a loss takes into predictions."""


class Loss(Configurable, registry=LOSSES):
    """A loss, fused with its output activation and its gradient.

    A subclass defines its name, checks and converts targets, and calls the op that writes, for outputs (batch, n_out):

    - ``d_outputs``: dL/doutputs of the mean loss over the batch;
    - ``row_losses``: the loss of each row, at the row's position in the epoch;
    - ``row_correct``, if `has_accuracy`: the fraction of the row's predictions that are correct, at the same position.

    The op also records the first step with a non-finite loss on the clock.
    """

    output_activation: ClassVar[str]
    """The activation that turns outputs into predictions: "identity", "sigmoid" or "softmax"."""
    has_accuracy: ClassVar[bool]
    predicts_targets: ClassVar[bool] = True
    """True if outputs are direct predictions of the targets, as regression metrics need, not log rates or quantiles."""
    takes_any_scale: ClassVar[bool] = True
    """True if targets may be shifted and scaled; False for counts, where 0 has a meaning."""
    takes_classes: ClassVar[bool] = False
    """True if targets may be class numbers: with softmax, or sigmoid and one output. They may then have names."""

    @property
    def outputs_per_target(self) -> int:
        """The number of outputs side by side that are in the units of one target: 1, or several quantiles."""
        return 1

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        """Check and convert targets for outputs (batch, n_out); NumPy arrays stay NumPy arrays, and CuPy arrays CuPy.

        Raises:
            DataError: if shape, dtype or values do not fit.
        """
        raise GradflowError(f"loss {type(self).__name__} does not define targets(y, n_out, dtype)")

    def smoothed(self, targets: Array) -> Array:
        """Return the targets (batch, n_out) that `apply` compares with the outputs, after label smoothing."""
        return targets

    def apply(
        self,
        ops: Executor,
        outputs: Array,
        targets: Array,
        row_weight: Array | None,
        d_outputs: Array,
        row_losses: Array,
        row_correct: Array,
        clock: Array,
    ) -> None:
        """Call the loss's op."""
        raise GradflowError(f"loss {type(self).__name__} does not define apply(ops, outputs, targets, ...)")


class RegressionLoss(Loss):
    """Base class of regression losses: outputs are predictions without an activation; targets (batch, n_out).

    A subclass names its `op`, with the arguments ``outputs, targets, row_weight, d_outputs, row_losses, clock`` and
    then its `settings`; or it defines `apply`.
    """

    output_activation = "identity"
    has_accuracy = False

    @property
    def op(self) -> Op:
        """The op that computes the loss of each row and its gradient."""
        raise GradflowError(f"loss {type(self).__name__} defines neither its op nor apply(ops, outputs, targets, ...)")

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        return dense_targets(y, n_out, dtype)

    def settings(self, ops: Executor, outputs: Array) -> tuple[Any, ...]:
        """Return the last arguments of the op, for outputs of shape (batch, n_out)."""
        return ()

    def apply(
        self,
        ops: Executor,
        outputs: Array,
        targets: Array,
        row_weight: Array | None,
        d_outputs: Array,
        row_losses: Array,
        row_correct: Array,
        clock: Array,
    ) -> None:
        settings = self.settings(ops, outputs)
        ops(self.op, outputs, targets, row_weight, d_outputs, row_losses, clock, *settings)


@op(shapes="row_weight: rows; row_correct: epoch_rows; clock: 4", writes=("row_correct",))
def weigh_correct(row_weight: Array, row_correct: Array, clock: Array) -> None:
    """correct *= w, for the rows of the batch at their positions in the epoch"""
    position = clock[POSITION]
    row_correct[position : position + len(row_weight)] *= row_weight


def record_losses(losses: Array, row_losses: Array, clock: Array) -> None:
    """Store the losses of a batch at its position in the epoch, and record on the clock if one is not finite."""
    position = clock[POSITION]
    row_losses[position : position + len(losses)] = losses
    if not (abs(losses) < float("inf")).all():
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP])


def record_class_correct(logits: Array, targets: Array, row_correct: Array, clock: Array) -> None:
    """Store 1 for rows whose first largest logit is that of the target, else 0; also 0 for rows with NaN."""
    correct = np.argmax(logits, axis=1) == np.argmax(targets, axis=1)
    _record_correct(correct & ~np.isnan(logits).any(axis=1), row_correct, clock)


def record_side_correct(logits: Array, targets: Array, row_correct: Array, clock: Array) -> None:
    """Store the fraction of each row's logits that are on the side of 0 on which the targets are of 1/2."""
    _record_correct(((logits > 0) == (targets > 0.5)).mean(axis=1), row_correct, clock)


def _record_correct(correct: Array, row_correct: Array, clock: Array) -> None:
    position = clock[POSITION]
    row_correct[position : position + len(correct)] = correct


def dense_targets(y: Array, n_out: int, dtype: Any) -> Array:
    """Return numeric targets of shape (batch, n_out); for one output, (batch,) is reshaped to (batch, 1)."""
    if y.ndim == 1 and n_out == 1:
        y = y.reshape(-1, 1)
    if y.ndim != 2 or y.shape[1] != n_out:
        expected = f"(batch, {n_out})" + (" or (batch,)" if n_out == 1 else "")
        other = f"; a network with {y.shape[1]} outputs fits them" if y.ndim == 2 else ""
        raise DataError(f"targets must have shape {expected} for a network with {n_out} outputs, got {y.shape}{other}")
    with np.errstate(over="ignore", under="ignore"):
        converted = y.astype(dtype)
    if not bool((abs(converted) < float("inf")).all()):
        raise DataError(f"targets contain NaN, infinity, or numbers too large for {dtype}; remove or replace them")
    return converted
