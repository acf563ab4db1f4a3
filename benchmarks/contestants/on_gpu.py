"""gradflow on a GPU, in each precision that is compared.

`device_seconds` is measured by events on the backend's stream.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cupy

from benchmarks.contestants.with_gradflow import Gradflow


class GradflowOnGpu(Gradflow):
    """gradflow in float32: one graph launch per step."""

    backend: ClassVar[str] = "cupy"

    def train(self) -> None:
        self._step.run()
        self._network.backend.synchronize()

    def device_seconds(self) -> float:
        """Return the time to train on all batches once, measured by CUDA events."""
        stream = self._network.backend.stream
        begin, end = (cupy.cuda.Event() for _ in range(2))
        begin.record(stream)
        self._step.run()
        end.record(stream)
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3

    def report(self) -> dict[str, Any]:
        """Return what computes the matmuls, and those that it does not support."""
        backend: Any = self._network.backend
        return {"matmuls": backend.gemm_identity, "unsupported": backend.refused_gemms | backend.unsupported_gemms}


class GradflowInTf32(GradflowOnGpu):
    """`GradflowOnGpu` with the factors of matmuls rounded to TF32."""

    precision: ClassVar[str] = "tf32"


class GradflowInBfloat16(GradflowOnGpu):
    """`GradflowOnGpu` in mixed precision: matmuls and activations in bfloat16."""

    precision: ClassVar[str] = "bfloat16"
