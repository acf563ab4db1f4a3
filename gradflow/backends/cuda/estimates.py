"""Estimates of the time that the programs of a pack take on a GPU, in each of the ways in which they can run.

They are computed from what an H100 can do, not measured. A multiprocessor adds and multiplies 128 pairs of numbers in
each of 1.7e9 cycles in a second, a quarter of it with the tiles of block_gemm.h, and half of it with NVIDIA's. In a
thread block a kernel waits for memory once or twice; a kernel of a graph takes 2 us at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gradflow.backends.cuda.block_programs import REALS, element_types
from gradflow.backends.fusion import Call, fuse_bias_and_activation
from gradflow.backends.kernel_sources import block_kernels

Way = Literal["block", "merged", "alone"]

_IN_A_BLOCK = 1.5e-6  # seconds of a kernel in a block program
_IN_A_GRAPH = 2e-6
_OUR_RATE = 1e11  # operations in a second of a multiprocessor
_NVIDIAS_RATE = 2e11
_TILE = 64  # rows and columns of the results that a multiprocessor computes at a time


def fastest_way(calls: Sequence[Call], members: int, alike: int, processors: int) -> Way:
    """Return the way to run a program of a member of a pack that is probably the fastest.

    The ways are: "block", in a thread block of its own, next to the others; "merged" with those of the same shape into
    one program; "alone", one after the other. A thread block needs neither launches nor members that are alike, so
    merging must be clearly faster.

    Args:
        calls: the program.
        members: the number of members that train.
        alike: the number of those with programs of the same shape.
        processors: the number of multiprocessors.
    """
    fused = fuse_bias_and_activation(list(calls), block_kernels())
    if not all(op.name in block_kernels() for op, _ in fused) or not element_types([fused]) <= REALS:
        return "alone"
    work = [_work(call) for call in fused]
    at_a_time = min(members, processors)
    block = sum(_IN_A_BLOCK + operations / _OUR_RATE for operations, _ in work) / at_a_time
    alone = sum(_IN_A_GRAPH + operations / _NVIDIAS_RATE / min(tiles, processors) for operations, tiles in work)
    merged = sum(
        _IN_A_GRAPH / alike + operations / _OUR_RATE / min(alike * tiles, processors) for operations, tiles in work
    )
    if merged < min(0.7 * block, alone):
        return "merged"
    return "block" if block < alone else "alone"


def _work(call: Call) -> tuple[float, float]:
    """Return the approximate number of arithmetic operations in a call, and of the tiles that share them out."""
    op, arguments = call
    if op.name == "gemm":
        sizes = op.sizes(arguments)
        tiles = -(-sizes["rows"] // _TILE) * -(-sizes["columns"] // _TILE)
        return 2.0 * sizes["rows"] * sizes["columns"] * sizes["depth"], max(tiles, 1)
    results = sum(array.size for name, array in arguments.items() if name in op.writes and array is not None)
    return 2.0 * results, max(results / _TILE**2, 1)
