"""Cases of the layer statistics that a measured step collects."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.ops import Array
from gradflow.testing.case import EXACT, NO_ROWS, Case
from gradflow.testing.dense import CHUNKS
from gradflow.testing.draw import Draw

_LAYERS = 6


def _ranges(n: int, parts: int) -> Array:
    """Divide n positions into ``parts`` adjacent ranges, given by their ends: int64 (parts, 2)."""
    ends = np.linspace(0, n, parts + 1).astype(np.int64)
    return np.ascontiguousarray(np.stack([ends[:-1], ends[1:]], axis=1))


def _chunk_changes(draw: Draw, *, chunk: int) -> dict[str, Any]:
    vectors = {
        name: draw.reals(draw.n, room=64 * draw.n + 64, power=2) for name in ("before", "parameters", "gradients")
    }
    # As in a network, the chunks of a layer need not be adjacent.
    chunks = _ranges(draw.n, -(-draw.n // chunk))[::-1].copy()
    return {**vectors, "chunks": chunks, "partials": draw.blank(len(chunks), 3, dtype=np.float64)}


def _layer_changes(draw: Draw) -> dict[str, Any]:
    partials = abs(draw.reals(4 * _LAYERS, 3, room=64).astype(np.float64))
    partials[4:8, 1] = 0  # a layer that the step did not change
    partials[8:12, 2] = 0  # one whose weights were all 0
    return {
        "partials": partials,
        "layers": _ranges(len(partials), _LAYERS),
        "gradient_norms": draw.blank(_LAYERS, dtype=np.float64),
        "update_ratios": draw.blank(_LAYERS, dtype=np.float64),
    }


def _outputs(draw: Draw) -> Array:
    """Return outputs with some columns that are never above 0."""
    y = draw.reals(draw.rows, draw.columns)
    y[:, ::3] = -abs(y[:, ::3])
    return y


def _mark_dead_units(draw: Draw) -> dict[str, Any]:
    return {"y": _outputs(draw), "units": draw.blank(draw.columns, dtype=np.float64)}


def _saturated_shares(draw: Draw) -> dict[str, Any]:
    y = draw.between(-1, 1, draw.rows, draw.columns)
    return {"y": y, "units": draw.blank(draw.columns, dtype=np.float64), "low": -0.9, "high": 0.3}


def _layer_means(draw: Draw) -> dict[str, Any]:
    return {
        "units": draw.between(0, 1, draw.rows + _LAYERS).astype(np.float64),
        "layers": _ranges(draw.rows + _LAYERS, _LAYERS),
        "means": draw.blank(_LAYERS, dtype=np.float64),
    }


CASES: dict[str, Case] = {
    "chunk_changes": Case(
        _chunk_changes,
        32,
        "float64 sums in any order",
        variants=CHUNKS,
    ),
    "layer_changes": Case(_layer_changes, 32, "float64 sums in any order, two roots and a quotient"),
    "mark_dead_units": Case(_mark_dead_units, 0, EXACT),
    "saturated_shares": Case(_saturated_shares, 0, "counts, and one division", without={"empty": NO_ROWS}),
    "layer_means": Case(_layer_means, 32, "float64 sums in any order"),
}
