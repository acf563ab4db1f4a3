"""Counting of the device memory of programs without allocating any."""

from __future__ import annotations

import math
from typing import Any

import cupy
import numpy as np

from gradflow.backends.cuda.epilogues import grouped, n_sign_bytes
from gradflow.backends.cuda.graphs import DeviceCall
from gradflow.backends.fusion import Call, fuse_bias_and_activation
from gradflow.backends.kernel_sources import kernels
from gradflow.backends.reference import BoundCall, MemoryPlan, Replay
from gradflow.backends.upload import UploadBuffer
from gradflow.ops import Array

_UNIT = 512
"""Bytes: CuPy's pool rounds array sizes up to a multiple of this."""


class CupyMemoryPlan(MemoryPlan):
    """Records programs as on the GPU, but runs nothing.

    Args:
        free: the bytes of device memory available for new arrays.
        ordinal: the number of the device.
    """

    name = "cupy"

    def __init__(self, free: int, ordinal: int) -> None:
        super().__init__(free)
        self._ordinal = ordinal

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        n_bytes = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
        nowhere = cupy.cuda.UnownedMemory(_UNIT, n_bytes, owner=_Reservation(self, n_bytes), device_id=self._ordinal)
        return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(nowhere, 0))

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        return self.empty(shape, dtype)

    def from_host(self, array: np.ndarray) -> Array:
        return self.empty(array.shape, array.dtype)

    def adopt(self, array: Array) -> Array:
        is_usable = self.owns(array) and array.flags.c_contiguous
        return array if is_usable else self.empty(array.shape, array.dtype)

    def owns(self, array: object) -> bool:
        return isinstance(array, cupy.ndarray) and array.data.device_id == self._ordinal

    def copy(self, source: Array, target: Array) -> None:
        pass

    def upload_buffer(self, n_bytes: int) -> UploadBuffer:
        return _DeviceBuffer(self.empty(n_bytes, np.uint8), landing=self.empty(n_bytes, np.uint8))

    def bind_all(self, calls: list[Call]) -> list[BoundCall]:
        """Return calls that keep alive their arrays, and the signs that matmuls save for the backward pass."""
        groups = grouped(fuse_bias_and_activation(calls, kernels("cuda")))
        keeping = [group.out.shape for group in groups if group.epilogue and "RELU_AUX" in group.epilogue]
        signs = [self.empty(n_sign_bytes(*shape), np.uint8) for shape in keeping]
        return [*super().bind_all(calls), DeviceCall(lambda: signs)]

    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        return lambda times: None


class _DeviceBuffer(UploadBuffer):
    """The device memory of an upload buffer on a GPU."""

    def __init__(self, device: Array, landing: Array) -> None:
        super().__init__(0)
        self.device = device
        self._landing = landing


class _Reservation:
    """Counts the bytes of an array for as long as it or a view of it exists."""

    def __init__(self, plan: MemoryPlan, n_bytes: int) -> None:
        self._plan = plan
        self._n_bytes = -(-n_bytes // _UNIT) * _UNIT
        plan.n_bytes += self._n_bytes

    def __del__(self) -> None:
        self._plan.n_bytes -= self._n_bytes
