"""Several fits of estimators at once, each on one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.pack.threads import one_thread_each
from gradflow.training.signals import Interruption, interrupt

_BETWEEN_LOOKS = 0.05  # seconds after which a request to end is seen


def may_use_gpu(estimator: Any) -> bool:
    """True if an estimator may train on a GPU, where fits run one after the other."""
    return estimator.backend == "cupy" or (estimator.backend == "auto" and gpu_problem() is None)


def fit_at_once(fits: Sequence[Callable[[], object]], threads: int | None) -> None:
    """Run fits on the CPU, as many at a time as there are threads; None for one on each processor that may be used.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the fits that had begun have ended after their current step.
        Exception: the first error, likewise.
    """
    idents: set[int] = set()
    waiting, must_end = iter(fits), threading.Event()

    def work() -> None:
        idents.add(threading.get_ident())
        for fit in waiting:
            if must_end.is_set():
                return
            fit()

    with (
        Interruption() as interruption,
        one_thread_each(get_backend("numpy"), threads) as most,
        ThreadPoolExecutor(most) as pool,
    ):
        futures = [pool.submit(copy_context().run, work) for _ in range(min(most, len(fits)))]
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=_BETWEEN_LOOKS, return_when="FIRST_COMPLETED")
            if must_end.is_set() or interruption.requested or any(future.exception() for future in ended):
                must_end.set()
                interrupt(idents)  # again and again, since a fit that still validates has nothing to interrupt
    for future in futures:
        future.result()
