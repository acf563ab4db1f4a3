"""The next batch: rows of the data in order, or in the order of a shuffle that needs no memory."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from gradflow.ops import EPOCH, POSITION, Array, op
from gradflow.random import SHUFFLE_STREAM, philox

__all__ = ["advance", "gather_batch", "gather_shuffled_batch", "shuffled_rows"]

_ROUNDS = 8


def shuffled_rows(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """The rows 0 .. n-1 in the order of one epoch, shape (n,).

    A Feistel network keyed by Philox permutes the smallest power of two that holds n, and what falls outside is sent
    through again until it falls inside: Mitchell, Stokes, Frank & Holmes (2021), "Bandwidth-optimal random shuffling
    for GPUs", section 3. kernels/shuffle.h names the variant.
    """
    keys = philox(_ROUNDS, seed=seed, stream=SHUFFLE_STREAM, step=epoch)
    bits = max(n - 1, 0).bit_length()
    low_bits = (bits + 1) // 2
    low_mask, high_mask = np.uint32(2**low_bits - 1), np.uint32(2 ** (bits - low_bits) - 1)

    def hashed(half: np.ndarray, key: np.uint32) -> np.ndarray:
        half = (half ^ key) * np.uint32(0x85EBCA6B)
        half = (half ^ (half >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        mixed: np.ndarray = half ^ (half >> np.uint32(16))
        return mixed

    def permuted(rows: np.ndarray) -> np.ndarray:
        low, high = (rows & low_mask).astype(np.uint32), (rows >> low_bits).astype(np.uint32)
        for high_key, low_key in keys.reshape(-1, 2):
            high = high ^ (hashed(low, high_key) & high_mask)
            low = low ^ (hashed(high, low_key) & low_mask)
        return high.astype(np.int64) << low_bits | low

    rows = permuted(np.arange(n, dtype=np.int64))
    while (outside := rows >= n).any():
        rows[outside] = permuted(rows[outside])
    return rows


@lru_cache(maxsize=1)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The same, kept for all batches of the epoch; to be read only."""
    return shuffled_rows(n, seed=seed, epoch=epoch)


def _words(array: Array) -> int:
    """How many 32-bit words a row holds."""
    return int(array.nbytes) // len(array) // 4


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {
        "rows": len(arguments["batch_x"]),
        "data_rows": len(arguments["x"]),
        "x_words": _words(arguments["x"]),
        "target_words": _words(arguments["targets"]),
    }


@op(writes=("batch_x", "batch_targets"), sizes=_sizes)
def gather_batch(x: Array, targets: Array, batch_x: Array, batch_targets: Array, clock: Array) -> None:
    """Row r of the batch is row position + r of the data, and likewise for the targets"""
    first = int(clock[POSITION])
    batch_x[...] = x[first : first + len(batch_x)]
    batch_targets[...] = targets[first : first + len(batch_x)]


@op(writes=("batch_x", "batch_targets"), sizes=_sizes)
def gather_shuffled_batch(
    x: Array, targets: Array, batch_x: Array, batch_targets: Array, clock: Array, seed: int
) -> None:
    """Row r of the batch is row position + r of the data as shuffled for (seed, epoch), and likewise for the targets"""
    first = int(clock[POSITION])
    rows = _order(len(x), seed, int(clock[EPOCH]))[first : first + len(batch_x)]
    batch_x[...] = x[rows]
    batch_targets[...] = targets[rows]


@op(writes=("clock",), sizes=lambda arguments: {})
def advance(clock: Array, batch_size: int, epoch_rows: int) -> None:
    """step += 1, position += batch_size; behind the last row of the epoch: position = 0, epoch += 1"""
    step, epoch, position, _ = clock
    ended = position + batch_size >= epoch_rows
    clock[:3] = step + 1, epoch + ended, 0 if ended else position + batch_size
