"""A contestant in its own process, which waits without using the processor until it is asked to run.

Libraries do not share a process well: the threads of one spin while another works, and each sets the process's thread
counts.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from benchmarks.contestants import contestant
from benchmarks.networks import Network

_PREDICTIONS = 200


class WorkerError(Exception):
    """A contestant failed; the message is its traceback."""


class Worker:
    """The parent's end of the connection to the process.

    Args:
        name: one of `benchmarks.contestants.CONTESTANTS`.
        network: the network to train.
        optimizer: "sgd" or "adam".

    Raises:
        WorkerError: if the contestant cannot be created.
    """

    def __init__(self, name: str, network: Network, optimizer: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end, name, network, optimizer), daemon=True)
        self._process.start()
        other_end.close()
        self._answer()

    def losses(self, steps: int) -> list[float]:
        """Return the loss of each of the first steps; must be called first."""
        measured: list[float] = self._ask("losses", steps)
        return measured

    def seconds_per_step(self) -> float:
        """Return the time per step over one epoch, after an untimed one."""
        seconds: float = self._ask("seconds_per_step")
        return seconds

    def seconds_per_epoch(self, least: float, limit: float) -> float:
        """Return the mean time of as many epochs as take the given seconds.

        Raises:
            TimeoutError: if an epoch takes longer than the limit; the process was killed.
        """
        self._connection.send(("seconds_per_epoch", least))
        if not self._connection.poll(least + limit):
            self._process.kill()
            raise TimeoutError(f"an epoch took longer than {limit} s")
        seconds: float = self._answer()
        return seconds

    def device_seconds_per_step(self) -> float:
        """Return the time per step of a contestant on a GPU, measured by events on its stream."""
        seconds: float = self._ask("device_seconds_per_step")
        return seconds

    def seconds_per_prediction(self) -> float:
        """Return the time to predict one row, over many calls after an untimed one."""
        seconds: float = self._ask("seconds_per_prediction")
        return seconds

    def _ask(self, *request: Any) -> Any:
        self._connection.send(request)
        return self._answer()

    def _answer(self) -> Any:
        try:
            succeeded, answer = self._connection.recv()
        except EOFError:
            self._process.join()
            raise WorkerError(f"the process ended with {self._process.exitcode} before it answered") from None
        if not succeeded:
            raise WorkerError(answer)
        return answer

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, name: str, network: Network, optimizer: str) -> None:
    try:
        contest: Any = contestant(name, network, optimizer)
        connection.send((True, None))
        while True:
            request, *arguments = connection.recv()
            if request == "losses":
                answer: Any = contest.losses(*arguments)
            elif request == "seconds_per_step":
                answer = seconds_of(contest.train, 1) / network.steps
            elif request == "seconds_per_epoch":
                answer = _seconds_per_run(contest.train, *arguments)
            elif request == "device_seconds_per_step":
                contest.train()
                answer = contest.device_seconds() / network.steps
            else:
                answer = seconds_of(contest.predict_one, _PREDICTIONS)
            connection.send((True, answer))
    except EOFError:
        return
    except Exception:
        connection.send((False, traceback.format_exc()))


def _seconds_per_run(run: Callable[[], object], least: float) -> float:
    """Return the mean time of as many calls as take the given seconds."""
    began = time.perf_counter()
    calls, passed = 0, 0.0
    while not calls or passed < least:
        run()
        calls, passed = calls + 1, time.perf_counter() - began
    return passed / calls


def seconds_of(run: Callable[[], object], times: int) -> float:
    """Return the mean time of a call, after an untimed one."""
    run()
    began = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - began) / times
