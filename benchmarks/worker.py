"""A contestant in its own process, which waits without using the processor until it is asked to run.

Libraries do not share a process well: the threads of one spin while another works, and each sets the process's thread
counts.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from benchmarks.contestants import contestant
from benchmarks.networks import Network

_PREDICTIONS = 200
_LEAST_SECONDS = 0.03  # of a measurement of steps: after a pause, threads take milliseconds to wake up


class WorkerError(Exception):
    """A contestant failed; the message is its traceback."""


class Remote:
    """An object in a process of its own, which ends with this process, however this one ends.

    Args:
        make: returns the object, in the new process; `wait` waits until it has.
    """

    def __init__(self, make: Callable[[], object]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, make), daemon=True)
        self._process.start()
        other_end.close()

    def call(self, method: str, *arguments: Any, limit: float | None = None) -> Any:
        """Return what the object's method returns, as `wait` does."""
        try:
            self._connection.send((method, arguments))
        except OSError:
            raise self._ended() from None
        return self.wait(limit)

    def wait(self, limit: float | None = None) -> Any:
        """Return the next answer.

        Raises:
            WorkerError: if the method raised an exception, or the process ended.
            TimeoutError: if there is none within the limit, in seconds; the process was killed.
        """
        try:
            if not self._connection.poll(None if limit is None else max(limit, 0)):
                self.kill()
                raise TimeoutError(f"no answer within {limit:.0f} s")
            succeeded, answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if not succeeded:
            raise WorkerError(answer)
        return answer

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Let the process end, and wait until it has."""
        self._connection.close()
        self._process.join()

    def _ended(self) -> WorkerError:
        self._process.join()
        return WorkerError(f"the process ended with {self._process.exitcode} before it answered")


def _serve(connection: Connection, make: Callable[[], object]) -> None:
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    try:
        made, answer = make(), None
        while True:
            connection.send((True, answer))
            method, arguments = connection.recv()
            answer = getattr(made, method)(*arguments)
    except (EOFError, ConnectionError):
        return
    except Exception:
        connection.send((False, traceback.format_exc()))


def _end_with_the_parent() -> None:
    """End this process when its parent ends, even if it hangs, or its parent is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Worker:
    """A contestant in its own process, ready to train.

    Args:
        name: one of `benchmarks.contestants.CONTESTANTS`.
        network: the network to train.
        optimizer: "sgd" or "adam".

    Raises:
        WorkerError: if the contestant cannot be created.
    """

    def __init__(self, name: str, network: Network, optimizer: str) -> None:
        self._remote = Remote(partial(_Timed, name, network, optimizer))
        self._remote.wait()

    def losses(self, steps: int) -> list[float]:
        """Return the loss of each of the first steps; must be called first."""
        measured: list[float] = self._remote.call("losses", steps)
        return measured

    def seconds_per_step(self) -> float:
        """Return the time per step over one epoch, after an untimed one."""
        seconds: float = self._remote.call("seconds_per_step")
        return seconds

    def seconds_per_epoch(self, least: float, limit: float) -> float:
        """Return the mean time of as many epochs as take the given seconds.

        Raises:
            TimeoutError: if an epoch takes longer than the limit; the process was killed.
        """
        seconds: float = self._remote.call("seconds_per_epoch", least, limit=least + limit)
        return seconds

    def seconds_per_prediction(self) -> float:
        """Return the time to predict one row, over many calls after an untimed one."""
        seconds: float = self._remote.call("seconds_per_prediction")
        return seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remote.close()


class _Timed:
    """A contestant with the measurements of `Worker`, in the process of its own."""

    def __init__(self, name: str, network: Network, optimizer: str) -> None:
        self._contestant = contestant(name, network, optimizer)
        self._steps = network.steps
        self.losses = self._contestant.losses

    def seconds_per_step(self) -> float:
        once = seconds_of(self._contestant.train, 1)
        return seconds_of(self._contestant.train, max(1, math.ceil(_LEAST_SECONDS / once))) / self._steps

    def seconds_per_epoch(self, least: float) -> float:
        began = time.perf_counter()
        epochs, passed = 0, 0.0
        while not epochs or passed < least:
            self._contestant.train()
            epochs, passed = epochs + 1, time.perf_counter() - began
        return passed / epochs

    def seconds_per_prediction(self) -> float:
        return seconds_of(self._contestant.predict_one, _PREDICTIONS)


def seconds_of(run: Callable[[], object], times: int) -> float:
    """Return the mean time of a call, after an untimed one."""
    run()
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times
