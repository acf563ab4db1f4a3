"""The smooth relatives of ReLU: GELU, SiLU, softplus, Mish. kernels/ has the same formulas, with their reasons."""

from __future__ import annotations

import math

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import SATURATED, Array

# Q of kernels/normal.h for float64, the constant first.
_NORMAL_TAIL = (
    0.76919304975006297, -0.66538250289005679, 0.49530561596997414, -0.31353315667129711,
    0.16502036617050069, -0.069118638706479819, 0.020795066797569856, -0.0029933767690944728,
    -0.00079786937489119333, 0.00054489906269585206, -5.9375866167360709e-5, -4.9762853165030136e-5,
    1.6681703609772679e-5, 3.9811827415325775e-6, -2.7703209441469523e-6, -3.3749652035246319e-7,
    4.3443907263764585e-7, 4.3758415982855749e-8, -6.6675293392275716e-8, -1.0618274174239376e-8,
    7.6304104178731823e-9, 2.2249387677164433e-9,
)  # fmt: skip
_GELU_SLOPE, _GELU_CUBIC = math.sqrt(8 / math.pi), 0.044715


class _Share:
    """A share of 1 that goes from 0 to 1 as x grows, and what is left of 1, each with all its digits."""

    def __init__(self, x: Array) -> None:
        self.value, self.rest, self.sum = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        self._is_negative = np.empty(x.shape, np.bool_)

    def _small(self, x: Array, out: Array) -> None:
        """out = exp(-|x|)"""
        np.less(x, 0, out=self._is_negative)
        np.abs(x, out=out)
        np.negative(out, out=out)
        np.exp(out, out=out)

    def sigmoid(self, x: Array) -> None:
        self._small(x, self.rest)
        np.copyto(self.value, 1)
        np.copyto(self.value, self.rest, where=self._is_negative)
        np.add(self.rest, 1, out=self.sum)
        np.putmask(self.rest, self._is_negative, 1)
        self._divide()

    def mish(self, x: Array) -> None:
        """tanh(log(1 + exp(x)))"""
        small = self.sum
        self._small(x, small)
        np.multiply(small, 2, out=self.value)
        np.add(self.value, 1, out=self.value)
        np.add(small, 2, out=self.rest)
        np.multiply(self.rest, small, out=self.rest)
        np.copyto(self.value, self.rest, where=self._is_negative)
        np.square(small, out=self.rest)
        np.multiply(self.rest, 2, out=self.rest)
        np.putmask(self.rest, self._is_negative, 2)
        np.add(self.value, self.rest, out=self.sum)
        self._divide()

    def normal(self, x: Array, bell: Array) -> None:
        """The normal distribution function, for finite x; exp(-x² / 2) goes into ``bell``."""
        size, tail, scale = self.value, self.rest, self.sum
        np.abs(x, out=size)
        _bell(size, bell, scratch=(tail, scale))
        np.add(size, 5, out=scale)
        np.subtract(size, 5, out=size)
        np.divide(size, scale, out=size)
        np.copyto(tail, _NORMAL_TAIL[-1])
        for coefficient in _NORMAL_TAIL[-2::-1]:
            np.multiply(tail, size, out=tail)
            np.add(tail, coefficient, out=tail)
        np.divide(tail, scale, out=tail)
        np.multiply(tail, bell, out=tail)
        np.less(x, 0, out=self._is_negative)
        np.subtract(1, tail, out=self.value)
        np.copyto(self.value, tail, where=self._is_negative)

    def _divide(self) -> None:
        np.divide(self.value, self.sum, out=self.value)
        np.divide(self.rest, self.sum, out=self.rest)


def _bell(size: Array, out: Array, *, scratch: tuple[Array, Array]) -> None:
    """out = exp(-size² / 2), of the square in two parts: the first is exact"""
    first, rest = scratch
    rounder = 98304.0 if size.dtype == np.float32 else 6442450944.0
    np.add(size, rounder, out=first)
    np.subtract(first, rounder, out=first)
    np.subtract(size, first, out=rest)
    np.add(size, first, out=out)
    np.multiply(rest, out, out=rest)
    np.square(first, out=first)
    for part in (first, rest):
        np.divide(part, -2, out=part)
        np.exp(part, out=part)
    np.multiply(first, rest, out=out)


@implements("silu_forward")
def _silu_forward(x: Array, y: Array) -> BoundCall:
    share = _Share(x)

    def run() -> None:
        share.sigmoid(x)
        np.maximum(x, -SATURATED, out=y)
        np.multiply(y, share.value, out=y)

    return run


@implements("silu_backward")
def _silu_backward(x: Array, d_y: Array, d_x: Array) -> BoundCall:
    share, slope = _Share(x), np.empty_like(x)

    def run() -> None:
        np.clip(x, -SATURATED, SATURATED, out=slope)
        share.sigmoid(slope)
        np.multiply(slope, share.rest, out=slope)
        np.add(slope, 1, out=slope)
        np.multiply(slope, share.value, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("mish_forward")
def _mish_forward(x: Array, y: Array) -> BoundCall:
    share = _Share(x)

    def run() -> None:
        share.mish(x)
        np.maximum(x, -SATURATED, out=y)
        np.multiply(y, share.value, out=y)

    return run


@implements("mish_backward")
def _mish_backward(x: Array, d_y: Array, d_x: Array) -> BoundCall:
    share, sigmoid, slope = _Share(x), _Share(x), np.empty_like(x)

    def run() -> None:
        np.clip(x, -SATURATED, SATURATED, out=slope)
        share.mish(slope)
        sigmoid.sigmoid(slope)
        np.multiply(slope, sigmoid.value, out=slope)
        np.multiply(slope, share.rest, out=slope)
        np.add(share.value, 1, out=share.sum)
        np.multiply(slope, share.sum, out=slope)
        np.add(slope, share.value, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("softplus_forward")
def _softplus_forward(x: Array, y: Array) -> BoundCall:
    work = np.empty_like(x)

    def run() -> None:
        np.abs(x, out=work)
        np.negative(work, out=work)
        np.exp(work, out=work)
        np.log1p(work, out=work)
        np.maximum(x, 0, out=y)
        np.add(y, work, out=y)

    return run


@implements("softplus_backward")
def _softplus_backward(y: Array, d_y: Array, d_x: Array) -> BoundCall:
    slope = np.empty_like(y)

    def run() -> None:
        np.negative(y, out=slope)
        np.expm1(slope, out=slope)
        np.negative(slope, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("gelu_forward")
def _gelu_forward(x: Array, y: Array) -> BoundCall:
    share, z, bell = _Share(x), np.empty_like(x), np.empty_like(x)

    def run() -> None:
        np.clip(x, -SATURATED, SATURATED, out=z)
        share.normal(z, bell)
        np.maximum(x, -SATURATED, out=y)
        np.multiply(y, share.value, out=y)

    return run


@implements("gelu_backward")
def _gelu_backward(x: Array, d_y: Array, d_x: Array) -> BoundCall:
    share, slope, bell = _Share(x), np.empty_like(x), np.empty_like(x)

    def run() -> None:
        np.clip(x, -SATURATED, SATURATED, out=slope)
        share.normal(slope, bell)
        np.multiply(slope, bell, out=slope)
        np.multiply(slope, 1 / math.sqrt(2 * math.pi), out=slope)
        np.add(slope, share.value, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run


@implements("gelu_tanh_forward")
def _gelu_tanh_forward(x: Array, y: Array) -> BoundCall:
    share, z, v = _Share(x), np.empty_like(x), np.empty_like(x)

    def run() -> None:
        np.clip(x, -SATURATED, SATURATED, out=z)
        np.square(z, out=v)
        np.multiply(v, _GELU_CUBIC, out=v)
        np.add(v, 1, out=v)
        np.multiply(v, z, out=v)
        np.multiply(v, _GELU_SLOPE, out=v)
        share.sigmoid(v)
        np.maximum(x, -SATURATED, out=y)
        np.multiply(y, share.value, out=y)

    return run


@implements("gelu_tanh_backward")
def _gelu_tanh_backward(x: Array, d_y: Array, d_x: Array) -> BoundCall:
    share, z, v, slope = _Share(x), np.empty_like(x), np.empty_like(x), np.empty_like(x)

    def run() -> None:
        np.clip(x, -SATURATED, SATURATED, out=z)
        np.square(z, out=slope)
        np.multiply(slope, _GELU_CUBIC, out=slope)
        np.add(slope, 1, out=v)
        np.multiply(v, z, out=v)
        np.multiply(v, _GELU_SLOPE, out=v)
        share.sigmoid(v)
        np.multiply(slope, 3, out=slope)
        np.add(slope, 1, out=slope)
        np.multiply(slope, _GELU_SLOPE, out=slope)
        np.multiply(slope, share.rest, out=slope)
        np.multiply(slope, z, out=slope)
        np.add(slope, 1, out=slope)
        np.multiply(slope, share.value, out=slope)
        np.multiply(d_y, slope, out=d_x)

    return run
