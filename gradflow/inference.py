"""Prediction programs: recorded for a number of rows, and kept for the next call with as many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gradflow.access import Access
from gradflow.ops import Array
from gradflow.program import Program

_KEPT_ROWS = 16384
"""Maximum total number of rows of a network's idle programs, times members, which limits the memory of their arrays."""


class Inference(NamedTuple):
    """A program with the arrays that it reads and writes.

    Attributes:
        program: computes y from x.
        x: inputs, shape (rows, n_in).
        y: outputs, shape (rows, n_out).
    """

    program: Program
    x: Array
    y: Array


class InferencePrograms:
    """The idle programs of a network. Each call has one to itself, so that threads do not share arrays.

    The smallest are kept longest, so that a prediction for one row finds its program whatever sizes came before.

    Args:
        access: its lock guards the idle programs.
        record: records a program for a number of rows, with or without the output activation.
        members: the members of an ensemble, each of which has arrays of as many rows.
    """

    def __init__(self, access: Access, record: Callable[[int, bool], Inference], *, members: int = 1) -> None:
        self._access, self._record = access, record
        self._most_idle_rows = _KEPT_ROWS // members
        self._idle: dict[tuple[int, bool], list[Inference]] = {}
        self._idle_rows = 0

    def take(self, rows: int, *, activated: bool) -> Inference:
        """Return a program that belongs to the caller until `put_back`."""
        key = rows, activated
        with self._access.lock:
            if key in self._idle:
                return self._pop(key)
        return self._record(rows, activated)

    def put_back(self, inference: Inference, *, activated: bool) -> None:
        """Keep a program for the next call. After an error do not call this: the device may still be using it."""
        with self._access.lock:
            self._idle.setdefault((len(inference.x), activated), []).append(inference)
            self._idle_rows += len(inference.x)
            while self._idle_rows > self._most_idle_rows:
                self._pop(max(self._idle))

    def clear(self) -> None:
        """Discard all programs; none may be in use."""
        with self._access.lock:
            self._idle = {}
            self._idle_rows = 0

    def _pop(self, key: tuple[int, bool]) -> Inference:
        inference = self._idle[key].pop()
        self._idle_rows -= key[0]
        if not self._idle[key]:
            del self._idle[key]
        return inference
