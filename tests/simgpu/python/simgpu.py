"""Access the simulated device from a test.

    import simgpu
    simgpu.reset()
    step()
    s = simgpu.stats()
    assert s['h2d']['count'] == 0 and s['mallocs'] == 0

Can only be imported under `simgpu/run` (elsewhere: ImportError).
"""

import ctypes
import json
import os

if "SIMGPU_HOME" not in os.environ:
    raise ImportError("simgpu: not running under simgpu/run")
_lib = ctypes.CDLL(os.path.join(os.environ["SIMGPU_HOME"], "libsimgpu.so"))
_lib.simgpu_stats.restype = ctypes.c_char_p
_lib.simgpu_check.restype = ctypes.c_long
_lib.simgpu_failures.restype = ctypes.c_long
_lib.simgpu_cublaslt_objects.restype = ctypes.c_long
for _f in (_lib.simgpu_peek, _lib.simgpu_poke):
    _f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def stats():
    """Return the counts since the start or the last reset(), as a dict."""
    return json.loads(_lib.simgpu_stats().decode())


def reset():
    """Set the counts to zero."""
    _lib.simgpu_reset()


def check():
    """Run the queued work and check the guard zones of all live allocations; return the number of damaged ones (each is
    also reported on stderr)."""
    return _lib.simgpu_check()


def clear_errors():
    """Forget memory errors and a sticky device fault (a real device cannot)."""
    _lib.simgpu_clear_errors()


def fail(**kinds):
    """Make the n-th event of a kind from now fail: `fail(malloc=3)`; with -n, all from the n-th on; with 0, none.
    (CuPy's pool retries a failed allocation: use -n.)

    malloc: device allocation (out of memory); host: pinned allocation; launch: kernel or cuBLAS call that runs, in a
    graph too (launch failure, sticky); copy: asynchronous copy (unknown error); capture: begin of a capture; captured:
    work in a capture (spoils it); graph: instantiation of a graph.
    """
    for kind, n in kinds.items():
        if _lib.simgpu_fail(kind.encode(), ctypes.c_long(n)):
            raise ValueError(f"unknown kind of failure: {kind}")


def failures():
    """Return how many of the requested failures have happened since the last clear()."""
    return _lib.simgpu_failures()


def cublaslt_objects():
    """Return how many descriptors, layouts and preferences of cuBLASLt exist."""
    return _lib.simgpu_cublaslt_objects()


def clear():
    """Cancel the requested failures, and clear the sticky error they left on the device."""
    _lib.simgpu_clear()


def library(name):
    """Count a call of a simulated library that is written in Python."""
    from cupy.cuda import get_current_stream

    if _lib.simgpu_capturing(ctypes.c_void_p(get_current_stream().ptr)):
        raise NotImplementedError(f"simgpu: {name} cannot be captured into a graph")
    _lib.simgpu_count_library(name.encode())


def peek(host, device, size):
    """Copy device memory to a host address without counting it."""
    if _lib.simgpu_peek(host, device, size):
        raise ValueError("not a live device allocation")


def poke(device, host, size):
    """Copy host memory to a device address without counting it."""
    if _lib.simgpu_poke(device, host, size):
        raise ValueError("not a live device allocation")
