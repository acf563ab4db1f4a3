"""Optimizers, on parts of the flat vectors that fit into the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from gradflow.backends.numpy_forms.registry import IMPLEMENTATIONS, implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import STEP, Array, has_diverged

_BLOCK = 16384  # elements of a flat vector that are worked off together: five such arrays fit into the L2 cache
_OWN = 4  # where the hyper-parameters of an optimizer's own begin (kernels/update.h)


def _blocks(n_decayed: int, *vectors: Array) -> Iterator[tuple[slice, bool, list[Array]]]:
    """Parts of flat vectors small enough for the cache, each wholly decayed or wholly not."""
    for begin, end in ((0, n_decayed), (n_decayed, vectors[0].size)):
        for start in range(begin, end, _BLOCK):
            part = slice(start, min(start + _BLOCK, end))
            yield part, begin == 0 and n_decayed > 0, [vector[part] for vector in vectors]


def _penalise(
    w: Array, g: Array, is_decayed: bool, hyper: Array, gradient_scale: Array, out: Array, work: Array
) -> None:
    """out = scale (g + l2 w + l1 sign(w)), with penalties for weights only, held within ±clip_value."""
    _, l2, l1, limit = map(float, hyper[:_OWN])
    if is_decayed and (l2 or l1):
        np.multiply(w, l2, out=out)
        np.sign(w, out=work)
        np.multiply(work, l1, out=work)
        np.add(out, work, out=out)
        np.add(out, g, out=out)
        np.multiply(out, gradient_scale[0], out=out)
    else:
        np.multiply(g, gradient_scale[0], out=out)
    if limit < math.inf:
        np.clip(out, -limit, limit, out=out)


@implements("gradient_descent")
def _gradient_descent(
    parameters: Array, gradients: Array, hyper: Array, gradient_scale: Array, clock: Array, n_decayed: int
) -> BoundCall:
    scratch = np.empty((2, min(_BLOCK, parameters.size)), parameters.dtype)
    blocks = list(_blocks(n_decayed, parameters, gradients))

    def run() -> None:
        if has_diverged(clock):
            return
        rate = float(hyper[0])
        for _, is_decayed, (w, g) in blocks:
            change, work = scratch[0, : w.size], scratch[1, : w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, change, work)
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
        rate, kept = float(hyper[0]), float(hyper[_OWN])
        for _, is_decayed, (w, g, v) in blocks:
            penalised, change = scratch[0, : w.size], scratch[1, : w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, penalised, change)
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
        rate, (beta1, beta2, epsilon) = float(hyper[0]), map(float, hyper[_OWN : _OWN + 3])
        step, kept = int(clock[STEP]), 1 - decay_of(hyper)
        correction1, root_correction2 = 1 - beta1**step, math.sqrt(1 - beta2**step)
        for _, is_decayed, (w, g, m, v) in blocks:
            penalised, work = scratch[0, : w.size], scratch[1, : w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, penalised, work)
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
IMPLEMENTATIONS["adamw"] = partial(_bind_adam, decay_of=lambda hyper: float(hyper[0]) * float(hyper[_OWN + 5]))


@implements("accumulate")
def _accumulate(gradients: Array, total: Array, out: Array, share: float, kept: int) -> BoundCall:
    part = np.empty_like(gradients)

    def run() -> None:
        np.multiply(gradients, gradients.dtype.type(share), out=part)
        if kept:
            np.add(part, total, out=out)
        else:
            np.copyto(out, part)

    return run


@implements("average_weights")
def _average_weights(parameters: Array, average: Array, clock: Array, decay: float) -> BoundCall:
    kept, added = average.dtype.type(decay), average.dtype.type(1 - decay)
    part = np.empty_like(parameters)

    def run() -> None:
        if has_diverged(clock):
            return
        if clock[STEP] == 1:
            np.copyto(average, parameters)
            return
        np.multiply(parameters, added, out=part)
        np.multiply(average, kept, out=average)
        np.add(average, part, out=average)

    return run


def _bind_root_mean_square(
    parameters: Array,
    gradients: Array,
    squares: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
    *,
    shares_of: Callable[[Array], tuple[float, float, float]],
) -> BoundCall:
    """w -= rate g / (√s + ε), where s keeps one share of itself and gets another of g²; these come from ``hyper``."""
    scratch = np.empty((2, min(_BLOCK, parameters.size)), parameters.dtype)
    blocks = list(_blocks(n_decayed, parameters, gradients, squares))

    def run() -> None:
        if has_diverged(clock):
            return
        rate, (kept, added, epsilon) = float(hyper[0]), shares_of(hyper)
        for _, is_decayed, (w, g, s) in blocks:
            penalised, work = scratch[0, : w.size], scratch[1, : w.size]
            _penalise(w, g, is_decayed, hyper, gradient_scale, penalised, work)
            np.multiply(s, kept, out=s)
            np.multiply(penalised, added, out=work)
            np.multiply(work, penalised, out=work)
            np.add(s, work, out=s)
            np.sqrt(s, out=work)
            np.add(work, epsilon, out=work)
            np.divide(penalised, work, out=work)
            np.multiply(work, rate, out=work)
            np.subtract(w, work, out=w)

    return run


@implements("rmsprop")
def _rmsprop(
    parameters: Array,
    gradients: Array,
    second_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> BoundCall:
    def shares_of(hyper: Array) -> tuple[float, float, float]:
        beta, epsilon = map(float, hyper[_OWN : _OWN + 2])
        return beta, 1 - beta, epsilon

    vectors = parameters, gradients, second_moment
    return _bind_root_mean_square(*vectors, hyper, gradient_scale, clock, n_decayed, shares_of=shares_of)


@implements("adagrad")
def _adagrad(
    parameters: Array,
    gradients: Array,
    square_sum: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> BoundCall:
    def shares_of(hyper: Array) -> tuple[float, float, float]:
        return 1.0, 1.0, float(hyper[_OWN])

    vectors = parameters, gradients, square_sum
    return _bind_root_mean_square(*vectors, hyper, gradient_scale, clock, n_decayed, shares_of=shares_of)


@implements("lion")
def _lion(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
    n_decayed: int,
) -> BoundCall:
    scratch = np.empty((3, min(_BLOCK, parameters.size)), parameters.dtype)
    blocks = list(_blocks(n_decayed, parameters, gradients, first_moment))

    def run() -> None:
        if has_diverged(clock):
            return
        rate, (beta1, beta2, decay) = float(hyper[0]), map(float, hyper[_OWN : _OWN + 3])
        for _, is_decayed, (w, g, m) in blocks:
            penalised, direction, work = (row[: w.size] for row in scratch)
            _penalise(w, g, is_decayed, hyper, gradient_scale, penalised, work)
            np.multiply(m, beta1, out=direction)
            np.multiply(penalised, 1 - beta1, out=work)
            np.add(direction, work, out=direction)
            np.sign(direction, out=direction)
            if is_decayed and decay:
                np.multiply(w, decay, out=work)
                np.add(direction, work, out=direction)
            np.multiply(direction, rate, out=direction)
            np.subtract(w, direction, out=w)
            np.multiply(m, beta2, out=m)
            np.multiply(penalised, 1 - beta2, out=penalised)
            np.add(m, penalised, out=m)

    return run
