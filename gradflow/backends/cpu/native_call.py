"""Calls of compiled kernels: a function with its arguments, the arrays that it touches, and what it costs."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple


class CValue(ctypes.Union):
    """gf_value of native.h."""

    _fields_ = [("pointer", ctypes.c_void_p), ("integer", ctypes.c_longlong), ("number", ctypes.c_double)]


class CCall(ctypes.Structure):
    """gf_call of native.h."""

    _fields_ = [
        ("function", ctypes.c_void_p),
        ("values", ctypes.POINTER(CValue)),
        ("items", ctypes.c_longlong),
        ("grain", ctypes.c_longlong),
        ("part", ctypes.c_longlong),
        ("per_row", ctypes.c_longlong),
        ("per_item", ctypes.c_longlong),
        ("items_of", ctypes.c_void_p),
        ("size", ctypes.c_longlong),
        ("first", ctypes.c_longlong),
    ]


class ArrayUse(NamedTuple):
    """An array that a call reads or writes, from one address to another.

    Attributes:
        begin, end: the addresses.
        is_written: True if the call writes it.
        is_by_row: True if the call, split by rows, touches only the same row of the array.
    """

    begin: int
    end: int
    is_written: bool
    is_by_row: bool

    def collides(self, other: ArrayUse) -> bool:
        """True if the order of the two uses matters."""
        return (self.is_written or other.is_written) and self.begin < other.end and other.begin < self.end

    def is_same_rows(self, other: ArrayUse) -> bool:
        """True if both touch the same rows of one array, each its own."""
        return self.is_by_row and other.is_by_row and self[:2] == other[:2]


class Footprint(NamedTuple):
    """The arrays that a call touches, and the rows that it can be split by.

    Attributes:
        uses: the arrays.
        rows: number of rows that it can be split by; 0 if it cannot.
        is_lonely: True if no other call may run at the same time.
    """

    uses: tuple[ArrayUse, ...]
    rows: int = 0
    is_lonely: bool = False

    def collides(self, other: Footprint) -> bool:
        """True if the order of the two calls matters."""
        return any(ours.collides(theirs) for ours in self.uses for theirs in other.uses)

    def can_follow_by_row(self, earlier: Footprint) -> bool:
        """True if each row of this call may be computed as soon as the same row of an earlier call."""
        return all(
            ours.is_same_rows(theirs) or not ours.collides(theirs) for ours in self.uses for theirs in earlier.uses
        )


class NativeCall:
    """A function of the library bound to its arguments; it keeps the arrays that they point into alive.

    Args:
        call: the function with its arguments.
        cost: its approximate cost on one thread.
        footprint: the arrays that it touches, and the rows that it can be split by.
        names: the names of the op's arguments that the function takes, in its order; others for what it takes besides.

    Attributes:
        owners: the objects that the arguments point into.
    """

    def __init__(self, call: CCall, cost: int, footprint: Footprint, names: Sequence[str]) -> None:
        self.call = call
        self.cost = cost
        self.footprint = footprint
        self.owners: Sequence[Any] = ()
        self.names = tuple(names)
