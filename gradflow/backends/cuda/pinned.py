"""Staging on a GPU: page-locked buffers and a copy stream, so that uploads overlap the steps.

CUDA C++ Programming Guide, "Asynchronous Concurrent Execution": a copy from page-locked memory on one stream overlaps
kernels on another.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import cupy
import numpy as np

from gradflow.backends.staging import Staging, put
from gradflow.errors import BackendError


class PinnedStaging(Staging):
    """Uploads batches from a pinned buffer to a landing buffer on the copy stream, while steps read the previous ones.

    Before the next step, a batch is copied from there to its final place on the device. The host does not wait for
    this: streams wait for events, and only refilling a pinned buffer waits until it has been read.
    """

    def __init__(self, n_bytes: int, stream: cupy.cuda.Stream) -> None:
        try:
            memory = [cupy.cuda.alloc_pinned_memory(n_bytes) for _ in range(2)]
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(
                f"{2 * n_bytes:,} bytes of page-locked memory for batches cannot be had: {error}; "
                "a smaller batch_size needs less"
            ) from error
        self._pinned = [np.frombuffer(each, np.uint8, n_bytes) for each in memory]
        self._turns = cycle((0, 1))
        self._stream = stream
        self._copies = cupy.cuda.Stream(non_blocking=True)
        with stream:
            self.device = cupy.empty(n_bytes, np.uint8)
            self._landing = cupy.empty(n_bytes, np.uint8)
        self._brought = [cupy.cuda.Event(block=True, disable_timing=True) for _ in range(2)]
        self._moved_on = cupy.cuda.Event(disable_timing=True)
        self._moved_on.record(stream)

    def stage(self, starts: Sequence[int], arrays: Sequence[np.ndarray]) -> int:
        turn = next(self._turns)
        self._brought[turn].synchronize()
        put(starts, arrays, self._pinned[turn])
        return turn

    def bring(self, staged: int) -> None:
        pinned, landing = self._pinned[staged], self._landing
        self._copies.wait_event(self._moved_on)
        landing.data.copy_from_host_async(pinned.ctypes.data, pinned.nbytes, self._copies)
        self._brought[staged].record(self._copies)
        self._stream.wait_event(self._brought[staged])
        self.device.data.copy_from_device_async(landing.data, landing.nbytes, self._stream)
        self._moved_on.record(self._stream)
