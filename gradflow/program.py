"""Recorded programs: the op calls of a step, bound to their arrays once and replayed as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

from gradflow.backends.reference import BoundCall, ReferenceBackend
from gradflow.executors import Clocked, Eager
from gradflow.layers.recording import called_at_each_step, record_method
from gradflow.ops import Array, Op


class Program:
    """A sequence of bound calls. It keeps every array that they use alive.

    Args:
        backend: the backend that runs them.
        calls: the calls.
        steps_per_launch: the number of runs that a GPU combines into one launch.
        ops: the ops of the calls.

    Attributes:
        steps_per_launch: the number of runs that a GPU combines into one launch.
        ops: all that the program does, as ops with their arguments; None if it also calls methods of layers, or other
            functions.
        replay: what the backend has made of it, which runs it a number of times.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        calls: list[BoundCall],
        steps_per_launch: int = 1,
        ops: list[tuple[Op, dict[str, Any]]] | None = None,
    ) -> None:
        self._calls = calls
        self.steps_per_launch = steps_per_launch
        self.ops = ops
        self.replay = backend.replay(calls, steps_per_launch)

    def run(self, times: int = 1) -> None:
        """Run all calls in order, ``times`` times."""
        self.replay(times)

    def __len__(self) -> int:
        return len(self._calls)


class Recorder(Clocked):
    """The executor that keeps calls instead of running them."""

    def __init__(
        self, backend: ReferenceBackend, clock: Array | None = None, values: Mapping[int, Array] | None = None
    ) -> None:
        super().__init__(backend, clock, values)
        self._segments: list[list[tuple[Op, dict[str, Any]]] | BoundCall] = []

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        if not self._segments or callable(self._segments[-1]):
            self._segments.append([])
        segment = self._segments[-1]
        assert isinstance(segment, list)
        segment.append((op, op.arguments(*args, **kwargs)))

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        """Record ``method(ops, *args)``: its ops if ``recorded`` is true, else the method itself as one call.

        A method that does its own array math is called at every step, since it would otherwise run only once, during
        recording.
        """
        if recorded:
            record_method(self, method, *args)
        else:
            self._segments.append(called_at_each_step(Eager(self.backend, self._clock, self._values), method, *args))

    def call(self, function: BoundCall) -> None:
        """Record a function, which is called at this place of each run."""
        self._segments.append(function)

    def extend(self, other: Recorder) -> None:
        """Append the calls of another recorder."""
        for segment in other._segments:
            if isinstance(segment, list):
                for op, arguments in segment:
                    self(op, **arguments)
            else:
                self._segments.append(segment)

    def program(self, steps_per_launch: int = 1) -> Program:
        """Bind the calls so far. Adjacent ops may be fused into one call, but not across a call of a whole method."""
        bound: list[BoundCall] = []
        for segment in self._segments:
            if isinstance(segment, list):
                bound.extend(self.backend.bind_all(segment))
            else:
                bound.append(segment)
        lists = [segment for segment in self._segments if isinstance(segment, list)]
        ops = list(chain.from_iterable(lists)) if len(lists) == len(self._segments) else None
        return Program(self.backend, bound, steps_per_launch, ops)
