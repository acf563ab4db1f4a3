"""How batches that are made on the host reach the steps: they lie in one place on the device, the next ones wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradflow.ops import Array

__all__ = ["Staging", "array_in", "put"]


def array_in(buffer: Array, start: int, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """The array that begins at a byte of a buffer of bytes."""
    return buffer[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def put(starts: Sequence[int], arrays: Sequence[np.ndarray], buffer: np.ndarray) -> None:
    """Copy arrays into a buffer of bytes, each to where it starts there."""
    for start, array in zip(starts, arrays, strict=True):
        np.copyto(array_in(buffer, start, array.shape, array.dtype), array)


class Staging:
    """The place on the CPU.

    Args:
        n_bytes: how large it is.

    Attributes:
        device: uint8 (n_bytes,): what the ops of a step read.
    """

    def __init__(self, n_bytes: int) -> None:
        self.device: Array = np.empty(n_bytes, np.uint8)

    def stage(self, starts: Sequence[int], arrays: Sequence[np.ndarray]) -> Any:
        """What `bring` takes, of arrays that shall lie at these bytes of the place.

        Another thread than that which brings may call this, when all that was staged but the last has been brought.
        """
        return starts, arrays

    def bring(self, staged: Any) -> None:
        """Put what was staged into the place, behind the work so far and ahead of all that comes."""
        starts, arrays = staged
        put(starts, arrays, self.device)
