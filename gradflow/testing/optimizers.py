"""Cases of optimizers, and of clipping, scaling, accumulating and averaging."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.optimizers.base import hyper_vector
from gradflow.testing.case import EXACT, PRODUCTS, Case
from gradflow.testing.dense import CHUNKS, blank_chunks
from gradflow.testing.draw import NEVER, Draw, clock
from gradflow.testing.sensitivity import sensitivity

_DECAYED = ({"decayed": 0.0}, {"decayed": 0.3, "step": 10}, {"decayed": 1.0, "step": 10**6})
OPTIMIZER_VARIANTS: tuple[dict[str, Any], ...] = (
    *_DECAYED,
    {"decayed": 0.3, "first_bad_step": 5},
    {"decayed": 0.3, "first_bad_step": 4},
    {"decayed": 0.3, "clip_value": 0.4},
    {"decayed": 0.3, "penalties": (0.0, 0.0)},
    {"decayed": 0.3, "penalties": (0.0, 0.0), "clip_value": 0.4},
    {"decayed": 0.3, "factors": ((0.2, 0.1, 2.0), (0.5, 1.0, 0.0), (0.5, 3.0, 1.0), (1.0, 6.0, 1.0))},
    {"decayed": 0.9, "factors": ((1.0, 0.25, 0.5),), "step": 10},
)

_NO_RANGE = {"empty": "a range has at least one parameter"}


def _optimizer(*state: str, hyper: tuple[float, ...] = (), decay: float = 0.0) -> Callable[..., dict[str, Any]]:
    def make(
        draw: Draw,
        *,
        decayed: float,
        step: int = 5,
        first_bad_step: int = NEVER,
        clip_value: float = math.inf,
        penalties: tuple[float, float] = (0.2, 0.1),
        factors: tuple[tuple[float, float, float], ...] = (),
    ) -> dict[str, Any]:
        vectors = {name: draw.reals(draw.n, room=64, power=2) for name in ("parameters", "gradients", *state)}
        for name in ("second_moment", "square_sum"):
            if name in state:
                vectors[name] = np.square(vectors[name])
        vectors["parameters"][5::9] = 0
        return {
            **vectors,
            "hyper": hyper_vector(
                hyper,
                learning_rate=0.03,
                weight_decay=decay,
                l2=penalties[0],
                l1=penalties[1],
                clip_value=clip_value,
                factors=[(round(end * draw.n), of_rate, of_decay) for end, of_rate, of_decay in factors],
            ),
            "gradient_scale": np.full(1, 0.7, draw.dtype),
            "clock": clock(step=step, first_bad_step=first_bad_step),
            "n_decayed": round(decayed * draw.n),
        }

    return make


def _adam(decay: float = 0.0) -> Callable[..., dict[str, Any]]:
    beta1, beta2 = 0.8, 0.95

    def make(draw: Draw, *, epsilons: tuple[float, float] = (1e-3, 0.0), **variant: Any) -> dict[str, Any]:
        hyper = (beta1, beta2, *epsilons, math.log(beta1), math.log(beta2))
        of_adam = _optimizer("first_moment", "second_moment", hyper=hyper, decay=decay)
        return of_adam(draw, **variant)

    return make


def _adamw_range(draw: Draw, *, decayed: float, first: float = 0, **variant: Any) -> dict[str, Any]:
    arguments = _adam(decay=0.4)(draw, decayed=decayed, **variant)
    del arguments["n_decayed"]
    return {**arguments, "decayed": decayed > 0, "first": int(first * draw.n)}


def _muon_direction(draw: Draw, *, nesterov: float = 1.0, **variant: Any) -> dict[str, Any]:
    arguments = _optimizer("first_moment", hyper=(*(0.0,) * 6, 0.9, nesterov))(draw, decayed=1.0, **variant)
    del arguments["n_decayed"]
    for name in ("parameters", "gradients", "first_moment"):
        arguments[name] = arguments[name].reshape(draw.rows, draw.columns)
    squares = draw.blank(draw.rows, dtype=np.float64)
    return {**arguments, "direction": draw.like(arguments["gradients"]), "squares": squares}


def _muon_scale(draw: Draw, *, factor: float) -> dict[str, Any]:
    squares = factor * np.square(draw.reals(draw.n, room=4 * draw.n + 1, power=2).astype(np.float64))
    return {"squares": squares, "scale": draw.blank(1)}


def _muon_normalize(draw: Draw) -> dict[str, Any]:
    return {"direction": draw.reals(draw.rows, draw.columns, power=2), "scale": draw.reals(1, power=2)}


def _muon_factor(draw: Draw) -> dict[str, Any]:
    gram, square = (draw.reals(draw.rows, draw.rows, room=16) for _ in range(2))
    return {"gram": gram, "square": square}


def _muon_update(draw: Draw, *, first: float = 0, **variant: Any) -> dict[str, Any]:
    arguments = _optimizer(decay=0.4)(draw, decayed=1.0, **variant)
    kept = {name: arguments[name] for name in ("parameters", "hyper", "clock")}
    direction = draw.reals(draw.n, room=64, power=2)
    return {**kept, "direction": direction, "scale": 1.5, "first": int(first * draw.n)}


def _chunk_squares(draw: Draw, *, chunk: int, decayed: float) -> dict[str, Any]:
    arguments = _optimizer()(draw, decayed=decayed)
    names = ("parameters", "gradients", "hyper", "n_decayed")
    return {**{name: arguments[name] for name in names}, "partials": blank_chunks(draw, chunk), "chunk": chunk}


def _clip_scale(draw: Draw, *, fraction: float) -> dict[str, Any]:
    n = min(draw.n, 4096)  # there are no more chunks
    partials = abs(draw.reals(n, room=4 * n + 1)).astype(np.float64)
    norm = math.sqrt(partials[np.isfinite(partials)].sum())
    return {"partials": partials, "gradient_scale": draw.blank(1), "clip_norm": fraction * norm + 1e-300}


def _scaling(draw: Draw, *, scale: float = 4096, good_steps: float = 7, overflowed: float = 0) -> Array:
    return np.array([scale, good_steps, overflowed], draw.dtype)


def _scaled_copy(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=8192)
    return {"x": x, "scaling": _scaling(draw), "y": draw.like(x)}


def _unscale(draw: Draw, **settings: int) -> dict[str, Any]:
    return {"gradients": draw.reals(draw.n), "scaling": _scaling(draw, **settings)}


def _adapt_scaling(draw: Draw, *, first_bad_step: int = NEVER, **settings: float) -> dict[str, Any]:
    return {
        "scaling": _scaling(draw, **settings),
        "clock": clock(position=3, first_bad_step=first_bad_step),
        "update_clock": clock(step=2, epoch=0, position=0, first_bad_step=0),
        "growth_steps": 9,
        "most_scale": 65536.0,
    }


def _record_scaled_update(draw: Draw, *, bad_step: int) -> dict[str, Any]:
    return {"update_clock": clock(step=2, first_bad_step=bad_step), "clock": clock()}


def _accumulate(draw: Draw, *, share: float, kept: int) -> dict[str, Any]:
    gradients, total = draw.reals(draw.n, room=4), draw.reals(draw.n, room=4)
    return {"gradients": gradients, "total": total, "out": draw.like(total), "share": share, "kept": kept}


def _average_weights(draw: Draw, *, step: int, first_bad_step: int = NEVER) -> dict[str, Any]:
    return {
        "parameters": draw.reals(draw.n, room=4),
        "average": draw.reals(draw.n, room=4),
        "clock": clock(step=step, first_bad_step=first_bad_step),
        "decay": 0.9,
    }


CASES: dict[str, Case] = {
    "gradient_descent": Case(_optimizer(), 3, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=sensitivity),
    "momentum": Case(
        _optimizer("velocity", hyper=(0.6,)), 4, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=sensitivity
    ),
    "nesterov": Case(
        _optimizer("velocity", hyper=(0.6,)), 5, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=sensitivity
    ),
    "adam": Case(
        _adam(),
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=(
            *OPTIMIZER_VARIANTS,
            {"decayed": 0.3, "step": 1},
            {"decayed": 0.3, "step": 1, "epsilons": (0.0, 1e-3)},
        ),
        magnitude=sensitivity,
    ),
    "adamw": Case(
        _adam(decay=0.4),
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=(*OPTIMIZER_VARIANTS, {"decayed": 0.3, "step": 1}),
        magnitude=sensitivity,
    ),
    "rmsprop": Case(
        _optimizer("second_moment", hyper=(0.9, 1e-3)),
        8,
        PRODUCTS,
        variants=OPTIMIZER_VARIANTS,
        magnitude=sensitivity,
    ),
    "adagrad": Case(
        _optimizer("square_sum", hyper=(1e-3,)), 8, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=sensitivity
    ),
    "lion": Case(
        _optimizer("first_moment", hyper=(0.8, 0.95), decay=0.4),
        8,
        PRODUCTS,
        variants=OPTIMIZER_VARIANTS,
        magnitude=partial(sensitivity, ulps=3),  # where the terms of a direction cancel, either sign is right
    ),
    "adamw_range": Case(
        _adamw_range,
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=tuple(variant | {"first": place / 10} for place, variant in enumerate(OPTIMIZER_VARIANTS)),
        magnitude=sensitivity,
        without=_NO_RANGE,
    ),
    "muon_direction": Case(
        _muon_direction,
        8,
        f"{PRODUCTS}; float64 sums in any order",
        variants=({}, {"nesterov": 0.0}, {"clip_value": 0.4}, {"penalties": (0.0, 0.0)}, {"first_bad_step": 5}),
        magnitude=sensitivity,
    ),
    "muon_scale": Case(
        _muon_scale, 4, "float64 sums in any order, and a rounding", variants=({"factor": 1.0}, {"factor": 1e-30})
    ),
    "muon_normalize": Case(_muon_normalize, 1, EXACT),
    "muon_factor": Case(_muon_factor, 4, PRODUCTS, magnitude=sensitivity),
    "muon_update": Case(
        _muon_update,
        6,
        PRODUCTS,
        variants=(
            {},
            {"first_bad_step": 5},
            {"first": 0.3, "factors": ((0.2, 0.1, 2.0), (0.5, 1.0, 0.0), (1.0, 6.0, 1.0))},
        ),
        magnitude=sensitivity,
        without=_NO_RANGE,
    ),
    "chunk_squares": Case(
        _chunk_squares,
        32,
        "the roundings of g + l2 w, then float64 sums in any order",
        variants=tuple({"decayed": fraction, **chunk} for fraction in (0.0, 0.3, 1.0) for chunk in CHUNKS),
        magnitude=sensitivity,
    ),
    "scaled_copy": Case(_scaled_copy, 1, EXACT),
    "unscale": Case(_unscale, 1, EXACT, variants=({}, {"overflowed": 1})),
    "adapt_scaling": Case(
        _adapt_scaling,
        0,
        "powers of two",
        variants=(
            {},
            {"good_steps": 8},
            {"good_steps": 8, "scale": 65536},
            {"overflowed": 1},
            {"overflowed": 1, "scale": 1},
            {"overflowed": 1, "scale": 1, "first_bad_step": 2},
            {"first_bad_step": 5},
        ),
    ),
    "record_scaled_update": Case(
        _record_scaled_update, 0, "integers", variants=({"bad_step": NEVER}, {"bad_step": 0}, {"bad_step": 3})
    ),
    "clip_scale": Case(
        _clip_scale,
        16,
        "float64 sums of up to 4096 terms in any order",
        variants=({"fraction": 0.25}, {"fraction": 1.5}),
    ),
    "accumulate": Case(
        _accumulate,
        2,
        "a product and a sum, or one operation",
        variants=({"share": 0.25, "kept": 0}, {"share": 0.375, "kept": 1}),
        magnitude=sensitivity,
    ),
    "average_weights": Case(
        _average_weights,
        3,
        f"{PRODUCTS}, or two operations",
        variants=({"step": 1}, {"step": 5}, {"step": 5, "first_bad_step": 5}),
        magnitude=sensitivity,
    ),
}
