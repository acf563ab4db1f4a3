"""What a measured step finds out about the layers."""

from __future__ import annotations

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import Array


@implements("chunk_changes")
def _chunk_changes(before: Array, parameters: Array, gradients: Array, chunks: Array, partials: Array) -> BoundCall:
    parts = [slice(first, end) for first, end in chunks]
    scratch = np.empty((2, max((part.stop - part.start for part in parts), default=0)))

    def run() -> None:
        for part, sums in zip(parts, partials, strict=True):
            w, v = scratch[:, : part.stop - part.start]
            np.copyto(v, gradients[part])
            sums[0] = np.dot(v, v)
            np.copyto(w, before[part])
            sums[2] = np.dot(w, w)
            np.copyto(v, parameters[part])
            np.subtract(v, w, out=v)
            sums[1] = np.dot(v, v)

    return run


@implements("mark_dead_units")
def _mark_dead_units(y: Array, units: Array) -> BoundCall:
    largest, is_alive = np.empty(y.shape[1], y.dtype), np.empty(y.shape[1], np.bool_)

    def run() -> None:
        np.fmax.reduce(y, axis=0, out=largest, initial=-np.inf)
        np.greater(largest, 0, out=is_alive)
        np.logical_not(is_alive, out=units)

    return run


@implements("saturated_shares")
def _saturated_shares(y: Array, units: Array, low: float, high: float) -> BoundCall:
    is_low, is_high = np.empty((2, *y.shape), np.bool_)

    def run() -> None:
        np.less(y, low, out=is_low)
        np.greater(y, high, out=is_high)
        np.logical_or(is_low, is_high, out=is_low)
        np.mean(is_low, axis=0, out=units)

    return run
