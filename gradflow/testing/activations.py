"""The cases of activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

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

CASES: dict[str, Case] = {
    "relu_forward": Case(_forward, 0, EXACT),
    "relu_backward": Case(_backward(-2, 2), 0, EXACT),
    "leaky_relu_forward": Case(_forward, 0, EXACT, variants=({"slope": 0.3}, {"slope": 0.0})),
    "leaky_relu_backward": Case(_backward(-2, 2), 0, EXACT, variants=({"slope": 0.3}, {"slope": 0.0})),
    "elu_forward": Case(_forward, 6, LIBRARY, variants=({"alpha": 1.7}, {"alpha": 0.25})),
    "elu_backward": Case(_backward(-0.25, 3), 2, PRODUCTS, variants=({"alpha": 0.25}, {"alpha": 1.7})),
    "selu_forward": Case(_forward, 6, LIBRARY),
    "selu_backward": Case(_backward(-1.758, 3), 2, PRODUCTS),
    "gelu_forward": Case(_smooth_forward, 11, NORMAL, magnitude=sensitivity, flushes=True),
    "gelu_backward": Case(_smooth_backward, 14, NORMAL, magnitude=_OF_X, flushes=True),
    "gelu_tanh_forward": Case(_smooth_forward, 8, LIBRARY, magnitude=_OF_X, flushes=True),
    "gelu_tanh_backward": Case(
        _smooth_backward,
        12,
        LIBRARY,
        magnitude=_OF_X,
        flushes=True,
    ),
    "silu_forward": Case(_smooth_forward, 8, LIBRARY, flushes=True),
    "silu_backward": Case(_smooth_backward, 8, LIBRARY, magnitude=sensitivity, flushes=True),
    "softplus_forward": Case(_smooth_forward, 8, LIBRARY),
    "softplus_backward": Case(_backward(0, 30), 8, LIBRARY),
    "mish_forward": Case(_smooth_forward, 12, LIBRARY, flushes=True),
    "mish_backward": Case(_smooth_backward, 12, LIBRARY, magnitude=sensitivity, flushes=True),
    "sigmoid_forward": Case(_sigmoid, 8, LIBRARY, flushes=True),
    "sigmoid_backward": Case(_backward(0, 1), 2, PRODUCTS),
    "tanh_forward": Case(_forward, 6, LIBRARY),
    "tanh_backward": Case(_backward(-1, 1), 2, PRODUCTS),
    "softmax_forward": Case(_forward, 16, f"{LIBRARY}; {LOSS_SUMS}"),
    "softmax_backward": Case(_softmax_backward, 12, LOSS_SUMS, magnitude=sensitivity),
}
