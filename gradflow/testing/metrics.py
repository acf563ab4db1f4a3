"""Cases of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import EXACT, LIBRARY, LOSS_SUMS, NO_ROWS, NO_VALUES, Case
from gradflow.testing.draw import Draw, clock
from gradflow.testing.losses import binary_cross_entropy, drawn_logits
from gradflow.testing.sensitivity import sensitivity

WEIGHTED = ({"is_weighted": False}, {"is_weighted": True})


def _sums(draw: Draw, *shape: int) -> Array:
    """Return sums to add to: float64, never NaN."""
    return draw.random.standard_normal(shape)


def _weight(draw: Draw, is_weighted: bool) -> Array | None:
    return draw.random.uniform(0, 2, draw.rows).astype(draw.dtype) if is_weighted else None


def _largest_column(draw: Draw) -> dict[str, Any]:
    return {"x": drawn_logits(draw), "labels": np.full(draw.rows, -1, np.int32)}


def _class_counts(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    classes = max(draw.columns, 1)
    predicted, actual = draw.random.integers(0, classes, (2, draw.rows)).astype(np.int32)
    predicted[::2] = actual[::2]
    return {
        "predicted": predicted,
        "actual": actual,
        "row_weight": _weight(draw, is_weighted),
        "counts": _sums(draw, 4, classes),
    }


def _label_counts(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    return {
        "logits": draw.reals(draw.rows, draw.columns),
        "targets": draw.random.integers(0, 3, (draw.rows, draw.columns)).astype(draw.dtype) / 2,
        "row_weight": _weight(draw, is_weighted),
        "counts": _sums(draw, 4, draw.columns),
    }


def _error_moments(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    moments = _sums(draw, 5, draw.columns)
    moments[3:] = 10 * abs(moments[3:])
    return {
        "outputs": draw.reals(draw.rows, draw.columns, room=1024 * (draw.rows + 1), power=2),
        "targets": draw.reals(draw.rows, draw.columns, room=1024 * (draw.rows + 1), power=2),
        "row_weight": _weight(draw, is_weighted),
        "moments": moments,
    }


def _row_values(draw: Draw) -> Array:
    return draw.blank(draw.rows, dtype=np.float64)


def _labeled(draw: Draw, **settings: int) -> dict[str, Any]:
    logits = drawn_logits(draw)
    labels = draw.random.integers(0, max(draw.columns, 1), draw.rows).astype(np.int32)
    labels[1:3] = [min(3, draw.columns - 1), 0][: len(labels[1:3])]
    return {"logits": logits, "labels": labels, "values": _row_values(draw), **settings}


def _binary_log_losses(draw: Draw) -> dict[str, Any]:
    arguments = binary_cross_entropy(draw)
    return {"logits": arguments["logits"], "targets": arguments["targets"], "values": _row_values(draw)}


def _weighted_total(draw: Draw, *, is_weighted: bool) -> dict[str, Any]:
    values = draw.reals(draw.rows, room=4 * draw.rows + 4).astype(np.float64)
    return {"values": values, "row_weight": _weight(draw, is_weighted), "sums": _sums(draw, 2)}


def _keep_rows(draw: Draw, *, position: int, labels: bool) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    if labels:
        x = np.arange(draw.rows, dtype=np.int32)
    kept = draw.blank(draw.rows + position + 3, *x.shape[1:], dtype=x.dtype)
    return {"x": x, "kept": kept, "clock": clock(position=position)}


CASES: dict[str, Case] = {
    "largest_column": Case(_largest_column, 0, "integers", without={"empty": NO_ROWS}),
    "add_class_counts": Case(
        _class_counts,
        32,
        "float64 sums in any order",
        variants=WEIGHTED,
        magnitude=sensitivity,
        without=NO_VALUES,
    ),
    "add_label_counts": Case(
        _label_counts,
        32,
        "float64 sums in any order",
        variants=WEIGHTED,
        magnitude=sensitivity,
    ),
    "add_error_moments": Case(
        _error_moments, 32, "float64 sums in any order", variants=WEIGHTED, magnitude=sensitivity
    ),
    "top_k_correct": Case(_labeled, 0, "comparisons", variants=({"k": 1}, {"k": 3}), without={"empty": NO_ROWS}),
    "label_log_losses": Case(
        _labeled, 14, f"exp, log: {LIBRARY}; {LOSS_SUMS}", magnitude=sensitivity, without={"empty": NO_ROWS}
    ),
    "binary_log_losses": Case(
        _binary_log_losses,
        10,
        f"log1p, logaddexp: {LIBRARY}; {LOSS_SUMS}",
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "add_weighted_total": Case(
        _weighted_total, 32, "float64 sums in any order", variants=WEIGHTED, magnitude=sensitivity
    ),
    "keep_rows": Case(
        _keep_rows, 0, EXACT, variants=({"position": 0, "labels": True}, {"position": 4, "labels": False})
    ),
}
