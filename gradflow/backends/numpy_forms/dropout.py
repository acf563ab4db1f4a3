"""Dropout, with its random words."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import EPOCH, POSITION, Array


@implements("dropout")
def _dropout(x: Array, y: Array, clock: Array, threshold: int, scale: float, seed: int, stream: int) -> BoundCall:
    words_of = _bind_philox(x.size, seed, stream)
    is_dropped = np.empty(x.shape, np.bool_)

    def run() -> None:
        batch = int(clock[EPOCH]) << 32 | int(clock[POSITION]) & 0xFFFFFFFF
        np.less(words_of(batch).reshape(x.shape), threshold, out=is_dropped)
        np.multiply(x, scale, out=y)
        np.putmask(y, is_dropped, 0)

    return run


def _bind_philox(n: int, seed: int, stream: int) -> Callable[[int], Array]:
    """From a step the first n words of `gradflow.random.philox`, in an array of its own."""
    blocks = -(-n // 4)
    words = np.empty((blocks, 4), np.uint32)
    block, counter = np.arange(blocks, dtype=np.uint64), np.empty((4, blocks), np.uint64)
    high = np.empty(blocks, np.uint64)
    low_word, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    keys = [((seed + i * 0x9E3779B9) & 0xFFFFFFFF, ((seed >> 32) + i * 0xBB67AE85) & 0xFFFFFFFF) for i in range(10)]

    def run(step: int) -> Array:
        word0, word1, word2, word3 = counter
        word0[:], word1[:], word2[:], word3[:] = block, stream, step & 0xFFFFFFFF, step >> 32
        for key0, key1 in keys:
            np.multiply(word0, np.uint64(0xD2511F53), out=word0)
            np.multiply(word2, np.uint64(0xCD9E8D57), out=word2)
            for product, word, key in ((word2, word1, key0), (word0, word3, key1)):
                np.bitwise_xor(word, np.uint64(key), out=word)
                np.bitwise_xor(word, np.right_shift(product, half, out=high), out=word)
                np.bitwise_and(product, low_word, out=product)
            word0, word1, word2, word3 = word1, word2, word3, word0
        for lane, word in enumerate((word0, word1, word2, word3)):
            words[:, lane] = word
        return words.reshape(-1)[:n]

    return run
