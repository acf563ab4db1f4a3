"""The limits of this machine, copying memory and GEMMs in NumPy, and the bytes that an op moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from gradflow.ops import Op


@cache
def copy_rate(n_bytes: int) -> float:
    """Return the bytes per second that a copy between arrays of half as many bytes reads and writes together."""
    source = np.ones(max(1, n_bytes // 2), np.uint8)
    return n_bytes / _seconds(partial(np.copyto, np.zeros_like(source), source))


@cache
def gemm_rate(dtype: str, width: int) -> float:
    """Return the operations per second of a GEMM of square matrices."""
    a, b = square_matrices(dtype, width)
    return 2 * width**3 / _seconds(partial(np.matmul, a, b, out=np.empty_like(a)))


@cache
def square_matrices(dtype: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two matrices of positive numbers."""
    random = np.random.default_rng(0)
    return random.random((width, width)).astype(dtype), random.random((width, width)).astype(dtype)


def bytes_moved(op: Op, arguments: dict[str, Any]) -> int:
    """Return the minimum bytes that an op must move: each array once, or twice if an optimizer reads and writes it."""
    sizes = {name: value.nbytes for name, value in arguments.items() if isinstance(value, np.ndarray)}
    updated = op.writes if "parameters" in op.writes else ()
    return sum(sizes.values()) + sum(sizes[name] for name in updated)


def _seconds(run: Callable[[], object]) -> float:
    """Return the median time of a call, repeating short calls so that each measurement takes at least a millisecond."""
    run()
    began = time.perf_counter()
    run()
    calls = max(1, int(1e-3 / (time.perf_counter() - began)))
    measured = []
    for _ in range(9):
        began = time.perf_counter()
        for _ in range(calls):
            run()
        measured.append((time.perf_counter() - began) / calls)
    return float(np.median(measured))
