"""The GPU contestants. `device_seconds` is the time between two events on the stream that does the work."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.contestants.with_gradflow import Gradflow


class GradflowOnGpu(Gradflow):
    """gradflow on a GPU: one graph launch per step."""

    backend: ClassVar[str] = "cupy"

    def train(self) -> None:
        self._step.run()
        self._network.backend.synchronize()

    def device_seconds(self) -> float:
        """Return the time to train on all batches once, measured by CUDA events."""
        import cupy

        stream = self._network.backend.stream
        begin, end = (cupy.cuda.Event() for _ in range(2))
        begin.record(stream)
        self._step.run()
        end.record(stream)
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3
