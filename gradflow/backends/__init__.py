"""Backends, which decide where arrays live and how an op runs, and their selection by name.

"reference" is plain NumPy and defines every op; "numpy" is the CPU engine, "cupy" the GPU engine.
"""

from __future__ import annotations

import copyreg
import os
from collections.abc import Callable
from functools import cache

from gradflow.backends.availability import gpu_problem
from gradflow.backends.reference import ReferenceBackend
from gradflow.checks import known_name
from gradflow.errors import BackendError, DataError

__all__ = ["BACKENDS", "ReferenceBackend", "get_backend"]

BACKENDS = ("auto", "cupy", "numpy", "reference")
"""The names that `get_backend` accepts."""


def get_backend(name: str = "auto") -> ReferenceBackend:
    """Return the backend of a name; "auto" selects "cupy" if there is a usable GPU, otherwise "numpy".

    If set, the environment variable GRADFLOW_BACKEND decides what "auto" means.

    Raises:
        DataError: for an unknown name.
        BackendError: if the backend cannot be used here; the message names the cause and the remedy.
    """
    if isinstance(name, str) and name == "auto":
        name = os.environ.get("GRADFLOW_BACKEND", "auto") or "auto"
    if isinstance(name, str) and name in ("cpu", "cuda", "gpu"):
        raise DataError(f"unknown backend {name!r}: 'numpy' computes on the CPU, 'cupy' on an NVIDIA GPU")
    known_name("backend", name, BACKENDS)
    if name == "auto":
        name = "numpy" if gpu_problem() else "cupy"
    elif name == "cupy" and (problem := gpu_problem()):
        raise BackendError(f"backend 'cupy' cannot be used: {problem}")
    backend = _make(name)
    copyreg.pickle(type(backend), _by_name)
    return backend


def _by_name(backend: ReferenceBackend) -> tuple[Callable[..., ReferenceBackend], tuple[str]]:
    """Copy and unpickle a backend as the backend of that name, since its memory is shared with other arrays."""
    return get_backend, (backend.name,)


@cache
def _make(name: str) -> ReferenceBackend:
    if name == "cupy":
        from gradflow.backends.cuda.backend import CupyBackend
        from gradflow.backends.cuda.self_check import check_gemms

        backend = CupyBackend()
        check_gemms(backend)
        return backend
    if name == "numpy":
        from gradflow.backends.cpu.backend import NumpyBackend
        from gradflow.backends.cpu.native import native_library

        return NumpyBackend(native_library())
    return ReferenceBackend()
