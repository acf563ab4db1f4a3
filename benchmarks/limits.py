"""What this machine can do at best: copy memory, and multiply matrices in NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import numpy as np

__all__ = ["copy_rate", "product_rate", "square_matrices"]


@cache
def copy_rate(n_bytes: int) -> float:
    """The bytes a second that a copy reads and writes together, between arrays of half as many bytes."""
    source = np.ones(max(1, n_bytes // 2), np.uint8)
    return n_bytes / _seconds(partial(np.copyto, np.zeros_like(source), source))


@cache
def product_rate(dtype: str, width: int) -> float:
    """The operations a second of a product of square matrices."""
    a, b = square_matrices(dtype, width)
    return 2 * width**3 / _seconds(partial(np.matmul, a, b, out=np.empty_like(a)))


@cache
def square_matrices(dtype: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of positive numbers."""
    random = np.random.default_rng(0)
    return random.random((width, width)).astype(dtype), random.random((width, width)).astype(dtype)


def _seconds(run: Callable[[], object]) -> float:
    """The median time of a call over several runs, each of at least a millisecond where a call takes less."""
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
