"""Softmax cross-entropy on logits, for class labels and for probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.errors import DataError
from gradflow.losses.base import Loss, dense_targets, record_losses
from gradflow.ops import POSITION, Array, Executor, op

__all__ = ["SoftmaxCrossEntropy", "softmax_cross_entropy_labels", "softmax_cross_entropy_probabilities"]


@op(
    shapes="logits, targets, d_logits: rows columns; row_weight: rows; row_losses, row_hits: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_hits", "clock"),
    in_place=(("logits", "d_logits"),),
)
def softmax_cross_entropy_probabilities(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
) -> None:
    """Row loss w (log Σ_k exp(z_k) - Σ_k t_k z_k);  dL/dz_j = w (softmax(z)_j - t_j) / rows"""
    weight = np.ones(len(logits), logits.dtype) if row_weight is None else row_weight
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -np.where(targets == 0, 0, targets * log_probability).sum(axis=1)
    losses[np.isnan(logits).any(axis=1)] = np.nan
    record_losses(weight * losses, row_losses, clock)
    position = clock[POSITION]
    hits = np.argmax(logits, axis=1) == np.argmax(targets, axis=1)
    row_hits[position : position + len(logits)] = hits & ~np.isnan(logits).any(axis=1)
    d_logits[...] = weight[:, None] * (np.exp(log_probability) - targets) / len(logits)


@op(
    shapes="logits, d_logits: rows columns; targets, row_weight: rows; row_losses, row_hits: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_hits", "clock"),
    in_place=(("logits", "d_logits"),),
)
def softmax_cross_entropy_labels(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
) -> None:
    """The same with t_c = 1 for the label c of the row and 0 elsewhere"""
    one_hot = np.eye(logits.shape[1], dtype=logits.dtype)[targets]
    softmax_cross_entropy_probabilities.reference(logits, one_hot, row_weight, d_logits, row_losses, row_hits, clock)


class SoftmaxCrossEntropy(Loss):
    """L = mean over rows of -Σ_k t_k log(p_k), with p = softmax(logits).

    dL/dlogit_k = (p_k - t_k) / rows. Targets: integer class labels (batch,) or (batch, 1) from 0 to n_out - 1, or
    probabilities (batch, n_out) with sum 1. Accuracy is the share of rows whose largest logit is the target's.
    """

    name = "softmax_cross_entropy"
    output_activation = "softmax"
    has_accuracy = True

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
                "whole numbers convert with y.astype(int), other labels with numpy.unique(y, return_inverse=True)"
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= n_out:
            raise DataError(
                f"class labels must be from 0 to {n_out - 1} for a network with {n_out} outputs, "
                f"got labels from {low} to {high}"
            )
        return y.astype(np.int32)

    def _probabilities(self, y: Array, n_out: int, dtype: Any) -> Array:
        targets = dense_targets(y, n_out, dtype)
        sums = targets.sum(axis=1)
        if float(targets.min()) < 0 or float(abs(sums - 1).max()) > 1e-3:
            raise DataError(
                "target probabilities must be at least 0 and have the sum 1 in each row, got values from "
                f"{float(targets.min()):g} and sums from {float(sums.min()):g} to {float(sums.max()):g}"
            )
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
        op = softmax_cross_entropy_labels if targets.ndim == 1 else softmax_cross_entropy_probabilities
        ops(op, outputs, targets, row_weight, d_outputs, row_losses, row_hits, clock)
