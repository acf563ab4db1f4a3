"""The reference backend: plain NumPy, which defines what every op computes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gradflow.backends.blas import Blas, numpy_blas
from gradflow.backends.staging import Staging
from gradflow.errors import BackendError
from gradflow.ops import Array, Op

if TYPE_CHECKING:
    from gradflow.backends.memory_plan import MemoryPlan

__all__ = ["BoundCall", "ReferenceBackend", "Replay"]

BoundCall = Callable[[], None]
"""An op bound to its arrays: calling it runs the op."""

Replay = Callable[[int], None]
"""A program that is ready to run: called with a number, it runs that many times."""


class ReferenceBackend:
    """Arrays are NumPy's, and an op is the function that defines it.

    It is also the base of the other backends: these override where arrays live and how an op is bound.
    """

    name = "reference"

    @property
    def device(self) -> str:
        """The name of the device that the ops run on."""
        return "CPU"

    @property
    def blas(self) -> Blas | None:
        """What makes the matrix products on the CPU; None if it is unknown, or on a GPU."""
        return numpy_blas()

    # -- arrays ---------------------------------------------------------------------------------------------------

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """A new array with arbitrary contents."""
        return np.empty(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """A new array of zeros."""
        return np.zeros(shape, dtype)

    def from_host(self, array: np.ndarray) -> Array:
        """A NumPy array as a contiguous array of this backend; on the CPU it may be the same one."""
        return np.ascontiguousarray(array)

    def to_host(self, array: Array) -> np.ndarray:
        """A copy of an array of this backend as a NumPy array, once all work on it is done."""
        return np.array(array)

    def copy(self, source: Array, target: Array) -> None:
        """Copy an array of this backend into another of the same shape and dtype."""
        np.copyto(target, source)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a backend is the backend of that name: arrays in memory that others share belong to it."""
        from gradflow.backends import get_backend  # chooses among modules that import this one

        return get_backend, (self.name,)

    def owns(self, array: object) -> bool:
        """Whether an array lies where this backend's arrays lie."""
        return isinstance(array, np.ndarray)

    def of_device(self, array: object) -> Array | None:
        """What lies on a GPU, of whatever library, as an array of this backend without a copy; None if it cannot be."""
        return None

    def adopt(self, array: Array) -> Array:
        """A host array, or a device array that a caller made, as a contiguous array that ops may read.

        It may be the caller's own array. On a GPU it is read after the work on the caller's stream so far.
        """
        return self.from_host(array)

    def to_caller(self, array: Array) -> Array:
        """An array made here, safe to read for the caller: on a GPU, after the work on this backend's stream."""
        return array

    def staging(self, n_bytes: int) -> Staging:
        """Buffers through which batches that the host makes reach the ops, ``n_bytes`` each."""
        return Staging(n_bytes)

    def memory_plan(self) -> MemoryPlan | None:
        """A backend that counts the memory of what is recorded on it; None on a CPU, where memory can be swapped."""
        return None

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def check_precision(self, precision: str) -> None:
        """Refuse a precision of training other than "float32" that is not to be had here.

        Raises:
            BackendError: saying why, and what to do.
        """
        raise BackendError(
            f"precision={precision!r} needs an NVIDIA GPU, and the network's backend is {self.name!r}; leave it out, "
            "or make the network with backend='cupy'"
        )

    # -- running ops ----------------------------------------------------------------------------------------------

    def running(self) -> AbstractContextManager[Any]:
        """The context in which bound calls run. NaN and infinity are results here, not warnings."""
        return np.errstate(all="ignore")

    def bind(self, op: Op, arguments: dict[str, Any]) -> BoundCall:
        """An op with its arguments by name, checked and prepared to be run many times."""
        self.check(op, arguments)
        return partial(op.reference, **arguments)

    def bind_all(self, calls: list[tuple[Op, dict[str, Any]]]) -> list[BoundCall]:
        """The calls of a program; a backend that has one kernel for several neighbours binds fewer."""
        return [self.bind(op, arguments) for op, arguments in calls]

    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        """What runs the bound calls of a program, in turn, as often as asked.

        Args:
            calls: what `bind_all` gave, and calls that compute on the host.
            steps_per_launch: how many runs of all calls a GPU may take as one launch; nothing on a CPU.
        """

        def run(times: int) -> None:
            with self.running():
                for _ in range(times):
                    for call in calls:
                        call()

        return run

    def check(self, op: Op, arguments: dict[str, Any]) -> None:
        """Refuse arrays of another backend, arrays that are not C-contiguous, and shapes that do not fit together."""
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
                    "pass a contiguous copy (transposed products have their own arguments)"
                )
        op.check_shapes(arguments)
