"""Cases of embeddings of categories."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.testing.case import EXACT, Case
from gradflow.testing.draw import Draw

TABLES = ({"categories": 1}, {"categories": 3}, {"categories": 700})


def _leading_columns(draw: Draw, *, more: int) -> dict[str, Any]:
    x, y_columns = draw.reals(draw.rows, draw.columns), max(draw.columns + more, 1)
    return {"x": x, "y": draw.blank(draw.rows, y_columns), "count": min(draw.columns, y_columns) // 2}


def _embed_column(draw: Draw, *, categories: int, keeps: bool) -> dict[str, Any]:
    x = draw.reals(draw.rows, draw.columns)
    column = draw.columns // 2
    # Most are numbers of the table; the first values, which draw.reals has chosen, need not be.
    x[2:, column] = draw.random.integers(0, categories, max(draw.rows - 2, 0))
    return {
        "x": x,
        "table": draw.reals(categories, 5),
        "numbers": draw.blank(draw.rows, dtype=np.int32) if keeps else None,
        "y": draw.blank(draw.rows, 8),
        "column": column,
        "first": 2,
    }


def _embed_column_gradient(draw: Draw, *, categories: int) -> dict[str, Any]:
    size = max(draw.columns - 2, 1)
    return {
        "numbers": draw.random.integers(0, categories, draw.rows).astype(np.int32),
        "d_y": draw.reals(draw.rows, draw.columns, room=4 * draw.rows + 1),
        "d_table": draw.reals(categories, size, room=4),
        "first": draw.columns - size,
    }


CASES: dict[str, Case] = {
    "leading_columns": Case(_leading_columns, 0, EXACT, variants=({"more": 3}, {"more": -3})),
    "embed_column": Case(
        _embed_column,
        0,
        EXACT,
        variants=({"categories": 3, "keeps": False}, *({**table, "keeps": True} for table in TABLES)),
    ),
    "embed_column_gradient": Case(_embed_column_gradient, 0, "float64 sums in the order of the rows", variants=TABLES),
}
