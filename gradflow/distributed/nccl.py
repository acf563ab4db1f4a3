"""The world of ranks with a GPU each: NCCL between the GPUs, and MPI for everything that is not on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradflow.backends.reference import BoundCall, ReferenceBackend
from gradflow.distributed.base import Ending, World
from gradflow.errors import BackendError, DataError
from gradflow.installation import pip_install_for_nccl
from gradflow.ops import Array

if TYPE_CHECKING:
    from gradflow.backends.cuda.backend import CupyBackend

_LEAST_VERSION = 21800
"""NCCL 2.18, the oldest that CuPy 14 supports; collectives in CUDA graphs need 2.9."""
_AVERAGE = 4
"""ncclAvg of nccl.h, since NCCL 2.10, for which CuPy has no name."""
_DEBUG = "With the environment variable NCCL_DEBUG=INFO, NCCL says why"
_PAUSES = 20e-6, 1e-3
"""Seconds between two looks at a GPU that the host waits for, at first and at most."""
_SECONDS_BETWEEN_CHECKS = 0.02

_Result = TypeVar("_Result")


class _Able(NamedTuple):
    """The answer of a rank that is asked whether it can enter a communicator.

    Attributes:
        problem: why it cannot; None if it can.
        version: of its NCCL.
        gpu: its GPU, by machine and bus.
        place: its GPU, as gradflow calls it.
    """

    problem: str | None
    version: int = 0
    gpu: tuple[str, str] = "", ""
    place: str = ""


class NcclWorld(World):
    """All ranks of an MPI job, each with a GPU of its own.

    Sums and broadcasts are work of a stream, so that CUDA graphs can contain them: neither waits. The order in which
    NCCL adds up is its own, but the same for the same number of ranks, machines and version of NCCL. While a rank does
    something `together` with the others, all waits of its backend have MPI's time limit and end when a rank has failed.

    Attributes:
        has_ended: True after an error, for which the communicator was given up.

    Args:
        host: the same ranks, on MPI.
        backend: the backend, on the GPU of this rank.

    Raises:
        BackendError: on all ranks, if one of them has no NCCL or another version, or two have the same GPU.
        RankError: if a rank does not arrive here.
    """

    def __init__(self, host: World, backend: CupyBackend) -> None:
        self.rank, self.size = host.rank, host.size
        self._host, self._backend = host, backend
        self.has_ended = False
        with host.together():
            _check(host.gathered(_able(backend)))
            self._communicator = self._entered(self._agreed_id())

    def on(self, backend: ReferenceBackend) -> World:
        return self if backend is self._backend else self._host.on(backend)

    def allreduce_(self, array: Array, stream: Any = None) -> None:
        from cupy.cuda import nccl

        self._patiently(lambda: self._reduce(array, nccl.NCCL_SUM, stream or self._backend.stream))

    def takes_means(self, rows: int) -> bool:
        return rows % (4 * self.size) == 0  # ranks share batches in fours of rows

    def sums(self, array: Array, *, is_mean: bool = False) -> BoundCall:
        from cupy.cuda import get_current_stream, nccl

        from gradflow.backends.cuda.graphs import DeviceCall

        operation = _AVERAGE if is_mean else nccl.NCCL_SUM
        # The first sum of a size may connect the ranks, which is nothing for a capture. Nobody has read the array yet.
        self._patiently(lambda: self._reduce(array, operation, self._backend.stream))
        self._backend.synchronize()
        return DeviceCall(lambda: self._reduce(array, operation, get_current_stream()))

    def check_programs(self) -> None:
        are_graphs = self.gathered(self._backend.graphs.path.is_open)
        if len(set(are_graphs)) > 1:
            raise BackendError(
                f"rank {are_graphs.index(False)} cannot capture CUDA graphs, as it has warned, and rank "
                f"{are_graphs.index(True)} does; NCCL needs all to do the same. Use the same driver on all machines"
            )

    def broadcast_(self, array: Array, root: int = 0) -> None:
        kind, stream = self._kind_of(array), self._backend.stream

        def broadcast() -> None:
            with self._backend.current(), self._named():
                self._communicator.bcast(array.data.ptr, array.size, kind, root, stream.ptr)

        self._patiently(broadcast)

    def gathered(self, value: Any) -> list[Any]:
        return self._host.gathered(value)

    def _reduce(self, array: Array, operation: int, stream: Any) -> None:
        kind, place = self._kind_of(array), array.data.ptr
        with self._backend.current(), self._named():
            self._communicator.allReduce(place, place, array.size, kind, operation, stream.ptr)

    @contextmanager
    def together(self) -> Iterator[Ending]:
        outer, self._backend.watch = self._backend.watch, partial(self._watch, threading.get_ident())
        try:
            with self._host.together() as ending:
                yield ending
        except BaseException:
            self.has_ended = True
            # The GPU must not wait for ranks that have left. The abort itself waits until no graph contains a sum.
            threading.Thread(target=self._communicator.abort, daemon=True).start()
            raise
        finally:
            self._backend.watch = outer

    def _watch(self, thread: int, work: Any) -> None:
        """Wait for a stream or an event of the GPU; other threads, which MPI is nothing for, until the first gives up.

        Raises:
            RankError: in the thread, if a rank has failed, or the time is up.
        """
        if threading.get_ident() != thread:
            work.synchronize()
            return
        pause, longest = _PAUSES
        began = time.monotonic()
        while not work.done:
            time.sleep(pause)
            pause = min(2 * pause, longest)
            if pause == longest:
                self._host.look_for_failures(since=began)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Context that turns an error of NCCL into one that names this rank."""
        from cupy.cuda import nccl

        try:
            yield
        except nccl.NcclError as error:
            raise BackendError(f"rank {self.rank} cannot add up with the others: {error}. {_DEBUG}") from error

    def _kind_of(self, array: Array) -> int:
        """Return NCCL's number of the dtype of an array, which must lie on this GPU."""
        from cupy.cuda import nccl

        if not self._backend.owns(array) or not array.flags.c_contiguous:
            raise DataError(f"ranks exchange C-contiguous arrays on {self._backend.place}, got {type(array).__name__}")
        kinds = {
            "int32": nccl.NCCL_INT32,
            "int64": nccl.NCCL_INT64,
            "float16": nccl.NCCL_FLOAT16,
            "float32": nccl.NCCL_FLOAT32,
            "float64": nccl.NCCL_FLOAT64,
        }
        if array.dtype.name not in kinds:
            raise DataError(f"NCCL adds up no arrays of {array.dtype}; possible are {', '.join(kinds)}")
        return int(kinds[array.dtype.name])

    def _agreed_id(self) -> bytes:
        """Return the id of the communicator, which rank 0 makes. If it cannot, it says so, and nobody waits for it."""
        from cupy.cuda import nccl

        made: bytes | str = ""
        if self.rank == 0:
            try:
                made = nccl.get_unique_id()
            except nccl.NcclError as error:
                made = f"rank 0 cannot make an NCCL communicator: {error}"
        agreed: bytes | str = self._host.gathered(made)[0]
        if isinstance(agreed, str):
            raise BackendError(agreed)
        return agreed

    def _entered(self, identity: bytes) -> Any:
        """Return the communicator. It lives as long as the process, since its end would wait for that of all graphs."""
        import ctypes

        from cupy.cuda import Device, nccl

        def make() -> Any:
            with Device(self._backend.device_number):
                return nccl.NcclCommunicator(self.size, identity, self.rank)

        try:
            communicator = self._patiently(make)
        except nccl.NcclError as error:
            raise BackendError(f"rank {self.rank} cannot make an NCCL communicator: {error}. {_DEBUG}") from error
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(communicator))
        return communicator

    def _patiently(self, call: Callable[[], _Result]) -> _Result:
        """Return what a call returns, from a thread: NCCL may wait in it for the other ranks, without a limit.

        Raises:
            RankError: if one has failed, or the time is up.
        """
        done: Future[_Result] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        began = time.monotonic()
        while True:
            with suppress(TimeoutError):
                return done.result(_SECONDS_BETWEEN_CHECKS)
            self._host.look_for_failures(since=began)


def _able(backend: CupyBackend) -> _Able:
    """Return what this rank says before any enters a communicator; it never raises."""
    import socket  # few programs need it, and it would slow down the import of gradflow

    try:
        import cupy.cuda.nccl as nccl  # CuPy loads NCCL when this is imported, never by itself
        from cupy.cuda import runtime

        if not nccl.available:
            return _Able(f"CuPy finds no NCCL; install it: {pip_install_for_nccl()}")
        bus = runtime.deviceGetPCIBusId(backend.device_number)
        return _Able(None, nccl.get_version(), (socket.gethostname(), str(bus)), backend.place)
    except Exception as error:  # all ranks are told
        return _Able(f"{type(error).__name__}: {error}")


def _check(ranks: list[_Able]) -> None:
    """Raise if not all ranks can be in one communicator.

    Raises:
        BackendError: naming the ranks.
    """
    for rank, able in enumerate(ranks):
        if able.problem is not None:
            raise BackendError(f"rank {rank} cannot train on its GPU with the others: {able.problem}")
        if able.version < _LEAST_VERSION:
            raise BackendError(f"rank {rank} has NCCL {_dotted(able.version)}, and CuPy needs 2.18 or later")
        if able.version != ranks[0].version:
            raise BackendError(
                f"all ranks need the same NCCL, but rank 0 has {_dotted(ranks[0].version)}, and rank {rank} "
                f"{_dotted(able.version)}"
            )
        first = next(other for other, of_other in enumerate(ranks) if of_other.gpu == able.gpu)
        if first != rank:
            raise BackendError(
                f"each rank needs a GPU of its own, but ranks {first} and {rank} both have {able.place} of "
                f"{able.gpu[0]}. Start at most as many ranks on a machine as it has GPUs; if each rank sees one GPU "
                "only (CUDA_VISIBLE_DEVICES), it must be another one"
            )


def _dotted(version: int) -> str:
    return f"{version // 10000}.{version // 100 % 100}.{version % 100}"
