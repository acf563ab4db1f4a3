"""Cases of optimizers, and of clipping, scaling, accumulating and averaging."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradflow.ops import STEP, Array
from gradflow.optimizers.base import OWN, penalised
from gradflow.testing.case import EXACT, PRODUCTS, Case
from gradflow.testing.dense import CHUNKS, blank_chunks, by_chunk
from gradflow.testing.draw import NEVER, Draw, clock

_DECAYED = ({"decayed": 0.0}, {"decayed": 0.3, "step": 10}, {"decayed": 1.0, "step": 10**6})
OPTIMIZER_VARIANTS = (
    *_DECAYED,
    {"decayed": 0.3, "first_bad_step": 5},
    {"decayed": 0.3, "first_bad_step": 4},
    {"decayed": 0.3, "clip_value": 0.4},
    {"decayed": 0.3, "penalties": (0.0, 0.0)},
    {"decayed": 0.3, "penalties": (0.0, 0.0), "clip_value": 0.4},
)


def _optimizer(*state: str, hyper: tuple[float, ...] = ()) -> Callable[..., dict[str, Any]]:
    def make(
        draw: Draw,
        *,
        decayed: float,
        step: int = 5,
        first_bad_step: int = NEVER,
        clip_value: float = math.inf,
        penalties: tuple[float, float] = (0.2, 0.1),
    ) -> dict[str, Any]:
        vectors = {name: draw.reals(draw.n, room=64, power=2) for name in ("parameters", "gradients", *state)}
        for name in ("second_moment", "square_sum"):
            if name in state:
                vectors[name] = np.square(vectors[name])
        vectors["parameters"][5::9] = 0
        return {
            **vectors,
            "hyper": np.array([0.03, *penalties, clip_value, *hyper]),
            "gradient_scale": np.full(1, 0.7, draw.dtype),
            "clock": clock(step=step, first_bad_step=first_bad_step),
            "n_decayed": round(decayed * draw.n),
        }

    return make


def _penalised_terms(before: Mapping[str, Any], scale: float | None = None) -> Array:
    w, g = abs(before["parameters"].astype(np.float64)), abs(before["gradients"].astype(np.float64))
    l2, l1 = map(float, before["hyper"][1:3])
    if l2 or l1:
        g += np.where(np.arange(w.size) < before["n_decayed"], l2 * w + l1, 0)
    return (float(before["gradient_scale"][0]) if scale is None else scale) * g


def _signed_gradient(before: Mapping[str, Any]) -> Array:
    """Return the gradient that an update rule sees, in float64."""
    parameters, gradients = (before[name].astype(np.float64) for name in ("parameters", "gradients"))
    return penalised(parameters, gradients, before["hyper"], before["gradient_scale"], before["n_decayed"])


def _gradient_descent_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"parameters": abs(before["parameters"]) + float(before["hyper"][0]) * _penalised_terms(before)}


def _momentum_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    rate, kept, g = float(before["hyper"][0]), float(before["hyper"][OWN]), _penalised_terms(before)
    velocity = kept * abs(before["velocity"]) + g
    return {"velocity": velocity, "parameters": abs(before["parameters"]) + rate * (g + velocity)}


def _adam(decay: float | None = None) -> Callable[..., dict[str, Any]]:
    beta1, beta2 = 0.8, 0.95
    hyper = (beta1, beta2, 1e-3, math.log(beta1), math.log(beta2))
    return _optimizer("first_moment", "second_moment", hyper=hyper if decay is None else (*hyper, decay))


def _adam_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    rate, (beta1, beta2, epsilon) = before["hyper"][0], before["hyper"][OWN : OWN + 3]
    g, step = _penalised_terms(before), int(before["clock"][STEP])
    first = beta1 * abs(before["first_moment"]) + (1 - beta1) * g
    second = beta2 * before["second_moment"].astype(np.float64) + (1 - beta2) * g * g
    root = np.sqrt(after["second_moment"].astype(np.float64)) / np.sqrt(1 - beta2**step)
    change = rate * first / (1 - beta1**step) / (root + epsilon)
    sharpness = np.nan_to_num(second / after["second_moment"].astype(np.float64), nan=1)
    return {
        "first_moment": first,
        "second_moment": second,
        "parameters": abs(before["parameters"]) + change * sharpness,
    }


def _rmsprop_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    beta, epsilon = before["hyper"][OWN : OWN + 2]
    g, v = _penalised_terms(before), after["second_moment"].astype(np.float64)
    second = beta * before["second_moment"].astype(np.float64) + (1 - beta) * g * g
    return {"second_moment": second, "parameters": _root_mean_square_terms(before, g, second, v, epsilon)}


def _adagrad_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    g, s = _penalised_terms(before), after["square_sum"].astype(np.float64)
    total = before["square_sum"].astype(np.float64) + g * g
    return {"square_sum": total, "parameters": _root_mean_square_terms(before, g, total, s, before["hyper"][OWN])}


def _root_mean_square_terms(before: Mapping[str, Any], g: Array, terms: Array, sums: Array, epsilon: float) -> Array:
    """Return terms of w - rate g / (√s + ε): the quotient has the rounding of g, and of s where its terms cancel."""
    change = float(before["hyper"][0]) * g / (np.sqrt(sums) + epsilon)
    return abs(before["parameters"]) + change * np.nan_to_num(terms / sums, nan=1)


def _lion_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    beta1, beta2, decay = before["hyper"][OWN : OWN + 3]
    w, m, g = abs(before["parameters"].astype(np.float64)), before["first_moment"], _penalised_terms(before)
    # If the terms of the direction cancel to within their rounding, either sign is right.
    direction, terms = np.zeros_like(g), beta1 * abs(m) + (1 - beta1) * g
    eps = np.finfo(before["parameters"].dtype).eps
    exact = beta1 * m.astype(np.float64) + (1 - beta1) * _signed_gradient(before)
    direction[abs(exact) <= 8 * eps * terms] = 2 / eps
    rate = float(before["hyper"][0])
    return {
        "first_moment": beta2 * abs(m) + (1 - beta2) * g,
        "parameters": w + rate * (1 + decay * w) + rate * direction,
    }


def _chunk_squares(draw: Draw, *, chunk: int, decayed: float) -> dict[str, Any]:
    arguments = _optimizer()(draw, decayed=decayed)
    names = ("parameters", "gradients", "hyper", "n_decayed")
    return {**{name: arguments[name] for name in names}, "partials": blank_chunks(draw, chunk), "chunk": chunk}


def _chunk_squares_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    # The regularized gradient is rounded to its dtype before it is squared in float64.
    eps_ratio = float(np.finfo(before["gradients"].dtype).eps / np.finfo(np.float64).eps)
    return {"partials": eps_ratio * by_chunk(_penalised_terms(before, 1.0) ** 2, before)}


def _clip_scale(draw: Draw, *, share: float) -> dict[str, Any]:
    n = min(draw.n, 4096)  # there are no more chunks
    partials = abs(draw.reals(n, room=4 * n + 1)).astype(np.float64)
    norm = math.sqrt(partials[np.isfinite(partials)].sum())
    return {"partials": partials, "gradient_scale": draw.blank(1), "clip_norm": share * norm + 1e-300}


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


def _accumulate(draw: Draw, *, share: float, kept: int) -> dict[str, Any]:
    gradients, total = draw.reals(draw.n, room=4), draw.reals(draw.n, room=4)
    return {"gradients": gradients, "total": total, "out": draw.like(total), "share": share, "kept": kept}


def _accumulate_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"out": before["share"] * abs(before["gradients"]) + before["kept"] * abs(before["total"])}


def _average_weights(draw: Draw, *, step: int, first_bad_step: int = NEVER) -> dict[str, Any]:
    return {
        "parameters": draw.reals(draw.n, room=4),
        "average": draw.reals(draw.n, room=4),
        "clock": clock(step=step, first_bad_step=first_bad_step),
        "decay": 0.9,
    }


def _average_terms(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Array]:
    return {"average": abs(before["parameters"]) + abs(before["average"])}


CASES: dict[str, Case] = {
    "gradient_descent": Case(_optimizer(), 3, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_gradient_descent_terms),
    "momentum": Case(
        _optimizer("velocity", hyper=(0.6,)), 4, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_momentum_terms
    ),
    "nesterov": Case(
        _optimizer("velocity", hyper=(0.6,)), 4, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_momentum_terms
    ),
    "adam": Case(
        _adam(),
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=(*OPTIMIZER_VARIANTS, {"decayed": 0.3, "step": 1}),
        magnitude=_adam_terms,
    ),
    "adamw": Case(
        _adam(decay=0.4),
        8,
        f"{PRODUCTS}; 1 - beta^t cancels in the definition, by up to 5 ulp in float64",
        variants=(*OPTIMIZER_VARIANTS, {"decayed": 0.3, "step": 1}),
        magnitude=_adam_terms,
    ),
    "rmsprop": Case(
        _optimizer("second_moment", hyper=(0.9, 1e-3)),
        8,
        PRODUCTS,
        variants=OPTIMIZER_VARIANTS,
        magnitude=_rmsprop_terms,
    ),
    "adagrad": Case(
        _optimizer("square_sum", hyper=(1e-3,)), 8, PRODUCTS, variants=OPTIMIZER_VARIANTS, magnitude=_adagrad_terms
    ),
    "lion": Case(
        _optimizer("first_moment", hyper=(0.8, 0.95, 0.4)),
        8,
        PRODUCTS,
        variants=OPTIMIZER_VARIANTS,
        magnitude=_lion_terms,
    ),
    "chunk_squares": Case(
        _chunk_squares,
        32,
        "the roundings of g + l2 w, then float64 sums in any order",
        variants=tuple({"decayed": share, **chunk} for share in (0.0, 0.3, 1.0) for chunk in CHUNKS),
        magnitude=_chunk_squares_terms,
    ),
    "scaled_copy": Case(_scaled_copy, 1, EXACT, flushes=True),
    "unscale": Case(_unscale, 1, EXACT, variants=({}, {"overflowed": 1}), flushes=True),
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
    "clip_scale": Case(
        _clip_scale, 16, "float64 sums of up to 4096 terms in any order", variants=({"share": 0.25}, {"share": 1.5})
    ),
    "accumulate": Case(
        _accumulate,
        2,
        "a product and a sum, or one operation",
        variants=({"share": 0.25, "kept": 0}, {"share": 0.375, "kept": 1}),
        magnitude=_accumulate_terms,
    ),
    "average_weights": Case(
        _average_weights,
        3,
        f"{PRODUCTS}, or two operations",
        variants=({"step": 1}, {"step": 5}, {"step": 5, "first_bad_step": 5}),
        magnitude=_average_terms,
    ),
}
