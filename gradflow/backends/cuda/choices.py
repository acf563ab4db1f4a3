"""Choice of the fastest of several ways to compute the same, found by timing them once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import cupy

from gradflow.backends.cuda.device_cache import DeviceCache
from gradflow.backends.cuda.graphs import capture
from gradflow.backends.reference import BoundCall

_ENOUGH = 0.8
"""The first way is kept unless another takes less than this part of its time: noise must not decide."""

_SECONDS = 2e-4
"""The least time of a measurement, in which a way may run several times."""

_ROUNDS = 3


class Choices:
    """The choices on one device.

    Args:
        stream: the stream that the ways are timed on.

    Attributes:
        is_timing: True if ways are timed; not if the cache cannot be written, since each run would then choose anew.
    """

    def __init__(self, stream: cupy.cuda.Stream) -> None:
        self._stream = stream
        self._cache: DeviceCache | None = None
        self._known: dict[str, str] = {}
        self._new: dict[str, str] = {}
        self.is_timing = False

    def begin(self, cache: DeviceCache) -> None:
        """Use the choices in a cache from now on, and time what it does not know, unless GRADFLOW_TUNE is 0."""
        if os.environ.get("GRADFLOW_TUNE", "1") != "0":
            self._cache = cache
            self.is_timing = cache.is_writable

    def known(self, name: str) -> str | None:
        """Return the choice that was made under a name, by this process or another; None if there is none."""
        if self._cache is not None and name not in self._known:
            stored = {key: way for key, way in (self._cache.read() or {}).items() if isinstance(way, str)}
            self._known = stored | self._known
        return self._known.get(name)

    def choose(self, name: str, ways: Mapping[str, Callable[[], list[BoundCall]]]) -> str:
        """Return the key of the fastest way.

        Args:
            name: everything that the choice depends on, besides the device.
            ways: functions that return the calls of each way; the first is chosen if nothing is timed.
        """
        known, first = self.known(name), next(iter(ways))
        if known is not None and known in ways:
            return known
        if not self.is_timing or len(ways) == 1:
            return first
        try:
            seconds = seconds_of({key: calls() for key, calls in ways.items()}, self._stream)
        except Exception:  # a broken installation can raise anything
            self._stream.synchronize()  # raises again if the context is lost, since nothing can continue then
            self._known[name] = first
            return first
        fastest = min(seconds, key=seconds.__getitem__)
        chosen = fastest if seconds[fastest] < _ENOUGH * seconds[first] else first
        self._known[name] = self._new[name] = chosen
        return chosen

    def save(self) -> None:
        """Write new choices to the cache. One that another process made meanwhile stays there, for later runs."""
        if self._new and self._cache is not None:
            self.is_timing = self._cache.add(self._new)
            self._new = {}


def seconds_of(ways: Mapping[str, list[BoundCall]], stream: cupy.cuda.Stream) -> dict[str, float]:
    """Return the seconds that each way takes on the device, as part of a CUDA graph: the least of several rounds."""
    graphs = {key: capture(calls) for key, calls in ways.items()}
    once = min(_seconds(graph, stream) for graph in graphs.values() for _ in range(2))  # the first run loads it
    repeats = min(max(round(_SECONDS / max(once, 1e-6)), 1), 20)
    graphs = {key: capture(calls * repeats) for key, calls in ways.items()}
    rounds = [{key: _seconds(graph, stream) for key, graph in graphs.items()} for _ in range(1 + _ROUNDS)]
    return {key: min(times[key] for times in rounds[1:]) / repeats for key in graphs}


def _seconds(graph: cupy.cuda.Graph, stream: cupy.cuda.Stream) -> float:
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    begin.record(stream)
    graph.launch(stream)
    end.record(stream)
    end.synchronize()
    return float(cupy.cuda.get_elapsed_time(begin, end)) / 1000
