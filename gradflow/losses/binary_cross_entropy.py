"""Binary cross-entropy on logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import fraction, non_negative
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.functions import row_weights, sigmoid, softplus
from gradflow.losses.base import Loss, dense_targets, record_losses, record_side_correct
from gradflow.losses.focal import binary_focal
from gradflow.losses.smoothing import smooth_targets
from gradflow.ops import Array, op
from gradflow.schedules import Scheduled, described, initial, number_or_schedule


@op(
    shapes="logits, targets, d_logits: rows columns; row_weight: rows; row_losses, row_correct: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_correct", "clock"),
    in_place=(("logits", "d_logits"),),
)
def binary_cross_entropy(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_correct: Array,
    clock: Array,
) -> None:
    """Row loss w mean_j [log(1 + exp(z_j)) - t_j z_j];  dL/dz_j = w (sigmoid(z_j) - t_j) / (rows n_out)"""
    weight = row_weights(row_weight, len(logits), logits.dtype)
    record_losses(weight * (softplus(logits) - targets * logits).mean(axis=1), row_losses, clock)
    record_side_correct(logits, targets, row_correct, clock)
    d_logits[...] = weight[:, None] * (sigmoid(logits) - targets) / logits.size


class BinaryCrossEntropy(Loss):
    """L = mean over rows and outputs of -t log(p) - (1 - t) log(1 - p), with p = sigmoid(logit).

    dL/dlogit = (p - t) / (rows n_out). Targets in [0, 1], of shape (batch, n_out), or (batch,) for one output; for one
    output also the names of two classes (`Sequential.classes`). Accuracy is the fraction of outputs on the correct side
    of p = ½.

    Args:
        label_smoothing: the fraction s of each target that is replaced by ½: t (1 - s) + s / 2 (Szegedy et al., 2016,
            section 7). At least 0 and below 1, or a schedule; evaluation takes its first value.
        focal_gamma: the exponent γ of the focal loss (Lin et al., 2017, equation 4), at least 0: the two terms are
            multiplied by (1 - p)^γ and p^γ, which reduces the weight of correct predictions. 0 is the plain loss.
    """

    name = "binary_cross_entropy"
    output_activation = "sigmoid"
    has_accuracy = True
    takes_classes = True

    fractions = ("label_smoothing",)

    def __init__(self, label_smoothing: Scheduled = 0.0, focal_gamma: float = 0.0) -> None:
        self.label_smoothing = number_or_schedule("label_smoothing", label_smoothing, fraction)
        self.focal_gamma = non_negative("focal_gamma", focal_gamma)

    def config(self) -> dict[str, Any]:
        return {"label_smoothing": described(self.label_smoothing), "focal_gamma": self.focal_gamma}

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        targets = dense_targets(y, n_out, dtype)
        low, high = float(targets.min()), float(targets.max())
        if low < 0 or high > 1:
            raise DataError(
                f"targets of binary_cross_entropy must be between 0 and 1, got values from {low:g} to {high:g}; "
                "convert classes -1 and 1 with (y + 1) / 2; for several classes use softmax_cross_entropy"
            )
        return targets

    def smoothed(self, targets: Array) -> Array:
        smoothed = np.empty_like(targets)
        smooth_targets.reference(targets, smoothed, np.array([initial(self.label_smoothing)]), 2)
        return smoothed

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
        if self.label_smoothing:
            given, targets = targets, ops.backend.empty(outputs.shape, outputs.dtype)
            ops(smooth_targets, given, targets, ops.value(self.label_smoothing), 2)
        arguments = (outputs, targets, row_weight, d_outputs, row_losses, row_correct, clock)
        if self.focal_gamma:
            ops(binary_focal, *arguments, self.focal_gamma)
        else:
            ops(binary_cross_entropy, *arguments)
