"""The world of an MPI job, on mpi4py: arrays in host memory, and a time limit on every wait.

Messages go from rank to rank, and every wait polls: MPI's own collective operations would wait forever for a rank that
failed, and could not name it.
"""

from __future__ import annotations

import atexit
import itertools
import math
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from mpi4py import MPI

from gradflow.backends.blas import THREAD_VARIABLES
from gradflow.backends.cpu.processors import processors
from gradflow.backends.reference import BoundCall, ReferenceBackend
from gradflow.distributed.base import Ending, World
from gradflow.distributed.shared_memory import add_in_order, shared_memory
from gradflow.errors import BackendError, DataError, GradflowError, RankError
from gradflow.ops import Array

if TYPE_CHECKING:
    from gradflow.backends.cuda.backend import CupyBackend
    from gradflow.distributed.nccl import NcclWorld

_TIMEOUT = "GRADFLOW_RANK_TIMEOUT"
_SECONDS = 600.0
"""Seconds to wait for another rank, unless the environment variable sets another limit."""
_SECONDS_TO_TELL = 20.0
"""Seconds that a rank which failed waits for the others to notice, before it raises its error."""
_PIECE = 2**19
"""Bytes of a rank's block of a large array, which is exchanged piece by piece, so that a piece stays in the cache."""
_INTERRUPTED = "it was interrupted"
_SMALL = 2**14
"""Bytes up to which every rank gets the whole array of all others: half the messages one after the other."""
_SPINS = 64
"""Polls before the processor is offered to others."""
_SECONDS_BETWEEN_CHECKS, _SECONDS_OF_SLEEP = 0.02, 0.001
_KINDS = _DATA, _OBJECT, _OUTCOME = range(3)
_TURNS = 8192  # times three tags, all below the 32767 that MPI guarantees
_let_others_run = getattr(os, "sched_yield", lambda: time.sleep(0))


class _Outcome(NamedTuple):
    """The way in which a rank left what all do together.

    Attributes:
        error: its error; None if it succeeded.
        is_of_another: True if the error is that of another rank, which it names.
    """

    error: str | None
    is_of_another: bool = False


def mpi_world(expected: int, otherwise: World) -> World:
    """Return the world of this MPI job; ``otherwise`` if it has one rank, as the launcher expects too.

    Raises:
        BackendError: if the launcher started another number of ranks than MPI knows of.
        RankError: if another rank does not arrive here.
    """
    size = MPI.COMM_WORLD.Get_size()
    if size != expected and expected > 1:
        raise BackendError(
            f"the launcher started {expected} ranks, but MPI knows of {size}: mpi4py uses another MPI "
            f"({MPI.Get_library_version().split(',')[0].strip()}) than the launcher. Launch with the mpiexec of that "
            "MPI, or reinstall mpi4py for yours"
        )
    return otherwise if size == 1 else MpiWorld()


class MpiWorld(World):
    """All ranks of an MPI job."""

    def __init__(self) -> None:
        self.rank, self.size = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()
        self._timeout = _time_limit()
        self._peers = [(self.rank + step) % self.size for step in range(1, self.size)]
        self._turn = self._depth = self._thread = 0
        self._outcomes: dict[int, _Outcome] = {}
        self._scratch = np.empty(0, np.uint8)
        self._broken: str | None = None
        self._has_leftovers = False
        self._on_gpus: dict[ReferenceBackend, NcclWorld] = {}
        comm, made = MPI.COMM_WORLD.Idup()
        self._comm = MPI.COMM_WORLD
        self._finish([made], [-1])
        self._comm = comm
        self._shared = shared_memory(self, self._waiting)
        self.threads = self._fair_threads()
        self._previous_hook, sys.excepthook = sys.excepthook, self._on_uncaught
        atexit.register(self._exit)

    def on(self, backend: ReferenceBackend) -> World:
        if backend.name != "cupy":
            return self
        made = self._on_gpus.get(backend)
        with self.together():  # an error may have ended it on some ranks only
            is_missing = any(self.gathered(made is None or made.has_ended))
        if made is None or is_missing:
            from gradflow.distributed.nccl import NcclWorld

            made = self._on_gpus[backend] = NcclWorld(self, cast("CupyBackend", backend))
        return made

    # -- the operations ---------------------------------------------------------------------------------------------

    def allreduce_(self, array: Array, stream: Any = None) -> None:
        self._add(_flat(array), 1)

    def takes_means(self, rows: int) -> bool:
        return rows % (4 * self.size) == 0  # ranks share batches in fours of rows

    def sums(self, array: Array, *, is_mean: bool = False) -> BoundCall:
        return partial(self._add, _flat(array), self.size if is_mean else 1)

    def _add(self, flat: np.ndarray, divisor: int) -> None:
        """Replace an array (n,) by its sum over the ranks, divided by a number."""
        if self._shared is not None:
            self._shared.add(flat, divisor)
            return
        if flat.nbytes <= _SMALL:
            parts = self._scratch_like(self.size, flat)
            self._exchange(dict.fromkeys(self._peers, flat), {peer: parts[peer] for peer in self._peers})
            parts[self.rank] = flat
            add_in_order(parts, flat, divisor)
            return
        for first in range(0, len(flat), piece := self.size * _PIECE // flat.itemsize):
            self._add_blocks(flat[first : first + piece], divisor)

    def _add_blocks(self, flat: np.ndarray, divisor: int) -> None:
        """Add up arrays: each rank adds a block of them, and sends the sum to all."""
        ends = [len(flat) * rank // self.size for rank in range(self.size + 1)]
        blocks = [flat[first:end] for first, end in itertools.pairwise(ends)]
        own = blocks[self.rank]
        parts = self._scratch_like(self.size, own)
        self._exchange({peer: blocks[peer] for peer in self._peers}, {peer: parts[peer] for peer in self._peers})
        parts[self.rank] = own
        add_in_order(parts, own, divisor)
        self._exchange(dict.fromkeys(self._peers, own), {peer: blocks[peer] for peer in self._peers})

    def shares_updates(self, n_bytes: int) -> bool:
        return n_bytes > _SMALL

    def room(self, n_bytes: int) -> Array | None:
        return None if self._shared is None else self._shared.room(n_bytes)

    def of_ranks(self, array: Array) -> list[Array] | None:
        return None if self._shared is None else self._shared.of_ranks(array)

    def meet(self) -> None:
        if self._shared is None:
            self.gathered(None)
        else:
            self._shared.meet()

    def trade_blocks(self, array: Array, blocks: Sequence[slice], received: Sequence[Array]) -> None:
        flat = _flat(array)
        self._exchange(
            {peer: flat[blocks[peer]] for peer in self._peers}, {peer: received[peer] for peer in self._peers}
        )

    def collect_blocks(self, array: Array, blocks: Sequence[slice]) -> None:
        flat = _flat(array)
        own = dict.fromkeys(self._peers, flat[blocks[self.rank]])
        self._exchange(own, {peer: flat[blocks[peer]] for peer in self._peers})

    def broadcast_(self, array: Array, root: int = 0) -> None:
        flat = _flat(array)
        if self.rank == root:
            self._exchange(dict.fromkeys(self._peers, flat), {})
        else:
            self._exchange({}, {root: flat})

    def gathered(self, value: Any) -> list[Any]:
        sent = self._pickled(value)
        tag = self._tag(_OBJECT)
        requests = [self._comm.Isend([sent, MPI.BYTE], peer, tag) for peer in self._peers]
        values = {self.rank: value} | {peer: pickle.loads(self._received(peer, tag)) for peer in self._peers}
        self._finish(requests, self._peers)
        return [values[rank] for rank in range(self.size)]

    @contextmanager
    def patient(self) -> Iterator[None]:
        timeout, self._timeout = self._timeout, math.inf
        try:
            yield
        finally:
            self._timeout = timeout

    @contextmanager
    def together(self) -> Iterator[Ending]:
        if self._broken is not None:
            raise RankError(f"this process cannot train with the other ranks any more: {self._broken}")
        if self._depth:
            if self._thread != threading.get_ident():
                raise GradflowError(
                    "several ranks train one network at a time, and another thread of this process does; train in one "
                    "thread, or each rank for itself: with gradflow.distributed.alone()"
                )
            yield Ending()
            return
        self._thread = threading.get_ident()
        self._depth, self._turn, self._outcomes = 1, self._turn + 1, {}
        if self._shared is not None:
            self._shared.begin(self._turn)
        ending = Ending()
        try:
            yield ending
            self._leave(_Outcome(_INTERRUPTED if ending.is_interrupted else None))
        except BaseException as error:
            error.add_note(f"This is rank {self.rank} of {self.size}.")
            if self.rank not in self._outcomes:
                with suppress(MPI.Exception):
                    self._leave(_outcome(error))
                    self._note_silence(error)
            raise
        finally:
            self._depth = 0

    def _fair_threads(self) -> int | None:
        """Return this rank's part of the processors that it may run on, of which other ranks may use some too."""
        mask = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset({0})
        machine = MPI.Get_processor_name()
        ranks = sum(other == machine and bool(mask & of_other) for other, of_other in self.gathered((machine, mask)))
        is_said = any(os.environ.get(name) for name in THREAD_VARIABLES)
        return None if is_said else max(1, processors() // ranks)

    # -- messages -----------------------------------------------------------------------------------------------------

    def _tag(self, kind: int) -> int:
        """Return the tag of a kind of messages: another for each turn, so that nobody takes what a failed one left."""
        return len(_KINDS) * (self._turn % _TURNS) + kind

    def _pickled(self, value: Any) -> bytes:
        try:
            return pickle.dumps(value)
        except Exception as error:  # of the object's own methods, too
            raise DataError(
                f"rank {self.rank} cannot send an object to the other ranks, since it cannot be pickled: {error}. "
                "Define functions and classes at the top level of a module"
            ) from error

    def _scratch_like(self, parts: int, like: np.ndarray) -> np.ndarray:
        n_bytes = parts * like.nbytes
        if self._scratch.nbytes < n_bytes:
            self._scratch = np.empty(n_bytes, np.uint8)
        return self._scratch[:n_bytes].view(like.dtype).reshape(parts, len(like))

    def _exchange(self, sent: dict[int, np.ndarray], received: dict[int, np.ndarray]) -> None:
        """Send arrays to ranks and receive others from ranks."""
        tag = self._tag(_DATA)
        requests = [self._comm.Irecv([part.view(np.uint8), MPI.BYTE], rank, tag) for rank, part in received.items()]
        requests += [self._comm.Isend([part.view(np.uint8), MPI.BYTE], rank, tag) for rank, part in sent.items()]
        self._finish(requests, [*received, *sent])

    def _received(self, peer: int, tag: int) -> bytearray:
        """Wait for a message of unknown length."""
        status = MPI.Status()
        for _ in self._waiting(lambda: [peer]):
            if (message := self._comm.Improbe(peer, tag, status)) is not None:
                buffer = bytearray(status.Get_count(MPI.BYTE))
                message.Recv([buffer, MPI.BYTE])
                return buffer
        raise AssertionError

    def _finish(self, requests: list[MPI.Request], peers: Sequence[int]) -> None:
        """Wait for requests, each with the rank that it depends on."""

        def missing() -> list[int]:
            return [peer for request, peer in zip(requests, peers, strict=True) if not request.Test()]

        try:
            for _ in self._waiting(missing):
                if MPI.Request.Testall(requests):
                    return
        except BaseException:
            self._has_leftovers = True
            raise

    def _waiting(self, missing: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Poll until the caller has what it waits for; ``missing`` returns the ranks from which that is.

        Raises:
            RankError: if a rank has failed, or the time is up.
        """
        began = last_check = time.monotonic()
        while True:
            for _ in range(_SPINS):
                yield
            _let_others_run()
            now = time.monotonic()
            if now - last_check < _SECONDS_BETWEEN_CHECKS:
                continue
            time.sleep(_SECONDS_OF_SLEEP)  # the others are well behind, or need this processor
            last_check = now
            self.look_for_failures(since=began, missing=missing)

    # -- failures -----------------------------------------------------------------------------------------------------

    def look_for_failures(self, *, since: float, missing: Callable[[], Sequence[int]] = tuple) -> None:
        self._look_for_outcomes()
        if time.monotonic() - since > self._timeout:
            raise RankError(
                f"rank {self.rank} waited {self._timeout:g} s for {_named(missing())}. Look for the cause there; "
                f"the environment variable {_TIMEOUT} sets another limit"
            )

    def _look_for_outcomes(self) -> None:
        """Raise if another rank has left because of an error."""
        if not self._depth:
            return
        tag = self._tag(_OUTCOME)
        for peer in self._peers:
            if peer not in self._outcomes and self._comm.Iprobe(peer, tag):
                self._outcomes[peer] = pickle.loads(self._received(peer, tag))
        if self.rank not in self._outcomes:
            self._raise_of_others()

    def _raise_of_others(self) -> None:
        failed = [(of.is_of_another, rank, of.error) for rank, of in self._outcomes.items() if rank != self.rank]
        for is_of_another, rank, error in sorted(outcome for outcome in failed if outcome[2] is not None):
            raise RankError(
                error if is_of_another else f"rank {rank} of {self.size} ended the training of all: {error}"
            )

    def _leave(self, outcome: _Outcome) -> None:
        """Tell the other ranks how this one ends, and wait until they end too.

        Raises:
            RankError: if this rank succeeded, but another one failed.
        """
        self._outcomes[self.rank], error = outcome, outcome.error
        sent, tag = pickle.dumps(outcome), self._tag(_OUTCOME)
        requests = [self._comm.Isend([sent, MPI.BYTE], peer, tag) for peer in self._peers]
        timeout, self._timeout = self._timeout, self._timeout if error is None else min(self._timeout, _SECONDS_TO_TELL)
        try:
            for _ in self._waiting(lambda: [peer for peer in self._peers if peer not in self._outcomes]):
                self._look_for_outcomes()
                if len(self._outcomes) == self.size:
                    break
            self._finish(requests, self._peers)
        except RankError as problem:
            self._broken = str(problem)
            if error is None:
                raise
        finally:
            self._timeout = timeout
        if error is None:
            self._raise_of_others()

    def _note_silence(self, error: BaseException) -> None:
        """Name the ranks that did not answer, if others were waited for in vain."""
        silent = [peer for peer in self._peers if peer not in self._outcomes]
        if isinstance(error, RankError) and silent:
            error.add_note(f"Nothing was heard from {_named(silent)}.")

    def _on_uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Print the error as usual; the job cannot continue without this rank."""
        self._previous_hook(kind, error, trace)
        self._broken = self._broken or f"{kind.__name__}: {error}"

    def _exit(self) -> None:
        """End the whole job after an error: MPI's regular end would wait for messages that nobody takes."""
        if self._broken is None and not self._has_leftovers:
            return
        print(f"rank {self.rank} of {self.size} ended: {self._broken or 'after an error'}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(1)  # others may be about to print what happened to them
        MPI.COMM_WORLD.Abort(1)


def _flat(array: Array) -> np.ndarray:
    if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
        raise DataError(f"ranks exchange C-contiguous NumPy arrays, got {type(array).__name__}")
    return array.reshape(-1)


def _outcome(error: BaseException) -> _Outcome:
    if isinstance(error, RankError):
        return _Outcome(str(error), is_of_another=True)
    return _Outcome(_INTERRUPTED if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}")


def _named(peers: Sequence[int]) -> str:
    names = sorted({peer for peer in peers if peer >= 0})
    return f"rank{'s' if len(names) > 1 else ''} {', '.join(map(str, names))}" if names else "the other ranks"


def _time_limit() -> float:
    text = os.environ.get(_TIMEOUT) or str(_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise DataError(f"the environment variable {_TIMEOUT} must be a number of seconds above 0, got {text!r}")
    return seconds
