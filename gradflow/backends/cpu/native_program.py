"""Programs of bound calls, and epochs of them: one call into C runs them, split across threads (team.c) if that is
faster (pace.c)."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from gradflow.backends.cpu.native_call import CCall, CValue, NativeCall
from gradflow.backends.cpu.phases import phases
from gradflow.backends.cpu.processors import processors
from gradflow.backends.reference import WatchedEpochs
from gradflow.ops import FIRST_BAD_STEP, NEVER

# Approximate cost of a call: each element read or written is 1, about 0.05 ns. The part of a thread should outweigh the
# handover, and if the threads are asleep, must clearly outweigh waking them.
LEAST_PART = 1 << 15
_WORTH_WAKING = 1 << 21
_SHORT = 1 << 16  # a run that costs less ends before another Python thread could have done much

_MOST_THREADS, _ROW_GRAIN = 16, 16  # MOST_THREADS of team.c, GF_ROW_GRAIN of native.h


class CPhase(ctypes.Structure):
    """gf_phase of native.h."""

    _fields_ = [
        ("calls", ctypes.POINTER(CCall)),
        ("count", ctypes.c_longlong),
        ("rows", ctypes.c_longlong),
        ("part", ctypes.c_longlong),
        ("is_shared", ctypes.c_int),
        ("is_worth_waking", ctypes.c_int),
    ]


class CPace(ctypes.Structure):
    """gf_pace of pace.h."""

    _fields_ = [
        ("is_used", ctypes.c_bool),
        ("is_warm", ctypes.c_int),
        ("level", ctypes.c_int),
        ("tried", ctypes.c_int),
        ("steps", ctypes.c_int),
        ("rest", ctypes.c_int),
        ("seconds", ctypes.c_double * 5),
        ("best", ctypes.c_double * 5),
        ("of_trial", ctypes.c_double),
        ("counted", ctypes.c_double),
        ("waited", ctypes.c_double),
        ("next_check", ctypes.c_double),
    ]


class CPart(ctypes.Structure):
    """gf_part of native.c."""

    _fields_ = [
        ("phases", ctypes.POINTER(CPhase)),
        ("count", ctypes.c_longlong),
        ("times", ctypes.c_longlong),
        ("pace", ctypes.POINTER(CPace)),
        ("most", ctypes.c_int),
        ("keeps_awake", ctypes.c_int),
    ]


class CEpochs(ctypes.Structure):
    """gf_epochs of native.c."""

    _fields_ = [
        ("parts", ctypes.POINTER(CPart)),
        ("count", ctypes.c_longlong),
        ("status", ctypes.c_void_p),
        ("words", ctypes.c_longlong),
        ("readings", ctypes.c_void_p),
        ("bad_step", ctypes.c_longlong),
        ("never", ctypes.c_longlong),
        ("trained", ctypes.c_longlong),
        ("decisive", ctypes.c_longlong),
        ("trained_rows", ctypes.c_double),
        ("decisive_rows", ctypes.c_double),
        ("limit", ctypes.c_double),
        ("best", ctypes.c_double),
        ("progress", ctypes.c_double),
        ("takes_ties", ctypes.c_int),
        ("state", ctypes.c_void_p),
        ("best_state", ctypes.c_void_p),
        ("state_bytes", ctypes.c_longlong),
        ("weights", ctypes.c_void_p),
        ("kept", ctypes.c_void_p),
        ("weight_bytes", ctypes.c_longlong),
        ("distance", ctypes.c_longlong),
    ]


class NativeProgram:
    """A sequence of bound functions that one call into C runs any number of times.

    Args:
        library: the compiled kernels.
        threads: the address of a C function that returns the maximum number of threads; None for one thread.
        calls: the functions.
        short: the same library, for runs too short to let other Python threads run meanwhile; None for none.

    Attributes:
        pace: what is known of how fast it runs on how many threads.
        order: the places of the functions in ``calls``, in the order in which they run on one thread.
        values: the arguments of all functions, in this order, 8 bytes each.
        owners: the objects that they point into.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        threads: int | None,
        calls: Sequence[NativeCall],
        short: ctypes.PyDLL | None = None,
    ) -> None:
        self._library = library
        self._short = library if short is None else short
        self._cost = sum(bound.cost for bound in calls)
        self._threads = threads
        grouped = phases([bound.footprint for bound in calls])
        self.order = [place for phase in grouped for place in phase.places]
        self._calls = (CCall * len(calls))(*(calls[place].call for place in self.order))
        self._phases = (CPhase * len(grouped))()
        # Threads that spin while waiting would compete with those of the BLAS.
        self._keeps_awake = not any(bound.footprint.is_lonely for bound in calls)
        self._parts = 0
        for phase, (places, rows) in zip(self._phases, grouped, strict=True):
            phase.count = len(places)
            self._plan(phase, rows, [calls[place] for place in places])
        counts = [len(calls[place].names) for place in self.order]
        self._first_values = np.cumsum([0, *counts[:-1]])
        values = b"".join(
            ctypes.string_at(call.values, count * ctypes.sizeof(CValue))
            for call, count in zip(self._calls, counts, strict=True)
        )
        self._begin(np.frombuffer(bytearray(values), np.uint64))
        self.owners = [bound.owners for bound in calls]

    def again(self, values: np.ndarray) -> Self:
        """Return the same functions, in the same order, with other arguments, which have no owners yet.

        Args:
            values: the arguments, uint64, like those in `values`.
        """
        program = copy(self)
        program._calls = type(self._calls).from_buffer_copy(self._calls)
        program._phases = type(self._phases).from_buffer_copy(self._phases)
        program.owners = []
        program._begin(values)
        return program

    def _begin(self, values: np.ndarray) -> None:
        """Point the calls to their arguments, and the phases to their calls."""
        self.values = values
        _pointers(self._calls, CCall.values.offset)[:] = values.ctypes.data + ctypes.sizeof(CValue) * self._first_values
        first_calls = np.cumsum([0, *(phase.count for phase in self._phases[:-1])])
        calls = _pointers(self._phases, CPhase.calls.offset)
        calls[:] = ctypes.addressof(self._calls) + ctypes.sizeof(CCall) * first_calls
        self._most_threads = min(self._parts, _MOST_THREADS, processors())
        # Before anything is measured: all threads where a single phase is worth waking them.
        is_long = any(phase.is_worth_waking for phase in self._phases)
        level = (self._most_threads - 1).bit_length() if is_long and self._most_threads else 0
        self.pace = CPace(level=level, tried=level)

    def _plan(self, phase: CPhase, rows: int, calls: Sequence[NativeCall]) -> None:
        """Decide how a phase is split, and how many threads it can keep busy."""
        cost = sum(bound.cost for bound in calls)
        phase.rows = rows if len(calls) > 1 else 0
        phase.part = min(max(math.ceil(LEAST_PART * rows / cost), _ROW_GRAIN), rows) if phase.rows and cost else 1
        parts = rows // phase.part if phase.rows else sum(bound.call.items // bound.call.part for bound in calls)
        phase.is_shared = parts > 1 and cost >= 2 * LEAST_PART
        phase.is_worth_waking = parts > 1 and cost >= _WORTH_WAKING
        if phase.is_worth_waking or (phase.is_shared and self._keeps_awake):
            self._parts = max(self._parts, parts)

    def _part(self, times: int) -> CPart:
        """Return the program as a part of an epoch."""
        phases, pace = self._phases, ctypes.pointer(self.pace)
        return CPart(phases, len(phases), times, pace, self._most_threads, self._keeps_awake)

    def __call__(self, times: int = 1) -> None:
        library = self._short if times * self._cost < _SHORT else self._library
        library.gf_run(
            self._phases, len(self._phases), times, self.pace, self._threads, self._most_threads, self._keeps_awake
        )


class NativeEpochs:
    """Several epochs that one call into C runs (`gradflow.backends.reference.SeveralEpochs`).

    Args:
        library: the compiled kernels.
        threads: as for the programs.
        parts: the programs of an epoch, and how many times each of them runs.
        watched: what happens after each epoch.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        threads: int | None,
        parts: Sequence[tuple[NativeProgram, int]],
        watched: WatchedEpochs,
    ) -> None:
        self._library, self._threads, self._kept = library, threads, (parts, watched)
        self._parts = (CPart * len(parts))(*(program._part(times) for program, times in parts))
        status, readings, kept = watched.status, watched.readings, watched.kept
        self._epochs = CEpochs(
            parts=self._parts,
            count=len(parts),
            status=status.ctypes.data,
            words=len(status),
            readings=readings.ctypes.data,
            bad_step=FIRST_BAD_STEP,
            never=NEVER,
            trained=watched.trained[0],
            decisive=watched.decisive[0],
            trained_rows=watched.trained[1],
            decisive_rows=watched.decisive[1],
            progress=watched.progress,
            takes_ties=watched.takes_ties,
            state=watched.state.ctypes.data,
            best_state=watched.best_state.ctypes.data,
            state_bytes=watched.state.nbytes,
            weights=watched.weights.ctypes.data,
            kept=kept.ctypes.data,
            weight_bytes=watched.weights.nbytes,
            distance=kept.strides[0],
        )

    def run(self, most: int, *, best: float, limit: float, seconds: float) -> int:
        self._epochs.best, self._epochs.limit = best, limit
        return int(self._library.gf_run_epochs(self._epochs, most, seconds, self._threads))


def _pointers(structures: ctypes.Array[Any], offset: int) -> np.ndarray:
    """Return a view of a pointer in each of several structures."""
    size, data = ctypes.sizeof(structures) // len(structures), np.frombuffer(memoryview(structures), np.uint8)
    return np.ndarray(len(structures), np.uintp, data, offset, (size,))
