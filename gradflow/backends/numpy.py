"""The CPU backend: NumPy with every output and every temporary array made once, when an op is bound.

Ops whose definition makes no temporary arrays run as they are. The others have a form here that writes into scratch
arrays; each function takes the arguments of its op and returns the bound call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from gradflow.backends.blas import Blas, numpy_blas
from gradflow.backends.fusion import fuse_bias_and_activation
from gradflow.backends.native import NativeCall, NativeLibrary, NativeProgram
from gradflow.backends.reference import BoundCall, ReferenceBackend, Replay
from gradflow.backends.sources import kernels
from gradflow.ops import EPOCH, FIRST_BAD_STEP, POSITION, STEP, Array, Op, has_diverged
from gradflow.random import shuffled_rows

__all__ = ["IMPLEMENTATIONS", "NumpyBackend"]

IMPLEMENTATIONS: dict[str, Callable[..., BoundCall]] = {}
"""What the backend binds instead of the definition, by the name of the op."""

_BLOCK = 16384  # elements of a flat vector that are worked off together: five such arrays fit into the L2 cache


class NumpyBackend(ReferenceBackend):
    """Arrays are NumPy's; ops write into preallocated arrays and make no copies.

    Args:
        native: the compiled kernels; None runs every op in NumPy.
    """

    name = "numpy"

    def __init__(self, native: NativeLibrary | None) -> None:
        self.native = native

    @property
    def blas(self) -> Blas | None:
        return numpy_blas() if self.native is None or self.native.blas is None else self.native.blas

    def bind(self, op: Op, arguments: dict[str, Any]) -> BoundCall:
        self.check(op, arguments)
        if self.native is not None and (call := self.native.bind(op, arguments)) is not None:
            return call
        if op.name in IMPLEMENTATIONS:
            return IMPLEMENTATIONS[op.name](**arguments)
        return partial(op.reference, **arguments)

    def bind_all(self, calls: list[tuple[Op, dict[str, Any]]]) -> list[BoundCall]:
        """Bind a program; neighbours that are all compiled become one call into C."""
        if self.native is None:
            return super().bind_all(calls)
        calls = fuse_bias_and_activation(calls, kernels("c"))
        programs: list[BoundCall] = []
        waiting: list[NativeCall] = []
        for call in [*(self.bind(op, arguments) for op, arguments in calls), None]:
            if isinstance(call, NativeCall):
                waiting.append(call)
                continue
            if waiting:
                programs.append(self.native.program(waiting))
                waiting = []
            if call is not None:
                programs.append(call)
        return programs

    def replay(self, calls: list[BoundCall]) -> Replay:
        """A program that is one call into C stays there for all its runs."""
        if len(calls) == 1 and isinstance(calls[0], NativeProgram):
            return calls[0]
        return super().replay(calls)


def _implements(name: str) -> Callable[[Callable[..., BoundCall]], Callable[..., BoundCall]]:
    def register(bind: Callable[..., BoundCall]) -> Callable[..., BoundCall]:
        IMPLEMENTATIONS[name] = bind
        return bind

    return register


# -- dense layers ----------------------------------------------------------------------------------------------------


@_implements("column_sum")
def _column_sum(x: Array, sums: Array) -> BoundCall:
    # As a product with a row of ones it is the BLAS's work, which casts and copies nothing.
    return partial(np.dot, np.ones(len(x), x.dtype), x, out=sums)


# -- activations ------------------------------------------------------------------------------------------------------


@_implements("relu_backward")
def _relu_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    off = np.empty(y.shape, np.bool_)

    def run() -> None:
        np.less_equal(y, 0, out=off)
        if d_x is not d_y:
            np.copyto(d_x, d_y)
        np.putmask(d_x, off, 0)

    return run


@_implements("leaky_relu_forward")
def _leaky_relu_forward(x: Array, y: Array, slope: float) -> BoundCall:
    off = np.empty(x.shape, np.bool_)

    def run() -> None:
        np.less_equal(x, 0, out=off)
        if y is not x:
            np.copyto(y, x)
        np.multiply(y, slope, out=y, where=off)

    return run


@_implements("leaky_relu_backward")
def _leaky_relu_backward(y: Array, d_y: Array, d_x: Array, slope: float) -> BoundCall:
    off = np.empty(y.shape, np.bool_)

    def run() -> None:
        np.less_equal(y, 0, out=off)
        if d_x is not d_y:
            np.copyto(d_x, d_y)
        np.multiply(d_x, slope, out=d_x, where=off)

    return run


@_implements("elu_forward")
def _elu_forward(x: Array, y: Array, alpha: float) -> BoundCall:
    negative = np.empty_like(x)
    off = np.empty(x.shape, np.bool_)

    def run() -> None:
        np.less_equal(x, 0, out=off)
        np.expm1(x, out=negative, where=off)
        np.multiply(negative, alpha, out=negative)
        if y is not x:
            np.copyto(y, x)
        np.copyto(y, negative, where=off)

    return run


@_implements("elu_backward")
def _elu_backward(y: Array, d_y: Array, d_x: Array, alpha: float) -> BoundCall:
    slope = np.empty_like(y)
    off = np.empty(y.shape, np.bool_)

    def run() -> None:
        np.less_equal(y, 0, out=off)
        np.add(y, alpha, out=slope)
        if d_x is not d_y:
            np.copyto(d_x, d_y)
        np.multiply(d_x, slope, out=d_x, where=off)

    return run


@_implements("sigmoid_forward")
def _sigmoid_forward(x: Array, y: Array) -> BoundCall:
    def run() -> None:
        np.negative(x, out=y)
        np.exp(y, out=y)
        np.add(y, 1, out=y)
        np.reciprocal(y, out=y)

    return run


@_implements("sigmoid_backward")
def _sigmoid_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    slope = np.empty_like(y)

    def run() -> None:
        np.subtract(1, y, out=slope)
        np.multiply(slope, y, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@_implements("tanh_backward")
def _tanh_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    slope, sum_ = np.empty_like(y), np.empty_like(y)

    def run() -> None:
        np.subtract(1, y, out=slope)
        np.add(1, y, out=sum_)
        np.multiply(slope, sum_, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@_implements("softmax_forward")
def _softmax_forward(x: Array, y: Array) -> BoundCall:
    of_row = np.empty((len(x), 1), x.dtype)

    def run() -> None:
        np.max(x, axis=1, keepdims=True, out=of_row)
        np.subtract(x, of_row, out=y)
        np.exp(y, out=y)
        np.sum(y, axis=1, keepdims=True, out=of_row)
        np.divide(y, of_row, out=y)

    return run


@_implements("softmax_backward")
def _softmax_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    products, of_row = np.empty_like(y), np.empty((len(y), 1), y.dtype)

    def run() -> None:
        np.multiply(y, d_y, out=products)
        np.sum(products, axis=1, keepdims=True, out=of_row)
        np.subtract(d_y, of_row, out=d_x)
        np.multiply(d_x, y, out=d_x)

    return run


# -- losses -----------------------------------------------------------------------------------------------------------


def _record(losses: Array, row_losses: Array, clock: Array) -> None:
    position = clock[POSITION]
    row_losses[position : position + len(losses)] = losses
    if not np.isfinite(losses).all():
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP])


@_implements("squared_error")
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


@_implements("binary_cross_entropy")
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


@_implements("softmax_cross_entropy_labels")
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


@_implements("softmax_cross_entropy_probabilities")
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


# -- random numbers and batches ---------------------------------------------------------------------------------------


@_implements("dropout")
def _dropout(x: Array, y: Array, clock: Array, threshold: int, scale: float, seed: int, stream: int) -> BoundCall:
    words_of = _bind_philox(x.size, seed, stream)
    is_dropped = np.empty(x.shape, np.bool_)

    def run() -> None:
        step = int(clock[EPOCH]) << 32 | int(clock[STEP]) & 0xFFFFFFFF
        np.less(words_of(step).reshape(x.shape), threshold, out=is_dropped)
        np.multiply(x, scale, out=y)
        np.putmask(y, is_dropped, 0)

    return run


def _bind_philox(n: int, seed: int, stream: int) -> Callable[[int], Array]:
    """From a step the first n words of `gradflow.random.philox`, in an array of its own."""
    blocks = -(-n // 4)
    words = np.empty((blocks, 4), np.uint32)
    block, counter = np.arange(blocks, dtype=np.uint64), np.empty((4, blocks), np.uint64)
    high = np.empty(blocks, np.uint64)
    low_word, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    keys = [((seed + i * 0x9E3779B9) & 0xFFFFFFFF, ((seed >> 32) + i * 0xBB67AE85) & 0xFFFFFFFF) for i in range(10)]

    def run(step: int) -> Array:
        word0, word1, word2, word3 = counter
        word0[:], word1[:], word2[:], word3[:] = block, stream, step & 0xFFFFFFFF, step >> 32
        for key0, key1 in keys:
            np.multiply(word0, np.uint64(0xD2511F53), out=word0)
            np.multiply(word2, np.uint64(0xCD9E8D57), out=word2)
            for product, word, key in ((word2, word1, key0), (word0, word3, key1)):
                np.bitwise_xor(word, np.uint64(key), out=word)
                np.bitwise_xor(word, np.right_shift(product, half, out=high), out=word)
                np.bitwise_and(product, low_word, out=product)
            word0, word1, word2, word3 = word1, word2, word3, word0
        for lane, word in enumerate((word0, word1, word2, word3)):
            words[:, lane] = word
        return words.reshape(-1)[:n]

    return run


@_implements("gather_shuffled_batch")
def _gather_shuffled_batch(
    x: Array, targets: Array, batch_x: Array, batch_targets: Array, clock: Array, seed: int
) -> BoundCall:
    def run() -> None:
        first = int(clock[POSITION])
        rows = shuffled_rows(len(x), seed=seed, epoch=int(clock[EPOCH]))[first : first + len(batch_x)]
        # Any mode but "raise" writes straight into the batch; the rows are in range.
        np.take(x, rows, axis=0, out=batch_x, mode="clip")
        np.take(targets, rows, axis=0, out=batch_targets, mode="clip")

    return run


# -- optimizers -------------------------------------------------------------------------------------------------------


def _blocks(n_decayed: int, *vectors: Array) -> Iterator[tuple[slice, bool, list[Array]]]:
    """Parts of flat vectors small enough for the cache, each wholly decayed or wholly not."""
    for begin, end in ((0, n_decayed), (n_decayed, vectors[0].size)):
        for start in range(begin, end, _BLOCK):
            part = slice(start, min(start + _BLOCK, end))
            yield part, begin == 0 and n_decayed > 0, [vector[part] for vector in vectors]


def _penalise(w: Array, g: Array, is_decayed: bool, hyper: Array, gradient_scale: Array, out: Array) -> None:
    """out = scale (g + l2 w), with the penalty for weights only."""
    l2, scale = float(hyper[1]), gradient_scale[0]
    if is_decayed and l2:
        np.multiply(w, l2, out=out)
        np.add(out, g, out=out)
        np.multiply(out, scale, out=out)
    else:
        np.multiply(g, scale, out=out)


@_implements("gradient_descent")
def _gradient_descent(
    parameters: Array, gradients: Array, hyper: Array, gradient_scale: Array, clock: Array, n_decayed: int
) -> BoundCall:
    scratch = np.empty(min(_BLOCK, parameters.size), parameters.dtype)
    blocks = list(_blocks(n_decayed, parameters, gradients))

    def run() -> None:
        if has_diverged(clock):
            return
        rate = float(hyper[0])
        for _, is_decayed, (w, g) in blocks:
            change = scratch[: w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, change)
            np.multiply(change, rate, out=change)
            np.subtract(w, change, out=w)

    return run


def _bind_momentum(
    parameters: Array,
    gradients: Array,
    velocity: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
    *,
    looks_ahead: bool,
) -> BoundCall:
    scratch = np.empty((2, min(_BLOCK, parameters.size)), parameters.dtype)
    blocks = list(_blocks(n_decayed, parameters, gradients, velocity))

    def run() -> None:
        if has_diverged(clock):
            return
        rate, kept = float(hyper[0]), float(hyper[2])
        for _, is_decayed, (w, g, v) in blocks:
            penalised, change = scratch[0, : w.size], scratch[1, : w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, penalised)
            np.multiply(v, kept, out=v)
            np.add(v, penalised, out=v)
            if looks_ahead:
                np.multiply(v, kept, out=change)
                np.add(change, penalised, out=change)
                np.multiply(change, rate, out=change)
            else:
                np.multiply(v, rate, out=change)
            np.subtract(w, change, out=w)

    return run


IMPLEMENTATIONS["momentum"] = partial(_bind_momentum, looks_ahead=False)
IMPLEMENTATIONS["nesterov"] = partial(_bind_momentum, looks_ahead=True)


def _bind_adam(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
    *,
    decay_of: Callable[[Array], float],
) -> BoundCall:
    scratch = np.empty((2, min(_BLOCK, parameters.size)), parameters.dtype)
    blocks = list(_blocks(n_decayed, parameters, gradients, first_moment, second_moment))

    def run() -> None:
        if has_diverged(clock):
            return
        rate, _, beta1, beta2, epsilon = map(float, hyper[:5])
        step, kept = int(clock[STEP]), 1 - decay_of(hyper)
        correction1, root_correction2 = 1 - beta1**step, math.sqrt(1 - beta2**step)
        for _, is_decayed, (w, g, m, v) in blocks:
            penalised, work = scratch[0, : w.size], scratch[1, : w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, penalised)
            np.multiply(m, beta1, out=m)
            np.multiply(penalised, 1 - beta1, out=work)
            np.add(m, work, out=m)
            np.multiply(v, beta2, out=v)
            np.multiply(penalised, 1 - beta2, out=work)
            np.multiply(work, penalised, out=work)
            np.add(v, work, out=v)
            np.sqrt(v, out=work)
            np.divide(work, root_correction2, out=work)
            np.add(work, epsilon, out=work)
            np.divide(m, correction1, out=penalised)
            np.divide(penalised, work, out=work)
            np.multiply(work, rate, out=work)
            if is_decayed and kept != 1:
                np.multiply(w, kept, out=w)
            np.subtract(w, work, out=w)

    return run


IMPLEMENTATIONS["adam"] = partial(_bind_adam, decay_of=lambda hyper: 0.0)
IMPLEMENTATIONS["adamw"] = partial(_bind_adam, decay_of=lambda hyper: float(hyper[0]) * float(hyper[7]))
