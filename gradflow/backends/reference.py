"""The reference backend: plain NumPy, which defines the result of every op."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from gradflow.backends.blas import Blas, numpy_blas
from gradflow.backends.upload import UploadBuffer
from gradflow.errors import BackendError
from gradflow.ops import Array, Op

BoundCall = Callable[[], None]
"""An op bound to its arrays: calling it runs the op."""

Replay = Callable[[int], None]
"""A program that is ready to run: called with n, it runs n times."""


class ReferenceBackend:
    """Backend with NumPy arrays, on which an op is the function that defines it.

    It is also the base class of the other backends, which override where arrays live and how an op is bound.
    """

    name = "reference"

    @property
    def device(self) -> str:
        """The name of the device that the ops run on."""
        return "CPU"

    @property
    def place(self) -> str:
        """The device that the ops run on, as the argument ``device`` names it: "cpu" or "cuda:1"."""
        return "cpu"

    @property
    def blas(self) -> Blas | None:
        """The BLAS that computes matmuls on the CPU; None if unknown, or on a GPU."""
        return numpy_blas()

    def current(self) -> AbstractContextManager[Any]:
        """Return the context in which callers may compute with arrays of this backend by their own library: on a GPU,
        its device is the current one."""
        return nullcontext()

    # -- arrays ---------------------------------------------------------------------------------------------------

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new array with arbitrary contents."""
        return np.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new array of zeros."""
        return np.zeros(shape, dtype)

    def from_host(self, array: np.ndarray) -> Array:
        """Convert a NumPy array to a contiguous array of this backend; on the CPU it may be the same one."""
        return np.ascontiguousarray(array)

    def to_host(self, array: Array) -> np.ndarray:
        """Copy an array of this backend to a NumPy array, after all work on it is done."""
        return np.array(array)

    def copy(self, source: Array, target: Array) -> None:
        """Copy an array of this backend into another of the same shape and dtype."""
        np.copyto(target, source)

    def owns(self, array: object) -> bool:
        """True if an array is in the memory of this backend."""
        return isinstance(array, np.ndarray)

    def of_device(self, array: object) -> Array | None:
        """Wrap a GPU array of any library as an array of this backend, without a copy; None if that is impossible."""
        return None

    def adopt(self, array: Array) -> Array:
        """Return a caller's host or device array as a contiguous array that ops may read.

        It may be the caller's own array. On a GPU it is read after the work enqueued so far on the caller's stream.
        """
        return self.from_host(array)

    def receive(self, array: Array, target: Array) -> None:
        """Copy a caller's host or device array into an array of this backend, of the same shape and dtype.

        On a GPU this comes after the work on the caller's stream so far, and before what that stream does next: the
        array may be a temporary, whose memory is used again as soon as the caller drops it.
        """
        self.copy(self.adopt(array), target)

    def empty_for_caller(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return a new array that the caller will own: on a GPU its memory belongs to the caller's stream, which may
        still read it when the caller drops it."""
        return self.empty(shape, dtype)

    def to_caller(self, array: Array) -> Array:
        """Make an array of this backend safe to read for the caller: on a GPU, after the work on its stream."""
        return array

    def upload_buffer(self, n_bytes: int) -> UploadBuffer:
        """Return a buffer of ``n_bytes`` that batches from the host are uploaded to."""
        return UploadBuffer(n_bytes)

    def looks(self, array: Array) -> Looks:
        """Return the means to look at a small array now and then while programs run."""
        return Looks(array)

    def delays(self) -> tuple[float, float]:
        """Return the seconds for which programs that could use several threads have run, in this process, and for how
        many of them other work on the processors held them back; zero if that is not measured."""
        return 0.0, 0.0

    def memory_plan(self) -> MemoryPlan | None:
        """Return a backend that counts the memory of recorded programs; None on a CPU, where memory can be swapped."""
        return None

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def check_precision(self, precision: str) -> None:
        """Raise if this backend does not support a training precision other than "float32".

        Raises:
            BackendError: with the reason and the remedy.
        """
        raise BackendError(
            f"precision={precision!r} needs an NVIDIA GPU, and the network's backend is {self.name!r}; leave it out, "
            "or make the network with backend='cupy'"
        )

    # -- running ops ----------------------------------------------------------------------------------------------

    def running(self) -> AbstractContextManager[Any]:
        """Return the context in which bound calls run. NaN and infinity are results there, not warnings."""
        return np.errstate(all="ignore")

    def bind(self, op: Op, arguments: dict[str, Any]) -> BoundCall:
        """Check an op and its arguments by name, and prepare it to be run many times."""
        self.check(op, arguments)
        return partial(op.reference, **arguments)

    def bind_all(self, calls: list[tuple[Op, dict[str, Any]]]) -> list[BoundCall]:
        """Bind the calls of a program; a backend with one kernel for several adjacent calls returns fewer."""
        return [self.bind(op, arguments) for op, arguments in calls]

    def fastest_way(
        self, ops: Sequence[tuple[Op, dict[str, Any]]], members: int, alike: int
    ) -> Literal["block", "merged", "alone"]:
        """Return how to run a program of one of several members: as one of `block_programs`, `merged` with those of the
        same shape, or alone.

        Args:
            ops: the program.
            members: the number of members.
            alike: the number of those with programs of the same shape.
        """
        return "alone"

    def shape_of(self, ops: Sequence[tuple[Op, dict[str, Any]]]) -> Hashable:
        """Return what programs that are `merged` must have in common."""
        return None

    def merged(self, programs: Sequence[Sequence[tuple[Op, dict[str, Any]]]], steps_per_launch: int = 1) -> Replay:
        """Return a function that runs programs of one shape n times, all at the same time.

        Args:
            programs: their ops; none may write what another one reads or writes.
            steps_per_launch: as in `replay`.

        Raises:
            BackendError: if it cannot run them like that.
        """
        raise BackendError(f"the {self.name!r} backend runs programs in turn, not side by side")

    def block_programs(self, programs: Sequence[Sequence[tuple[Op, dict[str, Any]]]]) -> BlockPrograms:
        """Prepare programs, given by their ops, to run side by side.

        Raises:
            BackendError: if it cannot run one of them like that.
        """
        raise BackendError(f"the {self.name!r} backend runs programs in turn, not side by side")

    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        """Return a function that runs the bound calls of a program, in order, n times.

        Args:
            calls: the result of `bind_all`, and calls that compute on the host.
            steps_per_launch: the number of runs of all calls that a GPU may combine in one launch; ignored on a CPU.
        """

        def run(times: int) -> None:
            with self.running():
                for _ in range(times):
                    for call in calls:
                        call()

        return run

    def epochs(self, parts: Sequence[tuple[Replay, int]], watched: WatchedEpochs) -> SeveralEpochs | None:
        """Prepare to run several epochs in one call; None if this backend cannot.

        Args:
            parts: the programs of an epoch, and how many times each of them runs.
            watched: what happens after each epoch.
        """
        return None

    def check(self, op: Op, arguments: dict[str, Any]) -> None:
        """Raise for arrays of another backend, arrays that are not C-contiguous, and incompatible shapes."""
        for name, value in arguments.items():
            if not hasattr(value, "flags"):
                continue
            if not self.owns(value):
                raise BackendError(
                    f"op {op.name!r} on the {self.name!r} backend: argument {name!r} is a "
                    f"{type(value).__module__}.{type(value).__name__}; move it with backend.from_host(...)"
                )
            if not value.flags.c_contiguous:
                raise BackendError(
                    f"op {op.name!r}: argument {name!r} with shape {value.shape} is not C-contiguous; "
                    "pass a contiguous copy (matmuls have arguments for transposed matrices)"
                )
        op.check_shapes(arguments)


class WatchedEpochs(NamedTuple):
    """The work after each of several epochs: the status is read, the weights and the best state are kept.

    Attributes:
        status: int64 (words,): the clock of the training, and float64 sums over the epoch.
        readings: int64 (epochs, words), receives the status after each epoch.
        trained, decisive: the places in the status of the sum of the losses, in training and on the data that decide
            which epoch is best, each with the number of rows.
        progress: an epoch is the best if its mean loss is smaller than that of the best so far by more than this,
        takes_ties: or by just this.
        state: the weights and buffers.
        best_state: receives the state of the best epoch.
        weights: weights to keep.
        kept: (epochs, ...), receives them after each epoch.
    """

    status: Array
    readings: Array
    trained: tuple[int, float]
    decisive: tuple[int, float]
    progress: float
    takes_ties: bool
    state: Array
    best_state: Array
    weights: Array
    kept: Array


class SeveralEpochs(Protocol):
    """Epochs that a backend runs without a return to Python in between."""

    def run(self, most: int, *, best: float, limit: float, seconds: float) -> int:
        """Run epochs; return how many have run.

        Args:
            most: their maximum number.
            best: the mean loss of the best epoch so far.
            limit: they end after an epoch whose mean loss in training is larger, or that diverged;
            seconds: and once this time is over.
        """


class BlockPrograms(Protocol):
    """Small programs that a device runs side by side, each on a part of it."""

    def run(self, blocks: Sequence[Sequence[tuple[int, int]]]) -> None:
        """Run blocks of programs side by side; within a block they run one after the other.

        Args:
            blocks: for each block, pairs of a program, by its place, and how many times it runs. Programs of two blocks
                must not write what the other one reads or writes.
        """


class Looks:
    """Looks at an array while programs run, without stopping them; on a CPU they have ended when one looks.

    Args:
        array: the array.
    """

    def __init__(self, array: Array) -> None:
        self._array = array

    def take(self) -> np.ndarray | None:
        """Return the array as the work enqueued so far leaves it.

        On a GPU a look arrives when that work is done. `take` enqueues one, and returns the third last one, None as
        long as there is none. It waits for it, so that the host is never more than three looks ahead of the GPU.
        """
        return np.array(self._array)


class MemoryPlan(ReferenceBackend):
    """A backend that records programs without running them: its arrays have no memory, and are only counted.

    Attributes:
        free: the bytes of device memory that arrays may take.
        n_bytes: the bytes that all its existing arrays would take.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self.n_bytes = 0
