"""Memory that all ranks of one machine see, and sums through it: a fraction of the time of messages."""

from __future__ import annotations

import itertools
import mmap
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from gradflow.distributed.base import World

_FOLDER = "/dev/shm"

_PIECE = 2**19
"""Bytes that a rank shows to the others at once, so that they stay in the cache."""
_LINE = 128
"""Bytes that keep the counter of a rank and its data in different lines of the cache."""
_ROOM = _LINE + 2 * _PIECE
_SMALL = 2**14
"""Bytes up to which every rank adds the whole arrays: one wait in place of two."""

Waiting = Callable[[Callable[[], Sequence[int]]], Iterator[None]]
"""Polls until its consumer stops; takes a function that returns the ranks which it waits for."""


def shared_memory(world: World, waiting: Waiting) -> SharedMemory | None:
    """Return memory that all ranks share; None if they are on several machines, or this kind of machine may reorder
    what a rank writes."""
    if os.name != "posix" or platform.machine() not in ("x86_64", "AMD64"):
        return None
    memory = _mapped(world, world.size * _ROOM)
    return None if memory is None else SharedMemory(memory, world, waiting)


def _mapped(world: World, n_bytes: int) -> mmap.mmap | None:
    """Return so many bytes that all ranks share; None on all of them if one cannot have them."""
    path, memory = _created(n_bytes) if world.rank == 0 else (None, None)
    path, mark = world.gathered((path, memory and memory[:_LINE]))[0]
    if path is None:
        return None
    if world.rank:
        with suppress(OSError, ValueError), open(path, "r+b") as file:
            memory = mmap.mmap(file.fileno(), n_bytes)
    is_same = memory is not None and memory[:_LINE] == mark  # in another container, the path is another file or none
    is_everywhere = all(world.gathered(is_same))
    if world.rank == 0:
        os.unlink(path)
    return memory if is_everywhere else None


def _created(n_bytes: int) -> tuple[str | None, mmap.mmap | None]:
    """Create a file in memory, with random numbers in front; return its path, and its content."""
    try:
        number, path = tempfile.mkstemp(prefix="gradflow-", dir=_FOLDER if os.path.isdir(_FOLDER) else None)
    except OSError:
        return None, None
    try:
        os.posix_fallocate(number, 0, n_bytes)  # or a full disk would end the process later
        memory = mmap.mmap(number, n_bytes)
    except OSError:
        os.unlink(path)
        return None, None
    finally:
        os.close(number)
    memory[:_LINE] = os.urandom(_LINE)
    return path, memory


class SharedMemory:
    """Memory of all ranks, in which each shows its arrays piece by piece, in two buffers that take turns.

    Args:
        memory: the bytes.
        world: the ranks.
        waiting: polls for other ranks.
    """

    def __init__(self, memory: mmap.mmap, world: World, waiting: Waiting) -> None:
        self.rank, self.size = world.rank, world.size
        self._world, self._waiting = world, waiting
        self._rooms: list[np.ndarray] = []
        parts = np.frombuffer(memory, np.uint8).reshape(self.size, _ROOM)
        self._counters = [part[:8].view(np.int64) for part in parts]
        ends = range(_LINE, _ROOM + 1, _PIECE)
        self._buffers = [[part[first:end] for part in parts] for first, end in itertools.pairwise(ends)]
        self._count = 0
        self._counters[self.rank][0] = 0
        world.gathered(None)  # until the counters of all are 0

    def begin(self, turn: int) -> None:
        """Begin to count anew, for the same turn on all ranks: an error may have ended the previous one anywhere."""
        self._count = turn << 32

    def room(self, n_bytes: int) -> np.ndarray | None:
        """Return memory of this rank that the others see, uint8, whose content is arbitrary; None if there is none.

        All ranks ask for as much at the same time. They get the memory of the last time again, if it is large enough.
        """
        n_bytes = -(-n_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        if not self._rooms or len(self._rooms[0]) < n_bytes:
            memory = _mapped(self._world, self.size * n_bytes)
            if memory is None:
                return None
            self._rooms = list(np.frombuffer(memory, np.uint8).reshape(self.size, n_bytes))
        return self._rooms[self.rank][:n_bytes]

    def of_ranks(self, array: np.ndarray) -> list[np.ndarray] | None:
        """Return the arrays at the place of this one in the `room` of each rank; None if it lies elsewhere."""
        if not self._rooms:
            return None
        first = array.ctypes.data - self._rooms[self.rank].ctypes.data
        if not 0 <= first <= len(self._rooms[0]) - array.nbytes:
            return None
        return [room[first : first + array.nbytes].view(array.dtype).reshape(array.shape) for room in self._rooms]

    def meet(self) -> None:
        """Wait until all ranks are here, and see what the others have written."""
        self._show()
        self._wait()
        self._count += 1  # two for each meeting, as for each piece of a sum

    def add(self, flat: np.ndarray, divisor: int = 1) -> None:
        """Replace an array (n,) by its sum over the ranks, added in their order, divided by a number."""
        for first in range(0, len(flat), step := _PIECE // flat.itemsize):
            piece = flat[first : first + step]
            buffer = self._buffers[self._count // 2 % 2]
            parts = [of_rank[: piece.nbytes].view(piece.dtype) for of_rank in buffer]
            parts[self.rank][:] = piece
            self._show()
            self._wait()
            if piece.nbytes <= _SMALL:
                add_in_order(parts, piece, divisor)
                self._count += 1  # two for each piece
            else:
                self._add_blocks(piece, parts, divisor)

    def _add_blocks(self, piece: np.ndarray, parts: Sequence[np.ndarray], divisor: int) -> None:
        """Let each rank add a block of the piece, and show the sum."""
        ends = [len(piece) * rank // self.size for rank in range(self.size + 1)]
        blocks = [slice(*pair) for pair in itertools.pairwise(ends)]
        own = blocks[self.rank]
        add_in_order([part[own] for part in parts], piece[own], divisor)
        parts[self.rank][own] = piece[own]
        self._show()
        self._wait()
        for rank, block in enumerate(blocks):
            if rank != self.rank:
                piece[block] = parts[rank][block]

    def _show(self) -> None:
        self._count += 1
        self._counters[self.rank][0] = self._count

    def _wait(self) -> None:
        """Wait until all ranks have shown as much."""

        def missing() -> list[int]:
            return [rank for rank, counter in enumerate(self._counters) if counter[0] < self._count]

        for _ in self._waiting(missing):
            if not missing():
                break


def add_in_order(parts: Sequence[np.ndarray] | np.ndarray, out: np.ndarray, divisor: int = 1) -> None:
    """Add arrays, from the first to the last, and divide the sum."""
    with np.errstate(all="ignore"):
        np.add(parts[0], parts[1], out=out)
        for part in parts[2:]:
            out += part
        if divisor > 1:
            out *= out.dtype.type(1 / divisor)
