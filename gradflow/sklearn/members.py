"""Several fits of estimators at once, each on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.pack.threads import one_thread_each


def may_use_gpu(estimator: Any) -> bool:
    """True if an estimator may train on a GPU, where fits run one after the other."""
    return estimator.backend == "cupy" or (estimator.backend == "auto" and gpu_problem() is None)


def fit_at_once(fits: Sequence[Callable[[], object]], threads: int | None) -> None:
    """Run fits on the CPU, as many at a time as there are threads; None for one on each processor that may be used.

    Raises:
        Exception: the first error, after the fits that had begun have ended.
    """
    with one_thread_each(get_backend("numpy"), threads) as most, ThreadPoolExecutor(most) as pool:
        futures = [pool.submit(copy_context().run, fit) for fit in fits]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
