"""Translation of CUDA errors into gradflow errors that say whether the process survives them, and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cupy

from gradflow.backends.availability import FORKED
from gradflow.errors import BackendError, DeviceLostError, GradflowError

_LEAST_RESERVE = 256 << 20
"""Bytes: cuBLASLt's kernels, local memory and the graphs of a fit take 50 to 400 MB, the more the larger the GPU."""
_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY
_INITIALIZATION = 3  # cudaErrorInitializationError
_LASTING = frozenset({214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719})
"""Errors after which a process can no longer use the device, from uncorrectable memory to a failed launch."""
_PROCESS = os.getpid()


@contextmanager
def explained(stream: cupy.cuda.Stream) -> Iterator[None]:
    """Context manager that turns CUDA errors (out of memory, a lost device, a forked process) into gradflow errors.

    Args:
        stream: the stream of the work; it tells whether its device is lost, without disturbing other threads.

    Raises:
        BackendError: if device memory ran out, and the device and its contents remain usable; or in a forked process.
        DeviceLostError: after an error that CUDA cannot recover from.
    """
    try:
        yield
    except GradflowError:
        raise
    except Exception as error:
        if os.getpid() != _PROCESS or _status(error) == _INITIALIZATION:
            raise BackendError(f"the GPU cannot be used here: {FORKED}") from error
        if cause := _lasting_error(error, stream):
            raise DeviceLostError(
                f"the GPU stopped with an error that CUDA cannot recover from ({cause}): the CUDA context is lost, "
                "with everything that this process had on the GPU. Restart the process"
            ) from error
        if _status(error) == _OUT_OF_MEMORY or isinstance(error, cupy.cuda.memory.OutOfMemoryError):
            with cupy.cuda.Device(stream.device_id):
                free = free_memory()
            raise BackendError(
                f"GPU memory ran out, with {free:,} bytes free: {str(error).rstrip('.')}. The GPU and its "
                "contents remain usable. Pass a smaller batch_size or less data, delete other arrays on the GPU, or "
                "end other processes that use it"
            ) from error
        raise


def free_memory(*, with_reserve: bool = False) -> int:
    """Return the bytes available for new arrays: free on the device or in CuPy's pool, up to the pool's limit.

    If ``with_reserve``, leave out what CUDA may still allocate for itself, as it loads kernels and creates graphs, and
    what may be lost in gaps of the pool.
    """
    pool = cupy.get_default_memory_pool()
    on_device, total = (int(n_bytes) for n_bytes in cupy.cuda.runtime.memGetInfo())
    reserve = max(_LEAST_RESERVE, total // 50) if with_reserve else 0
    free = max(on_device - reserve, 0) + int(pool.free_bytes())
    limit = int(pool.get_limit())
    return min(free, limit - int(pool.used_bytes())) if limit else free


def _status(error: Exception) -> int | None:
    kinds = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
    return error.status if isinstance(error, kinds) else None


def _lasting_error(error: Exception, stream: cupy.cuda.Stream) -> Exception | None:
    """Return the error that lost the context: this one, or what its stream reports; None while it is usable.

    Waiting for the device instead would fail, and end the capture, while another thread captures a graph.
    """
    if _status(error) in _LASTING:
        return error
    status = cupy.cuda.runtime.streamQuery(stream.ptr)
    return cupy.cuda.runtime.CUDARuntimeError(status) if status in _LASTING else None
