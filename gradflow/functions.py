"""Functions that several definitions share, written so that nothing overflows or cancels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.ops import Array


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written exp(x) / (1 + exp(x)) for negative x"""
    small = np.exp(-abs(x))
    return np.where(x < 0, small, 1) / (1 + small)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))"""
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def softmax(z: Array) -> Array:
    """exp(z_j - m) / Σ_k exp(z_k - m) in each row, m = max_k z_k"""
    exponentials = np.exp(z - z.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def log_softmax(z: Array) -> Array:
    """z_j - m - log Σ_k exp(z_k - m) in each row, m = max_k z_k"""
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def row_weights(row_weight: Array | None, rows: int, dtype: Any) -> Array:
    """Return the weights of the rows in a dtype, 1 where none are given."""
    return np.ones(rows, dtype) if row_weight is None else row_weight.astype(dtype, copy=False)


def cos_turns(turns: Array) -> Array:
    """cos(2π t), as the sine of what is left to a quarter of a turn: no digits are lost for large t or small results"""
    return np.sin(2 * math.pi * (0.25 - abs(turns - np.rint(turns))))


def sin_turns(turns: Array) -> Array:
    """sin(2π t), as the sine of what is left to the nearest multiple of half a turn"""
    rest = turns - np.rint(turns)
    return np.sin(2 * math.pi * np.where(abs(rest) > 0.25, np.copysign(0.5, rest) - rest, rest))
