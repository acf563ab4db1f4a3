"""Cases of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import EXACT, LIBRARY, LOSS_SUMS, NO_ROWS, NO_VALUES, PRODUCTS, Case
from gradflow.testing.draw import NEVER, Draw, clock
from gradflow.testing.sensitivity import sensitivity

# The batch is followed by rows of the epoch that belong to other batches.
LOSS_VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"is_weighted": True, "position": 4},
    {"is_weighted": True, "first_bad_step": 2},
)


def _varied(name: str, *values: Any) -> tuple[dict[str, Any], ...]:
    """Return the variants of a loss, each with its own value of one setting."""
    return tuple({name: value, **variant} for value, variant in zip(values, LOSS_VARIANTS, strict=True))


def _of_epoch(
    draw: Draw, *, is_weighted: bool = False, position: int = 0, first_bad_step: int = NEVER
) -> dict[str, Array | None]:
    """Return the arguments of all losses other than outputs and targets."""
    weight = draw.random.uniform(0, 2, draw.rows).astype(draw.dtype) if is_weighted else None
    if weight is not None:
        weight[1::5] = 0
    return {
        "row_weight": weight,
        "row_losses": draw.blank(draw.rows + position + 3),
        "row_correct": draw.blank(draw.rows + position + 3),
        "clock": clock(position=position, first_bad_step=first_bad_step),
    }


def _squared_error(draw: Draw, *, factor: float, **settings: Any) -> dict[str, Any]:
    rows, columns = draw.rows, draw.columns
    room = 64 * (1 + factor) * max(columns, 1)
    of_epoch = _of_epoch(draw, **settings)
    del of_epoch["row_correct"]
    outputs = draw.reals(rows, columns, room=room, power=2)
    targets = draw.random.standard_normal((rows, columns)).astype(draw.dtype)
    if draw.values in ("denormal", "extreme"):
        targets = draw.reals(rows, columns, room=room, power=2)
    return {"outputs": outputs, "targets": targets, "d_outputs": draw.like(outputs), **of_epoch, "factor": factor}


def _regression(draw: Draw, *, targets: int = 1, room: float = 8, **settings: Any) -> dict[str, Any]:
    """Return outputs and targets, some of them equal; ``targets`` is the number of outputs that share a target."""
    setting: dict[str, Any] = {name: settings.pop(name) for name in ("delta", "quantiles") if name in settings}
    of_epoch = _of_epoch(draw, **settings)
    del of_epoch["row_correct"]
    outputs = draw.reals(draw.rows, draw.columns * targets, room=room * max(draw.columns, 1) * targets)
    t = draw.random.standard_normal((draw.rows, draw.columns)).astype(draw.dtype)
    if draw.values in ("denormal", "extreme"):
        t = draw.reals(draw.rows, draw.columns, room=room * max(draw.columns, 1) * targets)
    if t.size > 20:
        outputs[3:5] = np.repeat(t[3:5], targets, axis=1)
    return {"outputs": outputs, "targets": t, "d_outputs": draw.like(outputs), **of_epoch, **setting}


def _quantile(draw: Draw, *, quantiles: tuple[float, ...], **settings: Any) -> dict[str, Any]:
    levels = np.array(quantiles, draw.dtype)
    return _regression(draw, targets=len(levels), room=64, quantiles=levels, **settings)


def _poisson(draw: Draw, **settings: Any) -> dict[str, Any]:
    arguments = _regression(draw, room=64, **settings)
    arguments["targets"] = np.sqrt(abs(arguments["targets"]))
    arguments["outputs"] = np.sign(arguments["outputs"]) * np.sqrt(abs(arguments["outputs"]))
    return arguments


def _focal(make: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def with_gamma(draw: Draw, *, gamma: float, **settings: Any) -> dict[str, Any]:
        return {**make(draw, **settings), "gamma": gamma}

    return with_gamma


def _label_probabilities(draw: Draw, *, smoothing: float) -> dict[str, Any]:
    labels = draw.random.integers(0, max(draw.columns, 1), draw.rows).astype(np.int32)
    return {"labels": labels, "probabilities": draw.blank(draw.rows, draw.columns), "smoothing": np.array([smoothing])}


def _smooth_targets(draw: Draw, *, smoothing: float) -> dict[str, Any]:
    targets = draw.between(0, 1, draw.rows, draw.columns)
    return {"targets": targets, "smoothed": draw.like(targets), "smoothing": np.array([smoothing]), "classes": 3}


def binary_cross_entropy(draw: Draw, **settings: Any) -> dict[str, Any]:
    logits = 4 * draw.reals(draw.rows, draw.columns, room=64 * max(draw.columns, 1))
    targets = draw.random.uniform(0, 1, logits.shape).astype(draw.dtype)
    targets.reshape(-1)[0::3] = 0
    targets.reshape(-1)[1::3] = 1
    targets.reshape(-1)[5::9] = 0.5
    if draw.values == "ordinary" and logits.size > 20:
        logits.reshape(-1)[4:10] = 0, 30, -30, 100, -100, -1000
    return {"logits": logits, "targets": targets, "d_logits": draw.like(logits), **_of_epoch(draw, **settings)}


def drawn_logits(draw: Draw) -> Array:
    logits = 4 * draw.reals(draw.rows, draw.columns, room=64)
    if draw.rows > 4 and draw.columns > 3:
        logits[1, 1] = logits[1, 3] = logits[1].max() + 1  # a tie for the maximum: the first one counts
        logits[2] = 0
    if draw.values == "inf" and draw.rows > 5 and draw.columns > 4:
        logits[5] = np.arange(draw.columns)
        logits[5, 4] = -np.inf  # where probabilities have a 0: 0 log 0 is 0
    return logits


def _softmax_labels(draw: Draw, **settings: Any) -> dict[str, Any]:
    logits = drawn_logits(draw)
    labels = draw.random.integers(0, max(draw.columns, 1), draw.rows).astype(np.int32)
    labels[:3] = [0, draw.columns - 1, draw.columns - 1][: draw.rows]
    if draw.rows > 5:
        labels[1], labels[3:5] = 1, np.nan_to_num(logits[3:5]).argmax(axis=1)
    return {"logits": logits, "targets": labels, "d_logits": draw.like(logits), **_of_epoch(draw, **settings)}


def _softmax_probabilities(draw: Draw, **settings: Any) -> dict[str, Any]:
    logits = drawn_logits(draw)
    targets = draw.random.exponential(size=logits.shape)
    targets[:, ::4] = 0
    targets[::3] = np.eye(max(draw.columns, 1))[draw.random.integers(0, max(draw.columns, 1), len(targets[::3]))]
    if draw.rows > 5 and draw.columns > 3:
        targets[1], targets[1, 1:4:2] = 0, 1  # a tie here too
        targets[4, np.nan_to_num(logits[4]).argmax()] += targets[4].sum() + 1
    with np.errstate(invalid="ignore"):  # a single column may hold nothing but zeros
        targets = np.nan_to_num(targets / targets.sum(axis=1, keepdims=True), nan=1).astype(draw.dtype)
    return {"logits": logits, "targets": targets, "d_logits": draw.like(logits), **_of_epoch(draw, **settings)}


def _weigh_correct(draw: Draw, *, position: int) -> dict[str, Any]:
    correct = draw.blank(draw.rows + position + 3)
    correct[position : position + draw.rows] = draw.reals(draw.rows, room=4, power=2)
    return {"row_weight": draw.reals(draw.rows, power=2), "row_correct": correct, "clock": clock(position=position)}


CASES: dict[str, Case] = {
    "squared_error": Case(
        _squared_error,
        12,
        LOSS_SUMS,
        variants=_varied("factor", 0.5, 0.125, 0.5),
        without={"empty": NO_ROWS},
    ),
    "binary_cross_entropy": Case(
        binary_cross_entropy,
        10,
        f"log1p, logaddexp: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "softmax_cross_entropy_labels": Case(
        _softmax_labels,
        14,
        f"exp, log: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "softmax_cross_entropy_probabilities": Case(
        _softmax_probabilities,
        14,
        f"exp, log: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "absolute_error": Case(_regression, 12, LOSS_SUMS, variants=LOSS_VARIANTS, without={"empty": NO_ROWS}),
    "huber": Case(
        _regression,
        12,
        LOSS_SUMS,
        variants=_varied("delta", 0.7, 1.5, 0.7),
        without={"empty": NO_ROWS},
    ),
    "quantile": Case(
        _quantile,
        12,
        LOSS_SUMS,
        variants=_varied("quantiles", (0.5,), (0.1, 0.5, 0.75), (0.9, 0.2)),
        without={"empty": NO_ROWS},
    ),
    "poisson": Case(
        _poisson,
        12,
        f"exp: {LIBRARY}; {LOSS_SUMS}",
        variants=LOSS_VARIANTS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "label_probabilities": Case(
        _label_probabilities,
        2,
        PRODUCTS,
        variants=({"smoothing": 0.0}, {"smoothing": 0.3}),
        without={**NO_VALUES, "empty": NO_ROWS},
    ),
    "smooth_targets": Case(_smooth_targets, 2, PRODUCTS, variants=({"smoothing": 0.1}, {"smoothing": 0.9})),
    "softmax_focal": Case(
        _focal(_softmax_probabilities),
        24,
        f"exp, expm1, log, pow: {LIBRARY}; {LOSS_SUMS}",
        variants=_varied("gamma", 2.0, 0.5, 1.0),
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "binary_focal": Case(
        _focal(binary_cross_entropy),
        24,
        f"exp, log1p, logaddexp, pow: {LIBRARY}; {LOSS_SUMS}",
        variants=_varied("gamma", 2.0, 0.5, 1.0),
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "weigh_correct": Case(_weigh_correct, 0, EXACT, variants=({"position": 0}, {"position": 4})),
}
