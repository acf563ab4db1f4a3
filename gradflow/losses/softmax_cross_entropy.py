"""Softmax cross-entropy (Bridle, 1990) on logits, for class labels and for probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import fraction, non_negative
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.functions import log_softmax, row_weights, softmax
from gradflow.losses.base import Loss, dense_targets, record_class_correct, record_losses
from gradflow.losses.focal import softmax_focal
from gradflow.losses.smoothing import smooth_targets
from gradflow.ops import Array, op, shape_of_first
from gradflow.schedules import Scheduled, described, initial, number_or_schedule


@op(
    shapes="logits, targets, d_logits: rows columns; row_weight: rows; row_losses, row_correct: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_correct", "clock"),
    in_place=(("logits", "d_logits"),),
)
def softmax_cross_entropy_probabilities(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_correct: Array,
    clock: Array,
) -> None:
    """Row loss w (log Σ_k exp(z_k) - Σ_k t_k z_k);  dL/dz_j = w (softmax(z)_j - t_j) / rows"""
    weight = row_weights(row_weight, len(logits), logits.dtype)
    losses = -np.where(targets == 0, 0, targets * log_softmax(logits)).sum(axis=1)
    losses[np.isnan(logits).any(axis=1)] = np.nan
    record_losses(weight * losses, row_losses, clock)
    record_class_correct(logits, targets, row_correct, clock)
    d_logits[...] = weight[:, None] * (softmax(logits) - targets) / len(logits)


@op(
    shapes="logits, d_logits: rows columns; targets, row_weight: rows; row_losses, row_correct: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_correct", "clock"),
    in_place=(("logits", "d_logits"),),
)
def softmax_cross_entropy_labels(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_correct: Array,
    clock: Array,
) -> None:
    """The same with t_c = 1 for the label c of the row and 0 elsewhere"""
    one_hot = np.eye(logits.shape[1], dtype=logits.dtype)[targets]
    softmax_cross_entropy_probabilities.reference(logits, one_hot, row_weight, d_logits, row_losses, row_correct, clock)


@op(
    shapes="probabilities: rows columns; labels: rows; smoothing: 1",
    writes=("probabilities",),
    sizes=lambda arguments: shape_of_first({"probabilities": arguments["probabilities"]}),
)
def label_probabilities(labels: Array, probabilities: Array, smoothing: Array) -> None:
    """t_k = smoothing / n_out, plus 1 - smoothing for the label of the row"""
    n_out, spread = probabilities.shape[1], float(smoothing[0])
    probabilities[...] = np.where(np.arange(n_out) == labels[:, None], 1 - spread, 0) + spread / n_out


class SoftmaxCrossEntropy(Loss):
    """L = mean over rows of -Σ_k t_k log(p_k), with p = softmax(logits).

    dL/dlogit_k = (p_k - t_k) / rows. Targets: class labels (batch,) or (batch, 1), which are integers from 0 to
    n_out - 1 or names (`Sequential.classes`); or probabilities (batch, n_out) with sum 1. Accuracy is the fraction of
    rows whose largest logit is that of the target.

    Args:
        label_smoothing: the fraction s of each target that is spread over all classes: t (1 - s) + s / n_out (Szegedy
            et al., 2016, section 7). At least 0 and below 1, or a schedule; evaluation takes its first value.
        focal_gamma: the exponent γ of the focal loss (Lin et al., 2017, equation 4), at least 0: each term is
            multiplied by (1 - p_k)^γ, which reduces the weight of correct predictions. 0 is the plain loss.
    """

    name = "softmax_cross_entropy"
    output_activation = "softmax"
    has_accuracy = True
    takes_classes = True

    fractions = ("label_smoothing",)

    def __init__(self, label_smoothing: Scheduled = 0.0, focal_gamma: float = 0.0) -> None:
        self.label_smoothing = number_or_schedule("label_smoothing", label_smoothing, fraction)
        self.focal_gamma = non_negative("focal_gamma", focal_gamma)

    def config(self) -> dict[str, Any]:
        return {"label_smoothing": described(self.label_smoothing), "focal_gamma": self.focal_gamma}

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        if n_out < 2:
            raise DataError(
                "softmax_cross_entropy needs at least 2 outputs, one for each class; "
                "for two classes and one output use binary_cross_entropy"
            )
        if y.ndim == 2 and y.shape[1] == n_out:
            return self._probabilities(y, n_out, dtype)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y.reshape(-1)
        if y.ndim != 1:
            raise DataError(
                f"targets must be labels of shape (batch,) or probabilities of shape (batch, {n_out}), got {y.shape}"
            )
        if y.dtype.kind not in "iub":
            raise DataError(
                f"class labels must be integers from 0 to {n_out - 1}, got dtype {y.dtype}; "
                "whole numbers convert with y.astype(int), and other labels need names: network.classes"
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= n_out:
            raise DataError(
                f"class labels must be from 0 to {n_out - 1} for a network with {n_out} outputs, "
                f"got labels from {low} to {high}; name other labels before training: network.classes = [...]"
            )
        return y.astype(np.int32)

    def _probabilities(self, y: Array, n_out: int, dtype: Any) -> Array:
        targets = dense_targets(y, n_out, dtype)
        sums = targets.sum(axis=1)
        if float(targets.min()) < 0 or float(abs(sums - 1).max()) > 1e-3:
            raise DataError(
                "target probabilities must be at least 0 and sum to 1 in each row, got values from "
                f"{float(targets.min()):g} and sums from {float(sums.min()):g} to {float(sums.max()):g}"
            )
        return targets

    def smoothed(self, targets: Array) -> Array:
        smoothed = np.empty_like(targets)
        smooth_targets.reference(targets, smoothed, np.array([initial(self.label_smoothing)]), targets.shape[1])
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
        if targets.ndim == 1 and (self.label_smoothing or self.focal_gamma):
            labels, targets = targets, ops.backend.empty(outputs.shape, outputs.dtype)
            ops(label_probabilities, labels, targets, ops.value(self.label_smoothing))
        elif self.label_smoothing:
            given, targets = targets, ops.backend.empty(outputs.shape, outputs.dtype)
            ops(smooth_targets, given, targets, ops.value(self.label_smoothing), outputs.shape[1])
        arguments = (outputs, targets, row_weight, d_outputs, row_losses, row_correct, clock)
        if self.focal_gamma:
            ops(softmax_focal, *arguments, self.focal_gamma)
        elif targets.ndim == 1:
            ops(softmax_cross_entropy_labels, *arguments)
        else:
            ops(softmax_cross_entropy_probabilities, *arguments)
