"""Cases of ensembles whose members share weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import COLUMN_SUMS, EXACT, LIBRARY, LOSS_SUMS, NO_ROWS, Case
from gradflow.testing.draw import Draw, clock
from gradflow.testing.sensitivity import sensitivity

MEMBERS = ({"members": 1}, {"members": 3})
HEADS = ({"members": 1, "outputs": 3}, {"members": 3, "outputs": 1}, {"members": 3, "outputs": 2})


def _scale(draw: Draw, *, members: int) -> dict[str, Any]:
    columns = members * draw.columns
    return {
        "x": draw.reals(draw.rows, draw.columns, power=2),
        "scale": draw.reals(columns, power=2),
        "y": draw.blank(draw.rows, columns),
    }


def _sum(draw: Draw, *, members: int) -> dict[str, Any]:
    columns = members * draw.columns
    return {
        "x": draw.reals(draw.rows, columns, room=8 * members, power=2),
        "scale": draw.reals(columns, power=2),
        "y": draw.blank(draw.rows, draw.columns),
    }


def _scale_gradient(draw: Draw, *, members: int) -> dict[str, Any]:
    room = 4 * draw.rows + 1
    return {
        "x": draw.reals(draw.rows, draw.columns, room=room, power=2),
        "d_y": draw.reals(draw.rows, members * draw.columns, power=2),
        "d_scale": draw.blank(members * draw.columns),
    }


def _gemm(draw: Draw, *, members: int, outputs: int) -> dict[str, Any]:
    return {
        "x": draw.reals(draw.rows * members, draw.columns, room=4 * draw.columns + 1, power=2),
        "weight": draw.reals(members, outputs, draw.columns, power=2),
        "y": draw.blank(draw.rows * members, outputs),
    }


def _gemm_input_gradient(draw: Draw, *, members: int, outputs: int) -> dict[str, Any]:
    return {
        "d_y": draw.reals(draw.rows * members, outputs, room=4 * outputs, power=2),
        "weight": draw.reals(members, outputs, draw.columns, power=2),
        "d_x": draw.blank(draw.rows * members, draw.columns),
    }


def _gemm_weight_gradient(draw: Draw, *, members: int, outputs: int) -> dict[str, Any]:
    return {
        "x": draw.reals(draw.rows, members * draw.columns, room=4 * draw.rows + 1, power=2),
        "d_y": draw.reals(draw.rows, members * outputs, power=2),
        "d_weight": draw.blank(members, outputs, draw.columns),
    }


def _logits(draw: Draw, *, members: int) -> dict[str, Any]:
    return {"x": 4 * draw.reals(draw.rows, members * draw.columns, room=64), "y": draw.blank(draw.rows, draw.columns)}


def _repeat_rows(draw: Draw, *, members: int, labels: bool) -> dict[str, Any]:
    x: Array = np.arange(draw.rows, dtype=np.int32) if labels else draw.reals(draw.rows, draw.columns)
    return {"x": x, "repeated": draw.blank(draw.rows, members, *x.shape[1:], dtype=x.dtype)}


def _mean_losses(draw: Draw, *, members: int) -> dict[str, Any]:
    return {
        "losses": draw.reals(draw.rows, members, room=4 * members),
        "row_losses": draw.blank(draw.rows + 7),
        "clock": clock(position=4),
    }


CASES: dict[str, Case] = {
    "scale_members": Case(_scale, 0, EXACT, variants=MEMBERS),
    "sum_members": Case(_sum, 2, "float64 sums in any order", variants=MEMBERS, magnitude=sensitivity),
    "scale_members_gradient": Case(_scale_gradient, 32, COLUMN_SUMS, variants=MEMBERS, magnitude=sensitivity),
    "member_gemm": Case(_gemm, 12, "sums of products, in any order", variants=HEADS, magnitude=sensitivity),
    "member_gemm_input_gradient": Case(
        _gemm_input_gradient, 4, "sums of few products, in any order", variants=HEADS, magnitude=sensitivity
    ),
    "member_gemm_weight_gradient": Case(
        _gemm_weight_gradient, 32, "sums of products, in any order", variants=HEADS, magnitude=sensitivity
    ),
    "mean_class_logits": Case(
        _logits,
        20,
        f"exp, log, log1p: {LIBRARY}; {LOSS_SUMS}",
        variants=MEMBERS,
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "mean_binary_logits": Case(_logits, 20, f"log1p, logaddexp: {LIBRARY}", variants=MEMBERS, magnitude=sensitivity),
    "repeat_rows": Case(
        _repeat_rows, 0, EXACT, variants=({"members": 3, "labels": True}, {"members": 3, "labels": False})
    ),
    "mean_member_losses": Case(
        _mean_losses, 2, "float64 sums in any order", variants=({"members": 1}, {"members": 5}), magnitude=sensitivity
    ),
}
