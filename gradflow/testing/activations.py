"""The cases of activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradflow import layers
from gradflow.layers import Activation
from gradflow.testing.case import EXACT, LIBRARY, LOSS_SUMS, PRODUCTS, Case
from gradflow.testing.draw import Draw
from gradflow.testing.sensitivity import sensitivity

NORMAL = "two exponentials, up to 4 ulp each in NumPy's float32, and a polynomial whose terms are 6 times their sum"


def _forward(draw: Draw, **settings: float) -> dict[str, Any]:
    x = 3 * draw.reals(draw.rows, draw.columns, room=4)
    if x.size > 4:
        x.reshape(-1)[1:4] = 0, -0.0, 1
    return {"x": x, "y": draw.like(x), **settings}


def _sigmoid(draw: Draw) -> dict[str, Any]:
    arguments = _forward(draw)
    if draw.values == "ordinary" and arguments["x"].size > 20:
        # Both sides of the points where exp(-x) overflows and where the result becomes subnormal.
        arguments["x"].reshape(-1)[4:14] = [-1000, -750, -745, -709, -700, -104, -90, -88.5, -80, 1000]
    return arguments


def _backward(low: float, high: float) -> Callable[..., dict[str, Any]]:
    """Make arguments for a derivative expressed by an output between two bounds."""

    def make(draw: Draw, **settings: float) -> dict[str, Any]:
        y = draw.between(low, high, draw.rows, draw.columns)
        y.reshape(-1)[3::11] = max(low, 0)
        d_y = draw.reals(draw.rows, draw.columns, room=4)
        return {"y": y, "d_y": d_y, "d_x": draw.like(y), **settings}

    return make


def _smooth_forward(draw: Draw) -> dict[str, Any]:
    arguments = _forward(draw)
    if draw.values == "ordinary" and arguments["x"].size > 30:
        # Both sides of every limit: of exp(-|x|), of exp(-x² / 2), and of the clipping of x before a product.
        edges = [40, 39, 38, 37, 15, 14.2, 13.2, 12.9, 5, 3, 0.01, 1e-5, 1.3, 0.75, 89, 104, 700, 709, 745, 999, 1001]
        arguments["x"].reshape(-1)[4:25] = -np.array(edges)
    return arguments


def _smooth_backward(draw: Draw) -> dict[str, Any]:
    x = _smooth_forward(draw)["x"]
    return {"x": x, "d_y": draw.reals(draw.rows, draw.columns, room=8), "d_x": draw.like(x)}


def _softmax_backward(draw: Draw) -> dict[str, Any]:
    exponentials = np.exp(draw.random.standard_normal((draw.rows, draw.columns)))
    y = (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(draw.dtype)
    d_y = draw.reals(draw.rows, draw.columns, room=4)
    return {"y": y, "d_y": d_y, "d_x": draw.like(y)}


# The definitions of GELU are in float64, their kernels in the dtype of the arrays.
_OF_X = partial(sensitivity, inputs=("x",))


@dataclass(frozen=True)
class ActivationCase:
    """The test of an elementwise activation: its two ops, and its values against PyTorch's.

    Attributes:
        make: makes the layer, with default settings or with those of the variants of its ops.
        forward: the case of its forward op.
        backward: the case of its backward op.
        in_torch: the same function of a tensor, given ``torch.nn.functional``.
        limits: the limits of y at minus and plus infinity.
        slopes: the limits of dy/dx.
        initializer: the initializer that a layer before it chooses.
        has_kink: True if it may have no derivative at 0.
    """

    make: Callable[..., Activation]
    forward: Case
    backward: Case
    in_torch: Callable[[Any, Any], Any]
    limits: tuple[float, float]
    slopes: tuple[float, float]
    initializer: str = "he_normal"
    has_kink: bool = False


INF = math.inf
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
SLOPES = ({"slope": 0.3}, {"slope": 0.0})
ALPHAS = ({"alpha": 1.7}, {"alpha": 0.25})

ACTIVATION_CASES = {
    "relu": ActivationCase(
        layers.ReLU,
        forward=Case(_forward, 0, EXACT),
        backward=Case(_backward(-2, 2), 0, EXACT),
        in_torch=lambda f, x: f.relu(x),
        limits=(0, INF),
        slopes=(0, 1),
        has_kink=True,
    ),
    "leaky_relu": ActivationCase(
        layers.LeakyReLU,
        forward=Case(_forward, 0, EXACT, variants=SLOPES),
        backward=Case(_backward(-2, 2), 0, EXACT, variants=SLOPES),
        in_torch=lambda f, x: f.leaky_relu(x),
        limits=(-INF, INF),
        slopes=(0.01, 1),
        has_kink=True,
    ),
    "elu": ActivationCase(
        layers.ELU,
        forward=Case(_forward, 6, LIBRARY, variants=ALPHAS),
        backward=Case(_backward(-0.25, 3), 2, PRODUCTS, variants=ALPHAS[::-1]),
        in_torch=lambda f, x: f.elu(x),
        limits=(-1, INF),
        slopes=(0, 1),
        has_kink=True,
    ),
    "selu": ActivationCase(
        layers.SELU,
        forward=Case(_forward, 6, LIBRARY),
        backward=Case(_backward(-1.758, 3), 2, PRODUCTS),
        in_torch=lambda f, x: f.selu(x),
        limits=(-SELU_SCALE * SELU_ALPHA, INF),
        slopes=(0, SELU_SCALE),
        initializer="lecun_normal",
        has_kink=True,
    ),
    "gelu": ActivationCase(
        layers.GELU,
        forward=Case(_smooth_forward, 11, NORMAL, magnitude=sensitivity),
        backward=Case(_smooth_backward, 14, NORMAL, magnitude=_OF_X),
        in_torch=lambda f, x: f.gelu(x),
        limits=(0, INF),
        slopes=(0, 1),
    ),
    "gelu by tanh": ActivationCase(
        lambda: layers.GELU(approximate="tanh"),
        forward=Case(_smooth_forward, 8, LIBRARY, magnitude=_OF_X),
        backward=Case(_smooth_backward, 12, LIBRARY, magnitude=_OF_X),
        in_torch=lambda f, x: f.gelu(x, approximate="tanh"),
        limits=(0, INF),
        slopes=(0, 1),
    ),
    "silu": ActivationCase(
        layers.SiLU,
        forward=Case(_smooth_forward, 8, LIBRARY),
        backward=Case(_smooth_backward, 8, LIBRARY, magnitude=sensitivity),
        in_torch=lambda f, x: f.silu(x),
        limits=(0, INF),
        slopes=(0, 1),
    ),
    "softplus": ActivationCase(
        layers.Softplus,
        forward=Case(_smooth_forward, 8, LIBRARY),
        backward=Case(_backward(0, 30), 8, LIBRARY),
        in_torch=lambda f, x: f.softplus(x, threshold=80),
        limits=(0, INF),
        slopes=(0, 1),
    ),
    "mish": ActivationCase(
        layers.Mish,
        forward=Case(_smooth_forward, 12, LIBRARY),
        backward=Case(_smooth_backward, 12, LIBRARY, magnitude=sensitivity),
        in_torch=lambda f, x: f.mish(x),
        limits=(0, INF),
        slopes=(0, 1),
    ),
    "sigmoid": ActivationCase(
        layers.Sigmoid,
        forward=Case(_sigmoid, 8, LIBRARY),
        backward=Case(_backward(0, 1), 2, PRODUCTS),
        in_torch=lambda f, x: f.sigmoid(x),
        limits=(0, 1),
        slopes=(0, 0),
        initializer="glorot_uniform",
    ),
    "tanh": ActivationCase(
        layers.Tanh,
        forward=Case(_forward, 6, LIBRARY),
        backward=Case(_backward(-1, 1), 2, PRODUCTS),
        in_torch=lambda f, x: f.tanh(x),
        limits=(-1, 1),
        slopes=(0, 0),
        initializer="glorot_uniform",
    ),
}
"""A row for each elementwise activation, by its name; all tests of activations run on every row."""


def _by_op() -> Iterator[tuple[str, Case]]:
    for case in ACTIVATION_CASES.values():
        layer = case.make()
        yield layer.forward_op.name, case.forward
        yield layer.backward_op.name, case.backward


CASES: dict[str, Case] = {
    **dict(_by_op()),
    "softmax_forward": Case(_forward, 16, f"{LIBRARY}; {LOSS_SUMS}"),
    "softmax_backward": Case(_softmax_backward, 12, LOSS_SUMS, magnitude=sensitivity),
}
