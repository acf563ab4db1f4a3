"""Upload of batches from the host: the current batch is at a fixed place on the device, the next ones wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradflow.ops import Array


def array_in(buffer: Array, start: int, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Return the array that starts at byte ``start`` of a buffer of bytes."""
    return buffer[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def put(starts: Sequence[int], arrays: Sequence[np.ndarray], buffer: np.ndarray) -> None:
    """Copy arrays into a buffer of bytes, each at its start."""
    for start, array in zip(starts, arrays, strict=True):
        np.copyto(array_in(buffer, start, array.shape, array.dtype), array)


class UploadBuffer:
    """A buffer on the device that batches are uploaded to, one after the other; this one is on the CPU.

    Args:
        n_bytes: the size of the buffer.

    Attributes:
        device: uint8 (n_bytes,): the buffer that the ops of a step read.
    """

    def __init__(self, n_bytes: int) -> None:
        self.device: Array = np.empty(n_bytes, np.uint8)

    def prepare(self, starts: Sequence[int], arrays: Sequence[np.ndarray]) -> Any:
        """Prepare the upload of arrays to the given byte offsets of `device`; return a token for `upload`.

        May be called from another thread than `upload`, provided that at most one prepared batch is still pending.
        """
        return starts, arrays

    def upload(self, prepared: Any) -> None:
        """Upload a prepared batch to `device`, after all work enqueued so far and before any later work."""
        starts, arrays = prepared
        put(starts, arrays, self.device)
