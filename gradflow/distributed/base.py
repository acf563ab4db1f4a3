"""`World`: the processes that train together. The base class is a world of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from gradflow.backends.reference import BoundCall, ReferenceBackend
from gradflow.ops import Array


@dataclass
class Ending:
    """The way in which a rank leaves work that all ranks do together.

    Attributes:
        is_interrupted: True if a signal asked this rank to end, which the others are told.
    """

    is_interrupted: bool = False


class World:
    """The processes that train together, and the four operations that they share. This class is a world of one.

    All ranks must call the same operations in the same order.

    Attributes:
        rank: the number of this process, from 0. Rank 0 prints and writes files.
        size: the number of processes.
        threads: the number of threads that leaves other ranks on the same processors theirs; None if there are none, or
            an environment variable, such as OMP_NUM_THREADS, says it.
    """

    rank: int = 0
    size: int = 1
    threads: int | None = None

    def on(self, backend: ReferenceBackend) -> World:
        """Return the world whose operations take arrays of this backend.

        Raises:
            BackendError: if there is none, or a rank cannot make it.
        """
        return self

    def rows(self, rows: int, rank: int | None = None) -> range:
        """Return which of the rows of a batch a rank computes: as many as the others, but for up to 4; maybe none.

        The first is a multiple of 4: the random numbers of dropout come in fours.

        Args:
            rows: the rows of the batch.
            rank: the rank; None for this one.
        """
        fours, rank = -(-rows // 4), self.rank if rank is None else rank
        first, end = (min(4 * -(-place * fours // self.size), rows) for place in (rank, rank + 1))
        return range(first, end)

    def share_all(self, rows: int) -> bool:
        """True if so many rows leave no rank without one."""
        return -(-rows // 4) >= self.size

    def allreduce_(self, array: Array, stream: Any = None) -> None:
        """Replace an array, contiguous and of the same shape and dtype on all ranks, by its sum over the ranks.

        On the CPU the terms are added in the order of the ranks, so that a number of ranks determines the bits. All
        ranks get the same bits.

        Args:
            array: the array.
            stream: the CUDA stream of the operation; None for that of the backend, and on the CPU.

        Raises:
            RankError: if another rank failed, or did not call it within the time limit.
        """

    def takes_means(self, rows: int) -> bool:
        """True if the mean over the ranks costs as little as the sum, and is that of so many rows: all have as many."""
        return False

    def sums(self, array: Array, *, is_mean: bool = False) -> BoundCall:
        """Return `allreduce_` of an array as a call of a program: a CUDA graph can contain that of GPUs.

        Args:
            array: the array.
            is_mean: True for the mean, where `takes_means` is.
        """
        return partial(self.allreduce_, array)

    def shares_updates(self, n_bytes: int) -> bool:
        """True if each rank should update a block of the parameters, of so many bytes, instead of all of them."""
        return False

    def room(self, n_bytes: int) -> Array | None:
        """Return memory of this rank that the others see, uint8, for `of_ranks`; None if there is none.

        All ranks must ask for as much. It is the same memory each time, if it is large enough.
        """
        return None

    def of_ranks(self, array: Array) -> list[Array] | None:
        """Return the arrays at the place of this one in the `room` of each rank; None if it lies elsewhere.

        Between two calls of `meet`, what a rank reads no other may write.
        """
        return None

    def meet(self) -> None:
        """Wait until all ranks are here, and see what the others have written. Raises as `allreduce_` does."""

    def trade_blocks(self, array: Array, blocks: Sequence[slice], received: Sequence[Array]) -> None:
        """Send each rank its block of an array, and receive those of this rank's block.

        Args:
            array: the array (n,).
            blocks: the block of each rank.
            received: receives the block of this rank from each other rank.

        Raises:
            RankError: as `allreduce_`.
        """

    def collect_blocks(self, array: Array, blocks: Sequence[slice]) -> None:
        """Replace the block of each other rank, in an array (n,), by that rank's. Raises as `allreduce_` does."""

    def check_programs(self) -> None:
        """Raise if the programs that this rank and others have bound cannot run together.

        Raises:
            BackendError: naming the rank.
        """

    def broadcast_(self, array: Array, root: int = 0) -> None:
        """Replace an array by that of rank ``root``. Raises as `allreduce_` does."""

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all ranks, any objects that can be pickled, in their order. Raises as `allreduce_`."""
        return [value]

    def look_for_failures(self, *, since: float, missing: Callable[[], Sequence[int]] = tuple) -> None:
        """Raise if another rank has left because of an error, or the time is up.

        Args:
            since: the time, by `time.monotonic`, at which this rank began to wait for others.
            missing: returns the ranks that it waits for; none if that is not known.

        Raises:
            RankError: naming the rank.
        """

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Context without a time limit, for ranks that work for themselves and finish at different times."""
        yield

    @contextmanager
    def together(self) -> Iterator[Ending]:
        """Context of work that all ranks do together: none leaves it before all do, or one fails.

        Raises:
            RankError: at the end, or from an operation, if another rank failed or was interrupted; it names the rank.
        """
        yield Ending()
