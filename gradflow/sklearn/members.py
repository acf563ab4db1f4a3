"""Several fits of estimators at once, each on one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.distributed import World
from gradflow.errors import RankError
from gradflow.pack.threads import one_thread_each
from gradflow.training.signals import Interruption, interrupt

_BETWEEN_LOOKS = 0.05  # seconds after which a request to end is seen


def may_use_gpu(estimator: Any) -> bool:
    """True if an estimator may train on a GPU, where fits run one after the other."""
    return estimator.backend == "cupy" or (estimator.backend == "auto" and gpu_problem() is None)


def fit_at_once(fits: Sequence[Callable[[], object]], threads: int | None, ranks: World) -> None:
    """Run fits on the CPU, as many at a time as there are threads; None for one on each processor that may be used.

    Raises:
        KeyboardInterrupt: after Ctrl-C, when the fits that had begun have ended after their current step.
        RankError: if another rank failed, likewise.
        Exception: the first error, likewise.
    """
    idents: set[int] = set()
    waiting, must_end = iter(fits), threading.Event()
    of_another: RankError | None = None

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
        interruption.wakers = [must_end.set, lambda: interrupt(idents)]  # before a second signal can act
        futures = [pool.submit(copy_context().run, work) for _ in range(min(most, len(fits)))]
        left = set(futures)
        while left:
            ended, left = wait(left, timeout=_BETWEEN_LOOKS, return_when="FIRST_COMPLETED")
            of_another = of_another or _failure(ranks)
            has_failed = of_another is not None or any(future.exception() for future in ended)
            if must_end.is_set() or interruption.requested or has_failed:
                must_end.set()
                interrupt(idents)  # again and again, since a fit that still validates has nothing to interrupt
    for future in futures:
        future.result()
    if of_another is not None:
        raise of_another


def _failure(ranks: World) -> RankError | None:
    """Return the error of another rank that has failed meanwhile."""
    try:
        ranks.look_for_failures(since=time.monotonic())
    except RankError as error:
        return error
    return None
