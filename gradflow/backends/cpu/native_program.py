"""Programs of bound calls: one call into C runs them, split across threads (team.c) if that is faster (pace.c)."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

from gradflow.backends.cpu.native_call import CCall, NativeCall
from gradflow.backends.cpu.phases import phases
from gradflow.backends.cpu.processors import processors

# Approximate cost of a call: each element read or written is 1, about 0.05 ns. The part of a thread should outweigh the
# handover, and if the threads are asleep, must clearly outweigh waking them.
LEAST_PART = 1 << 15
_WORTH_WAKING = 1 << 21

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


class NativeProgram:
    """A sequence of bound functions that one call into C runs any number of times.

    Args:
        library: the compiled kernels.
        threads: the address of a C function that returns the maximum number of threads; None for one thread.
        calls: the functions.

    Attributes:
        pace: what is known of how fast it runs on how many threads.
    """

    def __init__(self, library: ctypes.CDLL, threads: int | None, calls: Sequence[NativeCall]) -> None:
        self._library = library
        self._owners = tuple(calls)
        self._threads = threads
        grouped = phases([bound.footprint for bound in calls])
        self._calls = (CCall * len(calls))(*(calls[place].call for phase in grouped for place in phase.places))
        self._phases = (CPhase * len(grouped))()
        # Threads that spin while waiting would compete with those of the BLAS.
        self._keeps_awake = not any(bound.footprint.is_lonely for bound in calls)
        first = self._most_threads = 0
        for phase, (places, rows) in zip(self._phases, grouped, strict=True):
            phase.calls = ctypes.pointer(self._calls[first])
            phase.count = len(places)
            first += len(places)
            self._plan(phase, rows, [calls[place] for place in places])
        self._most_threads = min(self._most_threads, _MOST_THREADS, processors())
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
            self._most_threads = max(self._most_threads, parts)

    def __call__(self, times: int = 1) -> None:
        self._library.gf_run(
            self._phases, len(self._phases), times, self.pace, self._threads, self._most_threads, self._keeps_awake
        )
