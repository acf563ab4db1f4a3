"""Processes that keep processors busy, beside which others are timed."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Semaphore

import numpy as np

_WIDTH = 300


@contextmanager
def busy_processes(kind: str, number: int) -> Iterator[None]:
    """Context in which a number of processes, all at work when it begins, keep processors busy.

    Args:
        kind: one of `KINDS`.
        number: the number of processes; they may have several threads each.
    """
    context = multiprocessing.get_context("spawn")
    at_work = context.Semaphore(0)
    processes = [context.Process(target=_work, args=(kind, at_work, os.getpid()), daemon=True) for _ in range(number)]
    try:
        for process in processes:
            process.start()
        for _ in processes:
            at_work.acquire()
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def _work(kind: str, at_work: Semaphore, parent: int) -> None:
    """Work until the process is killed, or has lost its parent."""
    work = KINDS[kind]()
    work()
    at_work.release()
    while os.getppid() == parent:
        work()


def _spinning() -> Callable[[], None]:
    def spin() -> None:
        for _ in range(1_000_000):
            pass

    return spin


def _multiplying() -> Callable[[], None]:
    a, b = np.random.default_rng(0).random((2, _WIDTH, _WIDTH), np.float32)
    out = np.empty_like(a)

    def multiply() -> None:
        np.matmul(a, b, out=out)
        np.matmul(b, a, out=out)

    return multiply


KINDS: dict[str, Callable[[], Callable[[], None]]] = {"python": _spinning, "numpy": _multiplying}
"""Kinds of work: a loop in Python, on one thread; and matmuls of 300x300 in NumPy, on the threads of its BLAS."""
