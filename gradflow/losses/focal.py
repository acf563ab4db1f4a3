"""Cross-entropies with focal weighting (Lin, Goyal, Girshick, He & Dollár, 2017).

References:
    T.-Y. Lin et al., "Focal loss for dense object detection", ICCV (2017).
"""

from __future__ import annotations

import numpy as np

from gradflow.functions import log_softmax, row_weights, sigmoid, softmax, softplus
from gradflow.losses.base import record_class_correct, record_losses, record_side_correct
from gradflow.ops import Array, op


@op(
    shapes="logits, targets, d_logits: rows columns; row_weight: rows; row_losses, row_correct: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_correct", "clock"),
    in_place=(("logits", "d_logits"),),
)
def softmax_focal(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_correct: Array,
    clock: Array,
    gamma: float,
) -> None:
    """Row loss -w Σ_k t_k (1 - p_k)^γ log p_k, p = softmax(z);  dL/dz_j = w (a_j - p_j Σ_k a_k) / rows

    with a_k = -t_k (1 - p_k)^γ (1 + γ p_k r_k), r_k = -log(p_k) / (1 - p_k), which is 1 at p_k = 1."""
    weight = row_weights(row_weight, len(logits), logits.dtype)
    log_probability = log_softmax(logits)
    probability, rest = softmax(logits), -np.expm1(log_probability)
    focus = targets * rest**gamma
    record_losses(weight * -np.where(targets == 0, 0, focus * log_probability).sum(axis=1), row_losses, clock)
    record_class_correct(logits, targets, row_correct, clock)
    ratio = np.where(log_probability == 0, 1, -log_probability / rest)
    slope = np.where(targets == 0, 0, -focus * (1 + gamma * np.where(probability == 0, 0, probability * ratio)))
    d_logits[...] = weight[:, None] * (slope - probability * slope.sum(axis=1, keepdims=True)) / len(logits)


@op(
    shapes="logits, targets, d_logits: rows columns; row_weight: rows; row_losses, row_correct: epoch_rows; clock: 4",
    writes=("d_logits", "row_losses", "row_correct", "clock"),
    in_place=(("logits", "d_logits"),),
)
def binary_focal(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_correct: Array,
    clock: Array,
    gamma: float,
) -> None:
    """Row loss w mean_j [t q^γ u + (1 - t) p^γ v], p = sigmoid(z), q = 1 - p, u = -log p, v = -log q;

    dL/dz_j = w ((1 - t) p^γ (γ q v + p) - t q^γ (γ p u + q)) / (rows n_out)"""
    weight = row_weights(row_weight, len(logits), logits.dtype)
    u, v = softplus(-logits), softplus(logits)
    p, q = sigmoid(logits), sigmoid(-logits)
    of_one, of_zero = targets * q**gamma, (1 - targets) * p**gamma
    record_losses(weight * (of_one * u + of_zero * v).mean(axis=1), row_losses, clock)
    record_side_correct(logits, targets, row_correct, clock)
    slope = of_zero * (gamma * q * v + p) - of_one * (gamma * p * u + q)
    d_logits[...] = weight[:, None] * slope / logits.size
