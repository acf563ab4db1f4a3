"""Cases of batch and layer normalization, and of the conversion of outputs back to the units of the targets."""

from __future__ import annotations

from typing import Any

from gradflow.testing.case import COLUMN_SUMS, NO_ROWS, PRODUCTS, Case
from gradflow.testing.draw import Draw
from gradflow.testing.sensitivity import sensitivity


def _normalize_columns(draw: Draw, *, epsilon: float) -> dict[str, Any]:
    arguments = _batch_norm_forward(draw, momentum=0.5, epsilon=epsilon)
    given = {"mean": arguments["running_mean"], "variance": arguments["running_variance"]}
    names = ("x", "gamma", "beta", "mean", "variance", "y", "epsilon")
    return {name: given.get(name, arguments[name]) for name in names}


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


def _rescale(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=4, power=2)
    mean, deviation = draw.reals(draw.columns, room=4), draw.reals(draw.columns, power=2)
    return {"x": x, "mean": mean, "deviation": deviation, "y": draw.like(x)}


def _clamp(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    return {"x": x, "low": -abs(draw.reals(draw.columns)), "high": abs(draw.reals(draw.columns)), "y": draw.like(x)}


CASES: dict[str, Case] = {
    "normalize_columns": Case(
        _normalize_columns,
        6,
        PRODUCTS,
        variants=({"epsilon": 1e-5}, {"epsilon": 0.1}),
        magnitude=sensitivity,
    ),
    "batch_norm_forward": Case(
        _batch_norm_forward,
        32,
        COLUMN_SUMS,
        variants=({"momentum": 0.1, "epsilon": 1e-5}, {"momentum": 1.0, "epsilon": 0.1}),
        magnitude=sensitivity,
        without={"empty": NO_ROWS, "one": "one row has no variance: the layer takes its running statistics"},
    ),
    "batch_norm_backward": Case(
        _batch_norm_backward,
        32,
        COLUMN_SUMS,
        variants=({"is_fixed": False, "needs_d_x": False}, {"is_fixed": False}, {"is_fixed": True}),
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_forward": Case(
        _layer_norm_forward,
        16,
        COLUMN_SUMS,
        variants=({"epsilon": 1e-5, "keeps": False}, {"epsilon": 0.1, "keeps": True}),
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_parameter_gradients": Case(
        _layer_norm_parameter_gradients,
        32,
        COLUMN_SUMS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "layer_norm_backward": Case(
        _layer_norm_backward,
        16,
        COLUMN_SUMS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "clamp_columns": Case(_clamp, 0, "comparisons"),
    "rescale": Case(
        _rescale,
        2,
        "a product and a sum, or one operation",
        magnitude=sensitivity,
    ),
}
