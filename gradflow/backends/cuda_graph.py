"""Programs as CUDA graphs: what a program puts on the stream is captured once, and a run is one launch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cupy

from gradflow.backends.cuda_errors import explained
from gradflow.backends.reference import BoundCall, Replay
from gradflow.backends.retreat import FastPath

__all__ = ["CudaGraphs", "DeviceCall"]


@dataclass(frozen=True)
class DeviceCall:
    """A bound call that does nothing but put work on the current stream, with all that this needs loaded.

    A graph can hold it. Any other call may compute on the host, allocate or wait; it runs between two graphs.
    """

    launch: Callable[[], object]

    def __call__(self) -> None:
        self.launch()


@dataclass(frozen=True)
class _Captured:
    """A graph, and the calls that it was made of: they own the arrays that it reads and writes."""

    graph: cupy.cuda.Graph
    calls: list[BoundCall]
    stream: cupy.cuda.Stream

    def __call__(self) -> None:
        self.graph.launch(self.stream)


class CudaGraphs:
    """Makes graphs of the calls of programs; once one has been refused, calls are launched one by one.

    Capturing runs nothing: a kernel is loaded and a product planned when it is bound, so that no warm-up is needed.

    Args:
        stream: the stream that the graphs are launched on.

    Attributes:
        path: closed once a graph has been refused.
    """

    def __init__(self, stream: cupy.cuda.Stream) -> None:
        self._stream = stream
        self.path = FastPath(
            "a CUDA graph",
            "steps are launched kernel by kernel from now on, each for some microseconds; a newer driver may help",
        )

    def replay(self, calls: list[BoundCall], steps_per_launch: int) -> Replay:
        """What runs the calls of a step as often as asked: so many steps per launch, and the rest one by one."""
        one = self._parts(calls)
        several = self._parts(calls * steps_per_launch) if steps_per_launch > 1 else one

        def run(times: int) -> None:
            launches, rest = divmod(times, steps_per_launch)
            with explained(), self._stream:
                for parts, count in ((several, launches), (one, rest)):
                    for _ in range(count):
                        for part in parts:
                            part()

        return run

    def _parts(self, calls: list[BoundCall]) -> list[BoundCall]:
        """The calls, with each stretch that a graph can hold as one."""
        parts: list[BoundCall] = []
        for capturable, stretch in itertools.groupby(calls, lambda call: isinstance(call, DeviceCall)):
            alone = list(stretch)
            captured = self._capture(alone) if capturable and self.path.is_open else None
            parts.extend(alone if captured is None else [captured])
        return parts

    def _capture(self, calls: list[BoundCall]) -> _Captured | None:
        try:
            graph = _graph(calls)
            graph.upload(self._stream)
        except Exception as error:  # a broken installation can raise anything
            self._stream.synchronize()  # An error that lost the context comes back here; nothing can go on then.
            self.path.give_up(error)
            return None
        return _Captured(graph, calls, self._stream)


def _graph(calls: list[BoundCall]) -> cupy.cuda.Graph:
    """What the calls put on a stream, as a graph.

    The stream is a new one, for a capture would take in what other threads put on the same stream meanwhile.
    """
    with cupy.cuda.Stream(non_blocking=True) as stream:
        # Relaxed: other threads, and Python where it frees an array meanwhile, may go on as usual.
        stream.begin_capture(cupy.cuda.runtime.streamCaptureModeRelaxed)
        try:
            for call in calls:
                call()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                stream.end_capture()
            raise
        return stream.end_capture()
