"""Activations."""

from __future__ import annotations

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import Array

_SELU_SCALE, _SELU_DEPTH = 1.0507009873554804934, 1.7580993408473768599


@implements("relu_backward")
def _relu_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    off = np.empty(y.shape, np.bool_)

    def run() -> None:
        np.less_equal(y, 0, out=off)
        if d_x is not d_y:
            np.copyto(d_x, d_y)
        np.putmask(d_x, off, 0)

    return run


@implements("leaky_relu_forward")
def _leaky_relu_forward(x: Array, y: Array, slope: float) -> BoundCall:
    off = np.empty(x.shape, np.bool_)

    def run() -> None:
        np.less_equal(x, 0, out=off)
        if y is not x:
            np.copyto(y, x)
        np.multiply(y, slope, out=y, where=off)

    return run


@implements("leaky_relu_backward")
def _leaky_relu_backward(y: Array, d_y: Array, d_x: Array, slope: float) -> BoundCall:
    off = np.empty(y.shape, np.bool_)

    def run() -> None:
        np.less_equal(y, 0, out=off)
        if d_x is not d_y:
            np.copyto(d_x, d_y)
        np.multiply(d_x, slope, out=d_x, where=off)

    return run


@implements("elu_forward")
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


@implements("elu_backward")
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


@implements("selu_forward")
def _selu_forward(x: Array, y: Array) -> BoundCall:
    negative = np.empty_like(x)
    off = np.empty(x.shape, np.bool_)

    def run() -> None:
        np.less_equal(x, 0, out=off)
        np.expm1(x, out=negative, where=off)
        np.multiply(negative, _SELU_DEPTH, out=negative)
        np.multiply(x, _SELU_SCALE, out=y)
        np.copyto(y, negative, where=off)

    return run


@implements("selu_backward")
def _selu_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    slope = np.empty_like(y)
    off = np.empty(y.shape, np.bool_)

    def run() -> None:
        np.less_equal(y, 0, out=off)
        np.copyto(slope, _SELU_SCALE)
        np.add(y, _SELU_DEPTH, out=slope, where=off)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("sigmoid_forward")
def _sigmoid_forward(x: Array, y: Array) -> BoundCall:
    def run() -> None:
        np.negative(x, out=y)
        np.exp(y, out=y)
        np.add(y, 1, out=y)
        np.reciprocal(y, out=y)

    return run


@implements("sigmoid_backward")
def _sigmoid_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    slope = np.empty_like(y)

    def run() -> None:
        np.subtract(1, y, out=slope)
        np.multiply(slope, y, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("tanh_backward")
def _tanh_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    slope, sum_ = np.empty_like(y), np.empty_like(y)

    def run() -> None:
        np.subtract(1, y, out=slope)
        np.add(1, y, out=sum_)
        np.multiply(slope, sum_, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("softmax_forward")
def _softmax_forward(x: Array, y: Array) -> BoundCall:
    of_row = np.empty((len(x), 1), x.dtype)

    def run() -> None:
        np.max(x, axis=1, keepdims=True, out=of_row)
        np.subtract(x, of_row, out=y)
        np.exp(y, out=y)
        np.sum(y, axis=1, keepdims=True, out=of_row)
        np.divide(y, of_row, out=y)

    return run


@implements("softmax_backward")
def _softmax_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    products, of_row = np.empty_like(y), np.empty((len(y), 1), y.dtype)

    def run() -> None:
        np.multiply(y, d_y, out=products)
        np.sum(products, axis=1, keepdims=True, out=of_row)
        np.subtract(d_y, of_row, out=d_x)
        np.multiply(d_x, y, out=d_x)

    return run
