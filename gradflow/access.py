"""Thread access to a network: many threads may read at once, and one may train it or set its weights."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from gradflow.errors import GradflowError


class Access:
    """Coordinates the threads that use one network, so that none reads weights while another changes them.

    Predictions run concurrently. Setting weights waits for running predictions, and later ones wait for it. Training
    takes too long to wait for, so other threads get an error until it ends. The training thread itself, in a callback,
    may do anything except train the network again.
    """

    def __init__(self) -> None:
        self._writer: int | None = None
        self._trainer: int | None = None
        self._readers: dict[int, int] = {}  # number of open reading contexts by thread
        self._forget_other_threads()
        _LIVING.add(self)

    def _forget_other_threads(self) -> None:
        thread = threading.get_ident()
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._readers = {thread: self._readers[thread]} if thread in self._readers else {}

    @property
    def is_training(self) -> bool:
        """True while a thread is training the network."""
        return self._trainer is not None

    def reading(self) -> Reading:
        """Return a context in which the weights do not change.

        Raises:
            GradflowError: if another thread trains the network.
        """
        return Reading(self)

    def begin_reading(self) -> None:
        """Enter a `reading` context."""
        thread = threading.get_ident()
        with self.lock:
            if thread not in (self._trainer, self._writer) and thread not in self._readers:
                self._wait_for_writer()
            self._readers[thread] = self._readers.get(thread, 0) + 1

    def end_reading(self) -> None:
        """Leave a `reading` context."""
        thread = threading.get_ident()
        with self.lock:
            self._readers[thread] -= 1
            if not self._readers[thread]:
                del self._readers[thread]
                if self._writer is not None or self._trainer is not None:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Context in which no other thread uses the network; running readers are waited for.

        Raises:
            GradflowError: if another thread trains the network.
        """
        thread = threading.get_ident()
        if thread in (self._trainer, self._writer):
            yield
            return
        try:
            with self.lock:
                self._wait_for_writer()
                self._writer = thread
                self._wait_for_readers()
            yield
        finally:
            with self.lock:
                if self._writer == thread:
                    self._writer = None
                    self._changed.notify_all()

    @contextmanager
    def training(self) -> Iterator[None]:
        """Context in which only this thread may use the network; the others get an error.

        Raises:
            GradflowError: if the network is already being trained, in this or another thread.
        """
        thread = threading.get_ident()
        if self._trainer == thread:
            raise GradflowError(
                "this network is being trained: fit was called from a callback of its own fit; train a copy instead "
                "(network.copy())"
            )
        try:
            with self.lock:
                self._wait_for_writer()
                self._trainer = thread
                self._wait_for_readers()
            yield
        finally:
            with self.lock:
                if self._trainer == thread:
                    self._trainer = None
                    self._changed.notify_all()

    @contextmanager
    def training_for(self) -> Iterator[None]:
        """Context in which this thread is the one that trains, on behalf of the one that is in `training` and waits."""
        waiting, self._trainer = self._trainer, threading.get_ident()
        try:
            yield
        finally:
            self._trainer = waiting

    def _wait_for_writer(self) -> None:
        while True:
            if self._trainer is not None:
                raise GradflowError(
                    "another thread is training this network; wait until its fit has ended, or use a copy created "
                    "before it began (network.copy())"
                )
            if self._writer is None:
                return
            self._changed.wait()

    def _wait_for_readers(self) -> None:
        """Wait until no other thread is reading."""
        while self._readers.keys() - {threading.get_ident()}:
            self._changed.wait()

    def after_fork(self) -> None:
        """Forget threads that do not exist after a fork; if one was changing weights, they stay inaccessible."""
        self._forget_other_threads()
        if self._writer != threading.get_ident():
            self._trainer = self._trainer or self._writer
            self._writer = None


class Reading:
    """The context of `Access.reading`; a generator would noticeably slow down a prediction of one row."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __enter__(self) -> None:
        self._access.begin_reading()

    def __exit__(self, *exception: object) -> None:
        self._access.end_reading()


_LIVING: weakref.WeakSet[Access] = weakref.WeakSet()


def _after_fork() -> None:
    for access in list(_LIVING):
        access.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
