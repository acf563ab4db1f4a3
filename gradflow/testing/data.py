"""Cases of batches, of the clock that counts them, and of random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.testing.case import EXACT, NO_VALUES, Case
from gradflow.testing.draw import SHAPES, Draw, clock

SEED = 0x9E3779B97F4A7C15
ADVANCES = (
    {"batch_size": 32, "position": 0},
    {"batch_size": 4, "position": 32},
    {"batch_size": 4, "position": 96},
    {"batch_size": 32, "position": 96},
)
GATHERS = (
    {"labels": True, "position": 0, "is_weighted": False, "has_places": False},
    {"labels": True, "position": 5, "is_weighted": False, "has_places": True},
    {"labels": False, "position": 5, "is_weighted": True, "has_places": False},
)
NO_SHAPES = {kind: "the clock has one shape" for kind in SHAPES if kind not in ("one", "misaligned")}


def _dropout(draw: Draw, *, position: int, epoch: int, rate: float, rows_before: int = 0) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=8)
    return {
        "x": x,
        "y": draw.like(x),
        "clock": clock(position=position, epoch=epoch),
        "threshold": round(rate * 2**32),
        "scale": 1 / (1 - rate),
        "seed": SEED,
        "stream": 0x02000003,
        "rows_before": rows_before,
        "words_before": rows_before * draw.columns,
    }


def _scheduled_dropout(draw: Draw, *, rate: float, **settings: int) -> dict[str, Any]:
    arguments = _dropout(draw, rate=rate, **settings)
    return {name: value for name, value in arguments.items() if name not in ("threshold", "scale")} | {
        "rate": np.array([rate])
    }


def _gather(
    draw: Draw, *, labels: bool, position: int, is_weighted: bool, has_places: bool, **settings: int
) -> dict[str, Any]:
    data_rows = draw.rows + 5
    x_rows = data_rows + 4 if has_places else data_rows
    x = draw.reals(x_rows, draw.columns)
    targets = np.arange(data_rows, dtype=np.int32) if labels else draw.reals(data_rows, 3)
    return {
        "x": x,
        "targets": targets,
        "row_weight": draw.reals(data_rows) if is_weighted else None,
        "places": draw.random.integers(0, x_rows, data_rows) if has_places else None,
        "batch_x": draw.blank(draw.rows, draw.columns),
        "batch_targets": draw.blank(draw.rows, *targets.shape[1:], dtype=targets.dtype),
        "batch_row_weight": draw.blank(draw.rows) if is_weighted else None,
        "clock": clock(position=position),
        **settings,
    }


def _advance(draw: Draw, *, batch_size: int, position: int) -> dict[str, Any]:
    return {"clock": clock(step=2**40, position=position), "batch_size": batch_size, "epoch_rows": 100}


def _advance_scheduled(draw: Draw, *, batch_size: int, position: int, entries: int = 1) -> dict[str, Any]:
    return {
        "clock": clock(step=2**40 + 6, position=position),
        "table": np.geomspace(1e-5, 1, 7 * entries).reshape(7, entries),
        "values": np.array([0.5, 0.1, 0.9]),
        "batch_size": batch_size,
        "epoch_rows": 100,
    }


CASES: dict[str, Case] = {
    "dropout": Case(
        _dropout,
        0,
        "the words are integers; one product",
        variants=(
            {"position": 1, "epoch": 0, "rate": 0.25},
            {"position": 7, "epoch": 5, "rate": 0.5},
            {"position": 2**32 + 9, "epoch": 2**31 + 1, "rate": 0.75},
            {"position": 7, "epoch": 5, "rate": 0.0},
            {"position": 7, "epoch": 5, "rate": 0.5, "rows_before": 4},
            {"position": 2**32 + 40, "epoch": 5, "rate": 0.5, "rows_before": 2**10},
        ),
    ),
    "scheduled_dropout": Case(
        _scheduled_dropout,
        0,
        "the words are integers; one product",
        variants=(
            {"position": 1, "epoch": 0, "rate": 0.25},
            {"position": 2**32 + 9, "epoch": 2**31 + 1, "rate": 0.75},
            {"position": 7, "epoch": 5, "rate": 0.0},
            {"position": 7, "epoch": 5, "rate": 0.1, "rows_before": 4},
            {"position": 7, "epoch": 5, "rate": 1 - 2**-53},
        ),
    ),
    "gather_batch": Case(_gather, 0, EXACT, variants=GATHERS),
    "gather_shuffled_batch": Case(_gather, 0, EXACT, variants=tuple({**variant, "seed": SEED} for variant in GATHERS)),
    "advance": Case(_advance, 0, "integers", variants=ADVANCES, without={**NO_VALUES, **NO_SHAPES}),
    "advance_scheduled": Case(
        _advance_scheduled,
        0,
        "integers and a copy",
        variants=(*ADVANCES, {**ADVANCES[2], "entries": 3}),
        without={**NO_VALUES, **NO_SHAPES},
    ),
    "advance_part": Case(
        lambda draw: {"clock": clock(position=32), "part_rows": 8}, 0, "integers", without={**NO_VALUES, **NO_SHAPES}
    ),
}
