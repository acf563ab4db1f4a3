"""Losses, fused with their gradients."""

from __future__ import annotations

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import FIRST_BAD_STEP, POSITION, STEP, Array


def _record(losses: Array, row_losses: Array, clock: Array) -> None:
    position = clock[POSITION]
    row_losses[position : position + len(losses)] = losses
    if not np.isfinite(losses).all():
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP])


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
        _apply_row_weight(row_weight, losses, d_outputs)
        _record(losses, row_losses, clock)

    return run


def _apply_row_weight(row_weight: Array | None, losses: Array, d_outputs: Array) -> None:
    if row_weight is not None:
        np.multiply(losses, row_weight, out=losses)
        np.multiply(d_outputs, row_weight[:, None], out=d_outputs)


@implements("binary_cross_entropy")
def _binary_cross_entropy(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
) -> BoundCall:
    work, products = np.empty_like(logits), np.empty_like(logits)
    losses, hits = np.empty(len(logits), logits.dtype), np.empty(len(logits), logits.dtype)
    is_positive, is_target = np.empty(logits.shape, np.bool_), np.empty(logits.shape, np.bool_)

    def run() -> None:
        np.logaddexp(0, logits, out=work)
        np.multiply(targets, logits, out=products)
        np.subtract(work, products, out=work)
        np.mean(work, axis=1, out=losses)
        np.greater(logits, 0, out=is_positive)
        np.greater(targets, 0.5, out=is_target)
        np.equal(is_positive, is_target, out=is_positive)
        np.mean(is_positive, axis=1, dtype=hits.dtype, out=hits)
        row_hits[clock[POSITION] : clock[POSITION] + len(logits)] = hits
        np.negative(logits, out=d_logits)
        np.exp(d_logits, out=d_logits)
        np.add(d_logits, 1, out=d_logits)
        np.reciprocal(d_logits, out=d_logits)
        np.subtract(d_logits, targets, out=d_logits)
        np.divide(d_logits, logits.size, out=d_logits)
        _apply_row_weight(row_weight, losses, d_logits)
        _record(losses, row_losses, clock)

    return run


@implements("softmax_cross_entropy_labels")
def _softmax_cross_entropy_labels(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
) -> BoundCall:
    of_row, losses = np.empty((len(logits), 1), logits.dtype), np.empty(len(logits), logits.dtype)
    target_logits, predicted = np.empty_like(losses), np.empty(len(logits), np.intp)
    hits, first_of_row = np.empty(len(logits), np.bool_), np.arange(len(logits)) * logits.shape[1]
    target_index, flat = np.empty(len(logits), np.intp), d_logits.reshape(-1)

    def run() -> None:
        np.argmax(logits, axis=1, out=predicted)
        np.equal(predicted, targets, out=hits)
        np.add(first_of_row, targets, out=target_index)
        np.max(logits, axis=1, keepdims=True, out=of_row)
        np.logical_and(hits, np.equal(of_row[:, 0], of_row[:, 0]), out=hits)
        row_hits[clock[POSITION] : clock[POSITION] + len(logits)] = hits
        np.subtract(logits, of_row, out=d_logits)
        np.take(flat, target_index, out=target_logits, mode="clip")
        np.exp(d_logits, out=d_logits)
        np.sum(d_logits, axis=1, keepdims=True, out=of_row)
        np.divide(d_logits, of_row, out=d_logits)
        np.log(of_row[:, 0], out=losses)
        np.subtract(losses, target_logits, out=losses)
        flat[target_index] -= 1
        np.divide(d_logits, len(logits), out=d_logits)
        _apply_row_weight(row_weight, losses, d_logits)
        _record(losses, row_losses, clock)

    return run


@implements("softmax_cross_entropy_probabilities")
def _softmax_cross_entropy_probabilities(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
) -> BoundCall:
    products, is_absent = np.empty_like(logits), np.empty(logits.shape, np.bool_)
    of_row, losses = np.empty((len(logits), 1), logits.dtype), np.empty(len(logits), logits.dtype)
    predicted, labels = np.empty(len(logits), np.intp), np.empty(len(logits), np.intp)
    hits = np.empty(len(logits), np.bool_)

    def run() -> None:
        np.argmax(logits, axis=1, out=predicted)
        np.argmax(targets, axis=1, out=labels)
        np.equal(predicted, labels, out=hits)
        np.max(logits, axis=1, keepdims=True, out=of_row)
        np.logical_and(hits, np.equal(of_row[:, 0], of_row[:, 0]), out=hits)
        row_hits[clock[POSITION] : clock[POSITION] + len(logits)] = hits
        np.subtract(logits, of_row, out=d_logits)
        np.multiply(targets, d_logits, out=products)
        np.equal(targets, 0, out=is_absent)
        np.putmask(products, is_absent, 0)
        np.exp(d_logits, out=d_logits)
        np.sum(d_logits, axis=1, keepdims=True, out=of_row)
        np.divide(d_logits, of_row, out=d_logits)
        np.log(of_row[:, 0], out=losses)
        np.sum(products, axis=1, keepdims=True, out=of_row)
        np.subtract(losses, of_row[:, 0], out=losses)
        np.subtract(d_logits, targets, out=d_logits)
        np.divide(d_logits, len(logits), out=d_logits)
        _apply_row_weight(row_weight, losses, d_logits)
        _record(losses, row_losses, clock)

    return run
