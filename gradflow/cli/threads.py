"""The gain from several threads on this machine as it is now, measured for ``gradflow info``."""

from __future__ import annotations

import os
import re
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradflow.backends.blas import using_threads
from gradflow.backends.cpu.native import NativeLibrary
from gradflow.backends.cpu.native_program import NativeProgram
from gradflow.backends.cpu.processors import processors
from gradflow.layers.dense import gemm

_SECONDS = 0.05
_ROWS, _COLUMNS, _PRODUCTS = 512, 256, 4  # each product has work for all threads, and all take a millisecond or two
_MOST_THREADS = 16  # of gradflow's kernels


class ThreadGain(NamedTuple):
    """A comparison of all threads with one.

    Attributes:
        threads: how many a program may use; it uses fewer while that is faster.
        speedup: how many times as fast as on one, undisturbed, it is on all.
        busy_elsewhere: how many of this process's processors other work kept busy meanwhile; None if unknown.
    """

    threads: int
    speedup: float
    busy_elsewhere: float | None

    def __str__(self) -> str:
        gain = f"{self.speedup:.1f} times as fast as one" if self.speedup >= 1.05 else "no faster than one"
        text = f"{self.threads} threads: {gain}"
        if self.speedup > 0.75 * self.threads or (self.busy_elsewhere or 0) < 0.25 * self.threads:
            return text
        return f"{text}: other work keeps {self.busy_elsewhere:.1f} of {processors()} processors busy"


def thread_gain(library: NativeLibrary) -> ThreadGain | None:
    """Run products on one thread and on all, in turn, for a moment; None if there is only one."""
    most = 1 if library.blas is None else library.blas.threads or 1
    threads = min(most, processors(), _MOST_THREADS)
    if threads == 1:
        return None
    x, weight = np.ones((_ROWS, _COLUMNS), np.float32), np.ones((_COLUMNS, _COLUMNS), np.float32)
    product = library.bind(gemm, gemm.arguments(x, weight, np.empty_like(x)))
    assert product is not None
    # A new program runs on all threads at first.
    alone, together = [], []
    began, busy, own = time.perf_counter(), _busy_seconds(), time.process_time()
    while (passed := time.perf_counter() - began) < _SECONDS:
        with using_threads(library.blas, 1):
            alone.append(_seconds(library.program([product] * _PRODUCTS)))
        together.append(_seconds(library.program([product] * _PRODUCTS)))
    own, busy_now, elsewhere = time.process_time() - own, _busy_seconds(), None
    if busy is not None and busy_now is not None:
        elsewhere = min(max(busy_now - busy - own, 0) / passed, processors())
    return ThreadGain(threads, min(alone) / statistics.median(together), elsewhere)


def _seconds(program: NativeProgram) -> float:
    began = time.perf_counter()
    program()
    return time.perf_counter() - began


def _busy_seconds() -> float | None:
    """Return how long this process's processors have been busy since the system started; None if it does not say."""
    try:
        lines = re.findall(r"^cpu(\d+) (.+)$", Path("/proc/stat").read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    allowed, ticks = os.sched_getaffinity(0), 0
    for number, fields in lines:
        user, nice, system, _idle, _waiting, *interrupts_and_stolen = map(int, fields.split()[:8])
        if int(number) in allowed:
            ticks += user + nice + system + sum(interrupts_and_stolen)
    return ticks / os.sysconf("SC_CLK_TCK")
