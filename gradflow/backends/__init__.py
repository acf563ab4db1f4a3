"""Backends, which decide where arrays live and how an op runs, and their selection by name.

"reference" is plain NumPy and defines every op; "numpy" is the CPU engine, "cupy" the GPU engine.
"""

from __future__ import annotations

import copyreg
import os
import re
import threading
from collections.abc import Callable
from functools import cache

from gradflow.backends.availability import diagnose, gpu_problem
from gradflow.backends.reference import ReferenceBackend
from gradflow.checks import known_name
from gradflow.errors import BackendError, DataError, shown

__all__ = ["BACKENDS", "ReferenceBackend", "get_backend"]

BACKENDS = ("auto", "cupy", "numpy", "reference")
"""The names that `get_backend` accepts."""

WORK_FOR_GPU = 3_000_000
"""Parameters times rows of a step from which on a GPU is taken to be faster.

An estimate: a step of network T, 1.4 million, takes 45 µs on two cores (measured, benchmarks/results), and 35 to 45 µs
on an H200 (expected from its 12 launches). With more work the CPU takes longer, the GPU hardly until ten times as much.
"""

USUAL_ROWS = 128
"""The rows of a step that "auto" assumes, since a network is made before its batch size is known."""

LEAST_PARAMETERS = -(-WORK_FOR_GPU // USUAL_ROWS)
"""The parameters of a network from which on "auto" selects a GPU."""

_PLACES = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")
"""Environment variables with the number of a process among those of an MPI job on the same machine: Open MPI, MPICH and
Intel MPI, MVAPICH, Slurm."""

_making = threading.Lock()


def get_backend(
    name: str = "auto", device: str | None = None, *, n_parameters: int = LEAST_PARAMETERS
) -> ReferenceBackend:
    """Return the backend of a name; "auto" selects "cupy" for a network that is worth it, if there is a usable GPU,
    otherwise "numpy".

    If set, the environment variable GRADFLOW_BACKEND decides what "auto" means.

    Args:
        name: the name.
        device: "cpu", "cuda" or, for one of several GPUs, "cuda:1", which decides what "auto" means. None and "cuda"
            take the current CUDA device of the calling thread, which is "cuda:0" unless the program has changed it, or
            in a rank of an MPI job the GPU of its number on the machine.
        n_parameters: the parameters of the network, for "auto".

    Raises:
        DataError: for an unknown name or device, or a backend that does not run on the device.
        BackendError: if the backend cannot be used here; the message names the cause and the remedy.
    """
    if isinstance(name, str) and name == "auto" and device is None:
        name = os.environ.get("GRADFLOW_BACKEND", "auto") or "auto"
    if isinstance(name, str) and name in ("cpu", "cuda", "gpu"):
        raise DataError(
            f"unknown backend {name!r}: 'numpy' computes on the CPU, 'cupy' on an NVIDIA GPU; device='cuda:1' selects "
            "one of several"
        )
    known_name("backend", name, BACKENDS)
    name = _name_for(name, device)
    if name == "auto":
        name = "numpy" if n_parameters < LEAST_PARAMETERS or gpu_problem() else "cupy"
    elif name == "cupy" and (problem := gpu_problem()):
        raise BackendError(f"backend 'cupy' cannot be used: {problem}")
    with _making:
        backend = _make(name, _ordinal(device) if name == "cupy" else None)
    copyreg.pickle(type(backend), _by_name)
    return backend


def _name_for(name: str, device: str | None) -> str:
    """Return the name of the backend after checking that it runs on the device."""
    if device is None:
        return name
    if not isinstance(device, str) or not re.fullmatch(r"cpu|cuda(:[0-9]{1,4})?", device):
        raise DataError(f"device must be 'cpu', 'cuda' or, for one of several GPUs, 'cuda:1', got {shown(device)}")
    if name == "auto":
        return "numpy" if device == "cpu" else "cupy"
    if (name == "cupy") == (device == "cpu"):
        raise DataError(f"backend {name!r} does not run on device {device!r}; omit one of the two")
    return name


def _ordinal(device: str | None) -> int:
    """Return the number of a CUDA device.

    Raises:
        BackendError: if it does not exist.
    """
    from cupy.cuda import runtime

    try:
        current, count = int(runtime.getDevice()), runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(f"backend 'cupy' cannot be used: {diagnose(runtime) or error}") from error
    if device is None or ":" not in device:
        return current or _place_on_machine() % count
    ordinal = int(device.partition(":")[2])
    if ordinal >= count:
        raise BackendError(
            f"device {device!r} does not exist: this process sees {count} {'GPU' if count == 1 else 'GPUs'}, numbered "
            "from 0; CUDA_VISIBLE_DEVICES may hide others"
        )
    return ordinal


def _place_on_machine() -> int:
    """Return the number of this process among those that an MPI launcher started on this machine."""
    return _given_place() or 0


def _given_place() -> int | None:
    return next((int(os.environ[name]) for name in _PLACES if os.environ.get(name, "").isdigit()), None)


def portable_place(backend: ReferenceBackend) -> str:
    """Return the place of a backend for a pickle: "cuda" for the GPU that a rank of an MPI job has by its number, so
    that another rank takes its own."""
    is_own = backend.name == "cupy" and _given_place() is not None and backend.place == f"cuda:{_ordinal(None)}"
    return "cuda" if is_own else backend.place


def _by_name(backend: ReferenceBackend) -> tuple[Callable[..., ReferenceBackend], tuple[str, str]]:
    """Copy and unpickle a backend as that of its name and device, since its memory is shared with other arrays."""
    return get_backend, (backend.name, portable_place(backend))


@cache
def _make(name: str, ordinal: int | None) -> ReferenceBackend:
    if name == "cupy":
        from gradflow.backends.cuda.backend import CupyBackend
        from gradflow.backends.cuda.self_check import check_gemms

        backend = CupyBackend(ordinal)
        check_gemms(backend)
        return backend
    if name == "numpy":
        from gradflow.backends.cpu.backend import NumpyBackend
        from gradflow.backends.cpu.native import native_library

        return NumpyBackend(native_library())
    return ReferenceBackend()
