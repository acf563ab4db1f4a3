"""Sums in a fixed order, independent of the number of threads: first within each chunk, then over the chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.ops import Array, op


def chunk_length(n: int) -> int:
    """Return the chunk length for n elements: at least 1024, and long enough for at most 4096 chunks."""
    return max(1024, -(-n // 4096))


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {"n": arguments["x"].size, "rows": arguments["partials"].size}


@op(shapes="x: n; partials: chunks", writes=("partials",), sizes=_sizes)
def chunk_sums(x: Array, partials: Array, chunk: int) -> None:
    """partials_c = Σ x over chunk c, in float64"""
    partials[...] = np.add.reduceat(x.astype(np.float64), np.arange(0, x.size, chunk))


@op(
    shapes="partials: chunks; result: 1",
    writes=("result",),
    sizes=lambda arguments: {"rows": 1, "columns": arguments["partials"].size},
)
def total(partials: Array, result: Array) -> None:
    """result = Σ partials"""
    result[0] = partials.sum()
