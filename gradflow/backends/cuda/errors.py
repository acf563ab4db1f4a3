"""Translation of CUDA errors into gradflow errors that say whether the process survives them, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cupy

from gradflow.errors import BackendError, DeviceLostError, GradflowError

_LEAST_RESERVE = 256 << 20
"""Bytes: cuBLASLt's kernels, local memory and the graphs of a fit take 50 to 400 MB, the more the larger the GPU."""
_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY


@contextmanager
def explained() -> Iterator[None]:
    """Context manager or decorator that turns errors about exhausted memory and a lost device into gradflow errors.

    Raises:
        BackendError: if device memory ran out; the device and its contents remain usable.
        DeviceLostError: after an error that CUDA cannot recover from.
    """
    try:
        yield
    except GradflowError:
        raise
    except Exception as error:
        if cause := _lasting_error():
            raise DeviceLostError(
                f"the GPU stopped with an error that CUDA cannot recover from ({cause}): the CUDA context is lost, "
                "with everything that this process had on the GPU. Restart the process"
            ) from error
        if _is_out_of_memory(error):
            raise BackendError(
                f"GPU memory ran out, with {free_memory():,} bytes free: {str(error).rstrip('.')}. The GPU and its "
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


def _lasting_error() -> Exception | None:
    """Return the error that every CUDA call raises once the context is lost; None while it is usable."""
    error: Exception | None = None
    for _ in range(2):  # an error of earlier work is raised once; one that lost the context is raised again
        try:
            cupy.cuda.runtime.deviceSynchronize()
            return None
        except cupy.cuda.runtime.CUDARuntimeError as found:
            error = found
    return error


def _is_out_of_memory(error: Exception) -> bool:
    kinds = (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)
    is_of_cuda = isinstance(error, kinds) and error.status == _OUT_OF_MEMORY
    return is_of_cuda or isinstance(error, cupy.cuda.memory.OutOfMemoryError)
