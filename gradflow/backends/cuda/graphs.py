"""Programs as CUDA graphs: the stream operations of a program are captured once, and each run is one launch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cupy

from gradflow.backends.cuda.errors import explained
from gradflow.backends.cuda.fallback import FallbackCall, FastPath, expanded
from gradflow.backends.reference import BoundCall, Replay
from gradflow.errors import SlowPathWarning, warn


@dataclass(frozen=True)
class DeviceCall:
    """A bound call that only enqueues work on the current stream, and has loaded everything it needs.

    A graph can contain it. Other calls may compute on the host, allocate or wait; they run between two graphs.
    """

    launch: Callable[[], object]

    def __call__(self) -> None:
        self.launch()


@dataclass(frozen=True)
class _Captured:
    """A graph and the calls it was captured from, which own the arrays that it reads and writes."""

    graph: cupy.cuda.Graph
    calls: list[BoundCall]
    stream: cupy.cuda.Stream

    def __call__(self) -> None:
        self.graph.launch(self.stream)


class CudaGraphs:
    """Turns the calls of programs into graphs; after the first failure to capture, calls are launched one by one.

    A matmul that fails in a capture is the exception: it runs between two graphs. If it fails there too, other calls
    replace it, and the program is captured again with these.

    Capturing runs nothing: kernels are loaded and matmuls planned when they are bound, so no warm-up is needed.

    Args:
        stream: the stream that the graphs are launched on.

    Attributes:
        path: closed after a failure to capture a graph.
    """

    def __init__(self, stream: cupy.cuda.Stream) -> None:
        self._stream = stream
        self.path = FastPath(
            "a CUDA graph",
            "from now on steps are launched kernel by kernel, some microseconds each; a newer driver may help",
        )

    def replay(self, calls: list[BoundCall], steps_per_launch: int) -> Replay:
        """Return a function that runs the calls of a step n times, ``steps_per_launch`` per launch, the rest singly."""
        one = _Step(self, calls)
        several = _Step(self, calls * steps_per_launch) if steps_per_launch > 1 else one
        device = cupy.cuda.Device(self._stream.device_id)

        def run(times: int) -> None:
            launches, rest = divmod(times, steps_per_launch)
            with explained(self._stream), device, self._stream:
                for step, count in ((several, launches), (one, rest)):
                    for _ in range(count):
                        step.run()

        return run

    def parts(self, calls: Iterable[BoundCall]) -> list[BoundCall]:
        """Return the calls, with each capturable run of consecutive calls replaced by one graph."""
        parts: list[BoundCall] = []
        for capturable, chunk in itertools.groupby(expanded(calls), is_capturable):
            alone = list(chunk)
            parts.extend(self._captured(alone) if capturable and self.path.is_open else alone)
        return parts

    def _captured(self, calls: list[BoundCall]) -> list[BoundCall]:
        """Return a graph of the calls; several, or the calls themselves, if the capture fails."""
        try:
            graph = capture(calls)
            graph.upload(self._stream)
        except Exception as error:  # a broken installation can raise anything
            self._stream.synchronize()  # raises again if the context is lost, since nothing can continue then
            if not all(map(is_capturable, calls)):
                reason = f"{type(error).__name__}: {error}"
                warn(f"a CUDA graph cannot contain a matmul ({reason}), which is launched by itself", SlowPathWarning)
                return self.parts(calls)
            self.path.give_up(error)
            return calls
        return [_Captured(graph, calls, self._stream)]


class _Step:
    """The calls of a step, as graphs where possible."""

    def __init__(self, graphs: CudaGraphs, calls: list[BoundCall]) -> None:
        self._graphs = graphs
        self._calls = calls
        self._parts = graphs.parts(calls)

    def run(self) -> None:
        for number, part in enumerate(self._parts, start=1):
            part()
            if isinstance(part, FallbackCall) and part.is_replaced:  # a call in a later graph may need its results
                for later in self._parts[number:]:
                    for call in expanded(later.calls if isinstance(later, _Captured) else [later]):
                        call()
                self._parts = self._graphs.parts(self._calls)
                return


def is_capturable(call: BoundCall) -> bool:
    """True if a graph can contain a call."""
    return isinstance(call, DeviceCall) or (isinstance(call, FallbackCall) and call.is_capturable)


def capture(calls: list[BoundCall]) -> cupy.cuda.Graph:
    """Capture the calls as a graph.

    This uses a new stream, since a capture would include work that other threads enqueue on the same stream.
    """
    with cupy.cuda.Stream(non_blocking=True) as stream:
        # Relaxed, so that other threads, and Python's freeing of arrays, are not disturbed.
        stream.begin_capture(cupy.cuda.runtime.streamCaptureModeRelaxed)
        try:
            for call in calls:
                call()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                stream.end_capture()
            raise
        return stream.end_capture()
