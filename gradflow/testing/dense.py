"""Cases of matmuls, biases, sums and copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import COLUMN_SUMS, EXACT, NO_ROWS, Case
from gradflow.testing.draw import Draw
from gradflow.testing.sensitivity import sensitivity

CHUNKS = ({"chunk": 1024}, {"chunk": 16})


def _copy(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    return {"x": x, "y": draw.like(x)}


def _gemm(draw: Draw, *, transpose_a: bool, transpose_b: bool) -> dict[str, Any]:
    rows, columns, inner = draw.rows, draw.columns, 9
    a = draw.reals(*((inner, rows) if transpose_a else (rows, inner)), room=4 * inner, power=2)
    b = draw.reals(*((columns, inner) if transpose_b else (inner, columns)), power=2)
    return {
        "a": a,
        "b": b,
        "out": draw.blank(rows, columns),
        "transpose_a": transpose_a,
        "transpose_b": transpose_b,
    }


def _add_bias(draw: Draw) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns, room=4)
    return {"x": x, "bias": draw.reals(draw.columns, room=4), "y": draw.like(x)}


def _add(draw: Draw) -> dict[str, Any]:
    x, y = (draw.reals(draw.rows, draw.columns, room=4) for _ in range(2))
    return {"x": x, "y": y, "out": draw.like(x)}


def _column_sum(draw: Draw) -> dict[str, Any]:
    return {"x": draw.reals(draw.rows, draw.columns, room=4 * draw.rows + 1), "sums": draw.blank(draw.columns)}


def _chunk_sums(draw: Draw, *, chunk: int) -> dict[str, Any]:
    return {"x": draw.reals(draw.n, room=4 * draw.n + 1), "partials": blank_chunks(draw, chunk), "chunk": chunk}


def blank_chunks(draw: Draw, chunk: int) -> Array:
    return draw.blank(-(-draw.n // chunk), dtype=np.float64)


def _total(draw: Draw) -> dict[str, Any]:
    partials = draw.reals(draw.n, room=4 * draw.n + 1).astype(np.float64)
    return {"partials": partials, "result": draw.blank(1, dtype=np.float64)}


CASES: dict[str, Case] = {
    "copy": Case(_copy, 0, EXACT),
    "clear": Case(lambda draw: {"y": draw.blank(draw.rows, draw.columns)}, 0, EXACT),
    "gemm": Case(
        _gemm,
        9,
        "sums of 9 products, in any order",
        variants=tuple({"transpose_a": a, "transpose_b": b} for a in (False, True) for b in (False, True)),
        magnitude=sensitivity,
        without={"empty": NO_ROWS},
    ),
    "add_bias": Case(_add_bias, 0, EXACT),
    "add": Case(_add, 0, EXACT),
    "column_sum": Case(
        _column_sum,
        32,
        COLUMN_SUMS,
        magnitude=sensitivity,
    ),
    "chunk_sums": Case(_chunk_sums, 32, "float64 sums in any order", variants=CHUNKS, magnitude=sensitivity),
    "total": Case(
        _total,
        32,
        "float64 sums in any order",
        magnitude=sensitivity,
    ),
}
