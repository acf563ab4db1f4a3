"""The processors that members are shared out over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from gradflow.backends.blas import using_threads
from gradflow.backends.cpu.processors import processors
from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import BackendError


@contextmanager
def one_thread_each(backend: ReferenceBackend, threads: int | None) -> Iterator[int]:
    """Context in which the BLAS uses one thread; returns the number of members to train at a time."""
    if backend.name == "cupy":  # its members share the device
        yield 1
        return
    usable = backend.blas.threads if backend.blas is not None else None
    most = threads or min(processors(), usable or processors())
    with ExitStack() as stack:
        with suppress(BackendError):  # a BLAS whose threads cannot be set, or none
            stack.enter_context(using_threads(backend.blas, 1))
        yield most
