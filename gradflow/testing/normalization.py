"""Cases of batch and layer normalization, and of the conversion of outputs back to the units of the targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import COLUMN_SUMS, NO_ROWS, PRODUCTS, Case
from gradflow.testing.draw import Draw


def _normalize_columns(draw: Draw, *, epsilon: float) -> dict[str, Any]:
    arguments = _batch_norm_forward(draw, momentum=0.5, epsilon=epsilon)
    given = {"mean": arguments["running_mean"], "variance": arguments["running_variance"]}
    names = ("x", "gamma", "beta", "mean", "variance", "y", "epsilon")
    return {name: given.get(name, arguments[name]) for name in names}


def _normalized_terms(arguments: Mapping[str, Any], mean: Array, variance: Array) -> Array:
    scale = abs(arguments["gamma"]) / np.sqrt(variance.astype(np.float64) + arguments["epsilon"])
    return scale * (abs(arguments["x"].astype(np.float64)) + abs(mean)) + abs(arguments["beta"])


def _batch_norm_forward(draw: Draw, *, momentum: float, epsilon: float) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=16 * draw.rows + 1, power=2)
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "beta": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.blank(draw.columns),
        "variance": draw.blank(draw.columns),
        "running_mean": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "running_variance": draw.random.exponential(size=draw.columns).astype(draw.dtype),
        "y": draw.like(x),
        "momentum": momentum,
        "epsilon": epsilon,
    }


def _batch_norm_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    x, momentum = abs(before["x"].astype(np.float64)), before["momentum"]
    mean, square = x.mean(axis=0), np.square(x + x.mean(axis=0)).mean(axis=0)
    return {
        "mean": mean,
        "variance": square,
        "running_mean": (1 - momentum) * abs(before["running_mean"]) + momentum * mean,
        "running_variance": (1 - momentum) * before["running_variance"] + 2 * momentum * square,
        "y": _normalized_terms(before, mean, after["variance"]),
    }


def _batch_norm_backward(draw: Draw, *, is_fixed: bool, needs_d_x: bool = True) -> dict[str, Any]:
    room = 64 * draw.rows * draw.columns + 1
    x, d_y = (draw.reals(draw.rows, draw.columns, room=room, power=4) for _ in range(2))
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "variance": draw.random.exponential(size=draw.columns).astype(draw.dtype),
        "d_y": d_y,
        "d_gamma": draw.blank(draw.columns),
        "d_beta": draw.blank(draw.columns),
        "d_x": draw.like(x) if needs_d_x else None,
        "epsilon": 0.01,
        "share": 0.0 if is_fixed else 1 / max(draw.rows, 1),
    }


def _batch_norm_backward_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    x, d_y = before["x"].astype(np.float64), abs(before["d_y"].astype(np.float64))
    inverse = 1 / np.sqrt(before["variance"].astype(np.float64) + before["epsilon"])
    normalized = abs(x - before["mean"]) * inverse
    d_gamma, d_beta = (d_y * normalized).sum(axis=0), d_y.sum(axis=0)
    d_x = abs(before["gamma"]) * inverse * (d_y + before["share"] * (d_beta + normalized * d_gamma))
    return {"d_gamma": d_gamma, "d_beta": d_beta, "d_x": d_x}


def _layer_norm_forward(draw: Draw, *, epsilon: float, keeps: bool) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=16 * draw.columns + 1, power=2)
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "beta": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.blank(draw.rows) if keeps else None,
        "inverse_deviation": draw.blank(draw.rows) if keeps else None,
        "y": draw.like(x),
        "epsilon": epsilon,
    }


def _layer_norm_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    x = before["x"].astype(np.float64)
    mean = abs(x).mean(axis=1)
    inverse = 1 / np.sqrt(x.var(axis=1) + before["epsilon"])
    # The rounding of the mean affects the variance if all values of a row are nearly equal.
    wide = inverse * (1 + np.square(inverse) * np.square(abs(x) + mean[:, None]).mean(axis=1))
    y = abs(before["gamma"]) * (abs(x) + mean[:, None]) * inverse[:, None] + abs(before["beta"])
    return {"mean": mean, "inverse_deviation": wide, "y": y}


def _layer_norm_backward(draw: Draw) -> dict[str, Any]:
    room = 64 * draw.rows * draw.columns + 1
    x, d_y = (draw.reals(draw.rows, draw.columns, room=room, power=4) for _ in range(2))
    return {
        "x": x,
        "gamma": draw.random.normal(size=draw.columns).astype(draw.dtype),
        "mean": draw.random.normal(size=draw.rows).astype(draw.dtype),
        "inverse_deviation": draw.random.exponential(size=draw.rows).astype(draw.dtype),
        "d_y": d_y,
        "d_x": draw.like(x),
    }


def _layer_norm_parameter_gradients(draw: Draw) -> dict[str, Any]:
    arguments = _layer_norm_backward(draw)
    names = ("x", "mean", "inverse_deviation", "d_y")
    gradients = {"d_gamma": draw.blank(draw.columns), "d_beta": draw.blank(draw.columns)}
    return {name: arguments[name] for name in names} | gradients


def _layer_norm_backward_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    inverse = before["inverse_deviation"].astype(np.float64)[:, None]
    normalized = abs(before["x"].astype(np.float64) - before["mean"][:, None]) * inverse
    d_y = abs(before["d_y"].astype(np.float64))
    g = abs(before.get("gamma", 1)) * d_y
    means = g.mean(axis=1, keepdims=True), (g * normalized).mean(axis=1, keepdims=True)
    return {
        "d_gamma": (d_y * normalized).sum(axis=0),
        "d_beta": d_y.sum(axis=0),
        "d_x": inverse * (g + means[0] + normalized * means[1]),
    }


def _rescale(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=4, power=2)
    mean, deviation = draw.reals(draw.columns, room=4), draw.reals(draw.columns, power=2)
    return {"x": x, "mean": mean, "deviation": deviation, "y": draw.like(x)}


CASES: dict[str, Case] = {
    "normalize_columns": Case(
        _normalize_columns,
        6,
        PRODUCTS,
        variants=({"epsilon": 1e-5}, {"epsilon": 0.1}),
        magnitude=lambda before, after: {"y": _normalized_terms(before, before["mean"], before["variance"])},
    ),
    "batch_norm_forward": Case(
        _batch_norm_forward,
        32,
        COLUMN_SUMS,
        variants=({"momentum": 0.1, "epsilon": 1e-5}, {"momentum": 1.0, "epsilon": 0.1}),
        magnitude=_batch_norm_terms,
        without={"empty": NO_ROWS, "one": "one row has no variance: the layer takes its running statistics"},
    ),
    "batch_norm_backward": Case(
        _batch_norm_backward,
        32,
        COLUMN_SUMS,
        variants=({"is_fixed": False, "needs_d_x": False}, {"is_fixed": False}, {"is_fixed": True}),
        magnitude=_batch_norm_backward_terms,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_forward": Case(
        _layer_norm_forward,
        16,
        COLUMN_SUMS,
        variants=({"epsilon": 1e-5, "keeps": False}, {"epsilon": 0.1, "keeps": True}),
        magnitude=_layer_norm_terms,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_parameter_gradients": Case(
        _layer_norm_parameter_gradients,
        32,
        COLUMN_SUMS,
        magnitude=_layer_norm_backward_terms,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_backward": Case(
        _layer_norm_backward,
        16,
        COLUMN_SUMS,
        magnitude=_layer_norm_backward_terms,
        without={"empty": NO_ROWS},
    ),
    "rescale": Case(
        _rescale,
        2,
        "a product and a sum, or one operation",
        magnitude=lambda before, after: {
            "y": abs(before["mean"]) + abs(before["deviation"]) * abs(before["x"]).astype(np.float64)
        },
    ),
}
