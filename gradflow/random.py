"""Random numbers that are the same on every backend: Philox4x32-10, a counter-based generator.

Each word depends only on (seed, stream, step, index), so there is no generator state to maintain, and any part of a
sequence can be generated anywhere. Philox: Salmon, Moraes, Dror, Shaw (2011), "Parallel random numbers: as easy as 1,
2, 3", section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

# Streams separate the uses of one seed. The parameter's number is added to the first, and the layer's index to the
# second.
WEIGHT_STREAM, DROPOUT_STREAM, SHUFFLE_STREAM, SAMPLE_STREAM = 0x01000000, 0x02000000, 0x03000000, 0x04000000
NOISE_STREAM = 0x05000000

_LOW_WORD = np.uint64(0xFFFFFFFF)
_NUMBERS_AT_ONCE = 1 << 14


def philox(n: int, *, seed: int, stream: int, step: int = 0, first: int = 0) -> np.ndarray:
    """Return n words of a stream, starting at ``first``, as uint32 (n,); ``seed`` and ``step`` are 64-bit integers."""
    skipped = first % 4
    counter = np.zeros((4, -(-(skipped + n) // 4)), np.uint64)
    counter[0] = np.arange(counter.shape[1]) + first // 4
    counter[1] = stream
    counter[2] = step & 0xFFFFFFFF
    counter[3] = step >> 32
    return _philox_rounds(counter, seed).T.ravel()[skipped : skipped + n].astype(np.uint32)


def _philox_rounds(counter: np.ndarray, seed: int) -> np.ndarray:
    """Return four words for each column of counters (4, blocks), each a 32-bit number in a uint64."""
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * counter[0]
        product1 = np.uint64(0xCD9E8D57) * counter[2]
        counter = np.stack(
            [
                (product1 >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]),
                product1 & _LOW_WORD,
                (product0 >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]),
                product0 & _LOW_WORD,
            ]
        )
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


@lru_cache(maxsize=1)
def shuffled_rows(n: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the rows 0 .. n-1 in the order of one epoch, shape (n,), read-only; cached for the epoch's batches."""
    rows = shuffle(np.arange(n, dtype=np.int64), n, seed=seed, epoch=epoch)
    rows.flags.writeable = False
    return rows


def shuffle(places: np.ndarray, n: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return which of the rows 0 .. n-1 are at these places of an epoch's order, as int64 of the shape (places,).

    A Feistel network keyed by Philox permutes the range up to the smallest power of two that is at least n; results
    outside 0 .. n-1 are permuted again until they fall inside: Mitchell, Stokes, Frank & Holmes (2021),
    "Bandwidth-optimal random shuffling for GPUs", section 3. kernels/shuffle.h names the variant.
    """
    bits = max(n - 1, 0).bit_length()
    keys = philox(24 if bits <= 7 else 8, seed=seed, stream=SHUFFLE_STREAM, step=epoch)
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

    rows = permuted(places)
    while (outside := rows >= n).any():
        rows[outside] = permuted(rows[outside])
    return rows


class RandomNumbers:
    """Random number source of an initializer: one stream of one seed, in float64 on the host."""

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream = seed, stream

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
        """Draw numbers uniformly from [low, high)."""
        return self._in_parts(shape, lambda n, first, size: low + (high - low) * self._fractions(n, first))

    def normal(self, std: float, shape: tuple[int, ...]) -> np.ndarray:
        """Draw normal numbers with mean 0 and this standard deviation, by the transform of Box & Muller (1958)."""

        def numbers(n: int, first: int, size: int) -> np.ndarray:
            radius, angle = self._fractions(n, first), self._fractions(n, size + first)
            made: np.ndarray = std * np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)
            return made

        return self._in_parts(shape, numbers)

    def _fractions(self, n: int, first: int) -> np.ndarray:
        """Return n numbers in [0, 1), starting at index ``first``: word 2^-32, without its last eight bits."""
        words = philox(n, seed=self._seed, stream=self._stream, first=first)
        fractions: np.ndarray = (words >> 8).astype(np.float64) * 2.0**-24
        return fractions

    def _in_parts(self, shape: tuple[int, ...], numbers: Callable[[int, int, int], np.ndarray]) -> np.ndarray:
        """Fill `shape` with ``numbers(n, first, size)`` in chunks, since these need several times the memory."""
        out = np.empty(math.prod(shape))
        for first in range(0, out.size, _NUMBERS_AT_ONCE):
            part = out[first : first + _NUMBERS_AT_ONCE]
            part[:] = numbers(part.size, first, out.size)
        return out.reshape(shape)
