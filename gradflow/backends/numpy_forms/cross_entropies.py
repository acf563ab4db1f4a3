"""The cross-entropies, fused with their gradients."""

from __future__ import annotations

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.numpy_forms.row_losses import record, weigh
from gradflow.backends.reference import BoundCall
from gradflow.ops import POSITION, Array


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
        weigh(row_weight, losses, d_logits)
        record(losses, row_losses, clock)

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
        weigh(row_weight, losses, d_logits)
        record(losses, row_losses, clock)

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
        weigh(row_weight, losses, d_logits)
        record(losses, row_losses, clock)

    return run


@implements("label_probabilities")
def _label_probabilities(labels: Array, probabilities: Array, smoothing: float) -> BoundCall:
    rows, columns = probabilities.shape
    index, first_of_row = np.empty(rows, np.intp), np.arange(rows) * columns
    flat = probabilities.reshape(-1)

    def run() -> None:
        flat.fill(smoothing / columns)
        np.add(first_of_row, labels, out=index)
        flat[index] += 1 - smoothing

    return run


@implements("softmax_focal")
def _softmax_focal(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
    gamma: float,
) -> BoundCall:
    probability, rest, focus, terms = (np.empty_like(logits) for _ in range(4))
    is_absent, is_certain, is_impossible = (np.empty(logits.shape, np.bool_) for _ in range(3))
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
        log_probability = d_logits
        np.subtract(logits, of_row, out=log_probability)
        np.exp(log_probability, out=probability)
        np.sum(probability, axis=1, keepdims=True, out=of_row)
        np.log(of_row, out=of_row)
        np.subtract(log_probability, of_row, out=log_probability)
        np.exp(log_probability, out=probability)
        np.expm1(log_probability, out=rest)
        np.negative(rest, out=rest)
        np.power(rest, gamma, out=focus)
        np.multiply(focus, targets, out=focus)
        np.equal(targets, 0, out=is_absent)
        np.multiply(focus, log_probability, out=terms)
        np.putmask(terms, is_absent, 0)
        np.sum(terms, axis=1, out=losses)
        np.negative(losses, out=losses)
        np.equal(log_probability, 0, out=is_certain)
        np.equal(probability, 0, out=is_impossible)
        np.divide(log_probability, rest, out=terms)
        np.negative(terms, out=terms)
        np.putmask(terms, is_certain, 1)
        np.multiply(terms, probability, out=terms)
        np.putmask(terms, is_impossible, 0)
        np.multiply(terms, gamma, out=terms)
        np.add(terms, 1, out=terms)
        np.multiply(terms, focus, out=terms)
        np.negative(terms, out=terms)
        np.putmask(terms, is_absent, 0)
        np.sum(terms, axis=1, keepdims=True, out=of_row)
        np.multiply(probability, of_row, out=probability)
        np.subtract(terms, probability, out=d_logits)
        np.divide(d_logits, len(logits), out=d_logits)
        weigh(row_weight, losses, d_logits)
        record(losses, row_losses, clock)

    return run


@implements("binary_focal")
def _binary_focal(
    logits: Array,
    targets: Array,
    row_weight: Array | None,
    d_logits: Array,
    row_losses: Array,
    row_hits: Array,
    clock: Array,
    gamma: float,
) -> BoundCall:
    u, v, p, q, of_one, of_zero, work = (np.empty_like(logits) for _ in range(7))
    losses, hits = np.empty(len(logits), logits.dtype), np.empty(len(logits), logits.dtype)
    is_positive, is_target = np.empty(logits.shape, np.bool_), np.empty(logits.shape, np.bool_)

    def run() -> None:
        np.greater(logits, 0, out=is_positive)
        np.greater(targets, 0.5, out=is_target)
        np.equal(is_positive, is_target, out=is_positive)
        np.mean(is_positive, axis=1, dtype=hits.dtype, out=hits)
        row_hits[clock[POSITION] : clock[POSITION] + len(logits)] = hits
        np.logaddexp(0, logits, out=v)
        np.negative(logits, out=work)
        np.logaddexp(0, work, out=u)
        for log, share in ((u, p), (v, q)):
            np.negative(log, out=share)
            np.exp(share, out=share)
        np.power(q, gamma, out=of_one)
        np.multiply(of_one, targets, out=of_one)
        np.power(p, gamma, out=of_zero)
        np.subtract(1, targets, out=work)
        np.multiply(of_zero, work, out=of_zero)
        np.multiply(of_one, u, out=work)
        np.multiply(of_zero, v, out=d_logits)
        np.add(work, d_logits, out=work)
        np.mean(work, axis=1, out=losses)
        # of_zero (gamma q v + p) - of_one (gamma p u + q)
        np.multiply(v, q, out=v)
        np.multiply(v, gamma, out=v)
        np.add(v, p, out=v)
        np.multiply(v, of_zero, out=v)
        np.multiply(u, p, out=u)
        np.multiply(u, gamma, out=u)
        np.add(u, q, out=u)
        np.multiply(u, of_one, out=u)
        np.subtract(v, u, out=d_logits)
        np.divide(d_logits, logits.size, out=d_logits)
        weigh(row_weight, losses, d_logits)
        record(losses, row_losses, clock)

    return run
