"""Upload to a GPU: page-locked buffers and a copy stream, so that uploads overlap the steps.

CUDA C++ Programming Guide, "Asynchronous Concurrent Execution": a copy from page-locked memory on one stream overlaps
kernels on another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, cycle

import cupy
import numpy as np

from gradflow.backends.cuda.errors import explained
from gradflow.backends.reference import Looks
from gradflow.backends.upload import UploadBuffer, put
from gradflow.errors import BackendError
from gradflow.ops import Array

_LOOKS = 3
"""Looks in flight: enough that the GPU has work while the host handles one, few enough to act within a moment."""


class PinnedUploadBuffer(UploadBuffer):
    """Uploads batches from a pinned buffer to a landing buffer on the copy stream, while steps read the previous ones.

    Before the next step, a batch is copied from there to its final place on the device. The host does not wait for
    this: streams wait for events, and only refilling a pinned buffer waits until it has been read.
    """

    def __init__(self, n_bytes: int, stream: cupy.cuda.Stream) -> None:
        try:
            memory = [cupy.cuda.alloc_pinned_memory(n_bytes) for _ in range(2)]
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(
                f"{2 * n_bytes:,} bytes of page-locked memory for batches could not be allocated: {error}; "
                "a smaller batch_size needs less"
            ) from error
        self._pinned = [np.frombuffer(each, np.uint8, n_bytes) for each in memory]
        self._turns = cycle((0, 1))
        self._stream = stream
        self._copies = cupy.cuda.Stream(non_blocking=True)
        with stream:
            self.device = cupy.empty(n_bytes, np.uint8)
            self._landing = cupy.empty(n_bytes, np.uint8)
        self._uploaded = [cupy.cuda.Event(block=True, disable_timing=True) for _ in range(2)]
        self._landing_is_free = cupy.cuda.Event(disable_timing=True)
        self._landing_is_free.record(stream)

    def prepare(self, starts: Sequence[int], arrays: Sequence[np.ndarray]) -> int:
        turn = next(self._turns)
        self._uploaded[turn].synchronize()
        put(starts, arrays, self._pinned[turn])
        return turn

    def upload(self, prepared: int) -> None:
        pinned, landing = self._pinned[prepared], self._landing
        self._copies.wait_event(self._landing_is_free)
        landing.data.copy_from_host_async(pinned.ctypes.data, pinned.nbytes, self._copies)
        self._uploaded[prepared].record(self._copies)
        self._stream.wait_event(self._uploaded[prepared])
        self.device.data.copy_from_device_async(landing.data, landing.nbytes, self._stream)
        self._landing_is_free.record(self._stream)


class PinnedLooks(Looks):
    """Copies an array to pinned memory, in stream order, with an event for each copy.

    Args:
        array: the array.
        stream: the stream.
        wait: waits for an event.
    """

    def __init__(self, array: Array, stream: cupy.cuda.Stream, wait: Callable[[cupy.cuda.Event], None]) -> None:
        super().__init__(array)
        self._stream = stream
        self._wait = wait
        memory = [cupy.cuda.alloc_pinned_memory(array.nbytes) for _ in range(_LOOKS)]
        self._landings = [np.frombuffer(each, array.dtype, array.size) for each in memory]
        self._arrived = [cupy.cuda.Event(block=True, disable_timing=True) for _ in range(_LOOKS)]
        self._numbers = count()

    def take(self) -> np.ndarray | None:
        number = next(self._numbers)
        landing, arrived, earlier = self._landings[number % _LOOKS], self._arrived[number % _LOOKS], None
        with explained(self._stream):
            if number >= _LOOKS:
                self._wait(arrived)
                earlier = landing.copy()
            self._array.data.copy_to_host_async(landing.ctypes.data, landing.nbytes, self._stream)
            arrived.record(self._stream)
        return earlier
