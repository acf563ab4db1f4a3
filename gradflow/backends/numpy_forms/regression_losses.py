"""The losses of numbers, fused with their gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.numpy_forms.row_losses import record, weigh
from gradflow.backends.reference import BoundCall
from gradflow.ops import Array


@implements("squared_error")
def _squared_error(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
    factor: float,
) -> BoundCall:
    squares, losses = np.empty_like(outputs), np.empty(len(outputs), outputs.dtype)

    def run() -> None:
        np.subtract(outputs, targets, out=d_outputs)
        np.square(d_outputs, out=squares)
        np.sum(squares, axis=1, out=losses)
        np.multiply(losses, factor, out=losses)
        np.multiply(d_outputs, 2 * factor / len(outputs), out=d_outputs)
        weigh(row_weight, losses, d_outputs)
        record(losses, row_losses, clock)

    return run


def _bind_means(
    terms: Array, row_weight: Array | None, d_outputs: Array, row_losses: Array, clock: Array
) -> Callable[[], None]:
    """From the terms of the loss and their derivatives in d_outputs, the loss of each row and those of the mean."""
    losses = np.empty(len(terms), terms.dtype)

    def run() -> None:
        np.mean(terms, axis=1, out=losses)
        np.divide(d_outputs, terms.size, out=d_outputs)
        weigh(row_weight, losses, d_outputs)
        record(losses, row_losses, clock)

    return run


@implements("absolute_error")
def _absolute_error(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
) -> BoundCall:
    terms = np.empty_like(outputs)
    means = _bind_means(terms, row_weight, d_outputs, row_losses, clock)

    def run() -> None:
        np.subtract(outputs, targets, out=d_outputs)
        np.abs(d_outputs, out=terms)
        np.sign(d_outputs, out=d_outputs)
        means()

    return run


@implements("huber")
def _huber(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
    delta: float,
) -> BoundCall:
    terms, half = np.empty_like(outputs), np.empty_like(outputs)
    means = _bind_means(terms, row_weight, d_outputs, row_losses, clock)

    def run() -> None:
        np.subtract(outputs, targets, out=terms)
        np.clip(terms, -delta, delta, out=d_outputs)
        np.divide(d_outputs, 2, out=half)
        np.subtract(terms, half, out=terms)
        np.multiply(terms, d_outputs, out=terms)
        means()

    return run


@implements("poisson")
def _poisson(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
) -> BoundCall:
    terms, rate = np.empty_like(outputs), np.empty_like(outputs)
    means = _bind_means(terms, row_weight, d_outputs, row_losses, clock)

    def run() -> None:
        np.exp(outputs, out=rate)
        np.multiply(targets, outputs, out=terms)
        np.subtract(rate, terms, out=terms)
        np.subtract(rate, targets, out=d_outputs)
        means()

    return run


@implements("quantile")
def _quantile(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
    quantiles: Array,
) -> BoundCall:
    terms, error, other = (np.empty_like(outputs) for _ in range(3))
    is_above, has_slope = np.empty(outputs.shape, np.bool_), np.empty(outputs.shape, np.bool_)
    means = _bind_means(terms, row_weight, d_outputs, row_losses, clock)
    by_target = (*targets.shape, len(quantiles))
    error3, terms3, other3, slope3 = (array.reshape(by_target) for array in (error, terms, other, d_outputs))

    def run() -> None:
        np.subtract(targets[:, :, None], outputs.reshape(by_target), out=error3)
        np.multiply(error3, quantiles, out=terms3)
        np.multiply(error3, quantiles - 1, out=other3)
        np.maximum(terms, other, out=terms)
        np.less(error, 0, out=is_above)
        np.subtract(is_above.reshape(by_target), quantiles, out=slope3)
        np.abs(error, out=other)
        np.greater(other, 0, out=has_slope)
        np.logical_not(has_slope, out=has_slope)
        np.copyto(d_outputs, error, where=has_slope)
        means()

    return run
