"""Batch and layer normalisation."""

from __future__ import annotations

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import Array


@implements("normalize_columns")
def _normalize_columns(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, y: Array, epsilon: float
) -> BoundCall:
    scale = np.empty_like(gamma)

    def run() -> None:
        np.add(variance, epsilon, out=scale)
        np.sqrt(scale, out=scale)
        np.divide(gamma, scale, out=scale)
        np.subtract(x, mean, out=y)
        np.multiply(y, scale, out=y)
        np.add(y, beta, out=y)

    return run


@implements("batch_norm_forward")
def _batch_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    running_mean: Array,
    running_variance: Array,
    y: Array,
    momentum: float,
    epsilon: float,
) -> BoundCall:
    normalize = _normalize_columns(x, gamma, beta, mean, variance, y, epsilon)
    center, spread, kept = (np.empty(x.shape[1]) for _ in range(3))
    squares = np.empty(x.shape)

    def follow(running: Array, now: Array) -> None:
        np.multiply(now, momentum, out=now)
        np.multiply(running, 1 - momentum, dtype=np.float64, out=kept)
        np.add(kept, now, out=running, casting="same_kind")

    def run() -> None:
        np.mean(x, axis=0, dtype=np.float64, out=center)
        np.subtract(x, center, out=squares)
        np.square(squares, out=squares)
        np.mean(squares, axis=0, out=spread)
        np.copyto(mean, center, casting="same_kind")
        np.copyto(variance, spread, casting="same_kind")
        normalize()
        np.multiply(spread, len(x) / (len(x) - 1), out=spread)
        follow(running_mean, center)
        follow(running_variance, spread)

    return run


@implements("batch_norm_backward")
def _batch_norm_backward(
    x: Array,
    gamma: Array,
    mean: Array,
    variance: Array,
    d_y: Array,
    d_gamma: Array,
    d_beta: Array,
    d_x: Array | None,
    epsilon: float,
    share: float,
) -> BoundCall:
    inverse, scale = np.empty_like(gamma), np.empty_like(gamma)
    normalized, products = np.empty_like(x), np.empty_like(x)

    def run() -> None:
        np.add(variance, epsilon, out=inverse)
        np.sqrt(inverse, out=inverse)
        np.reciprocal(inverse, out=inverse)
        np.subtract(x, mean, out=normalized)
        np.multiply(normalized, inverse, out=normalized)
        np.multiply(d_y, normalized, out=products)
        np.sum(products, axis=0, dtype=np.float64, out=d_gamma)
        np.sum(d_y, axis=0, dtype=np.float64, out=d_beta)
        if d_x is not None:
            np.multiply(gamma, inverse, out=scale)
            np.multiply(normalized, d_gamma, out=products)
            np.add(products, d_beta, out=products)
            np.multiply(products, share, out=products)
            np.subtract(d_y, products, out=d_x)
            np.multiply(d_x, scale, out=d_x)

    return run


@implements("layer_norm_forward")
def _layer_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array | None,
    inverse_deviation: Array | None,
    y: Array,
    epsilon: float,
) -> BoundCall:
    squares, of_row = np.empty(x.shape), np.empty((len(x), 1))
    center, inverse = np.empty((len(x), 1), x.dtype), np.empty((len(x), 1), x.dtype)

    def run() -> None:
        np.mean(x, axis=1, dtype=np.float64, keepdims=True, out=of_row)
        np.subtract(x, of_row, out=squares)
        np.square(squares, out=squares)
        np.copyto(center, of_row, casting="same_kind")
        np.mean(squares, axis=1, keepdims=True, out=of_row)
        np.copyto(inverse, of_row, casting="same_kind")
        np.add(inverse, epsilon, out=inverse)
        np.sqrt(inverse, out=inverse)
        np.reciprocal(inverse, out=inverse)
        for kept, now in ((mean, center), (inverse_deviation, inverse)):
            if kept is not None:
                np.copyto(kept, now[:, 0])
        np.subtract(x, center, out=y)
        np.multiply(y, inverse, out=y)
        np.multiply(y, gamma, out=y)
        np.add(y, beta, out=y)

    return run


@implements("layer_norm_parameter_gradients")
def _layer_norm_parameter_gradients(
    x: Array, mean: Array, inverse_deviation: Array, d_y: Array, d_gamma: Array, d_beta: Array
) -> BoundCall:
    products = np.empty_like(x)

    def run() -> None:
        np.subtract(x, mean[:, None], out=products)
        np.multiply(products, inverse_deviation[:, None], out=products)
        np.multiply(products, d_y, out=products)
        np.sum(products, axis=0, dtype=np.float64, out=d_gamma)
        np.sum(d_y, axis=0, dtype=np.float64, out=d_beta)

    return run


@implements("layer_norm_backward")
def _layer_norm_backward(
    x: Array, gamma: Array, mean: Array, inverse_deviation: Array, d_y: Array, d_x: Array
) -> BoundCall:
    normalized, products = np.empty_like(x), np.empty_like(x)
    mean_g, mean_dot = np.empty((len(x), 1), x.dtype), np.empty((len(x), 1), x.dtype)

    def run() -> None:
        np.subtract(x, mean[:, None], out=normalized)
        np.multiply(normalized, inverse_deviation[:, None], out=normalized)
        np.multiply(gamma, d_y, out=d_x)
        np.mean(d_x, axis=1, dtype=np.float64, keepdims=True, out=mean_g)
        np.multiply(d_x, normalized, out=products)
        np.mean(products, axis=1, dtype=np.float64, keepdims=True, out=mean_dot)
        np.multiply(normalized, mean_dot, out=normalized)
        np.add(normalized, mean_g, out=normalized)
        np.subtract(d_x, normalized, out=d_x)
        np.multiply(d_x, inverse_deviation[:, None], out=d_x)

    return run
