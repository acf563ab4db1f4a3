"""PyTorch on a GPU: eager, compiled, and with each step as one CUDA graph; in float32 and with bfloat16 autocast.

float32 GEMMs are in full precision.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from benchmarks.contestants.with_torch import EagerTorch
from benchmarks.networks import Network

_WARM_UP_STEPS = 3


class EagerTorchOnGpu(EagerTorch):
    """Eager PyTorch with all batches already on the device.

    Raises:
        RuntimeError: if PyTorch finds no GPU.
    """

    device: ClassVar[str] = "cuda"

    def __init__(self, network: Network, optimizer: str) -> None:
        if not torch.cuda.is_available():
            raise RuntimeError("this PyTorch finds no GPU; install its build for CUDA")
        super().__init__(network, optimizer)

    def train(self) -> None:
        super().train()
        torch.cuda.synchronize()

    def device_seconds(self) -> float:
        """Return the time to train on all batches once, measured by CUDA events."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        super().train()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3


class CompiledTorchOnGpu(EagerTorchOnGpu):
    """`EagerTorchOnGpu` with torch.compile, which tries kernels and uses CUDA graphs in this mode."""

    compiled: ClassVar[bool] = True
    compile_mode: ClassVar[str] = "max-autotune"


class GraphedTorchOnGpu(EagerTorchOnGpu):
    """Forward, backward and optimizer captured once; each step copies its batch into the graph's input and replays the
    graph."""

    optimizer_options: ClassVar[dict[str, bool]] = {"fused": True, "capturable": True}

    def __init__(self, network: Network, optimizer: str) -> None:
        if optimizer == "sgd":  # the graph holds its rate as a constant; there is no such option
            self.optimizer_options = {"fused": True}  # type: ignore[misc]
        super().__init__(network, optimizer)
        self._x, self._labels = (tensor.clone() for tensor in self._batches[0])
        initial = [parameter.detach().clone() for parameter in self._model.parameters()]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                super()._step(self._x, self._labels)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._captured_loss = super()._step(self._x, self._labels)
        with torch.no_grad():
            for parameter, value in zip(self._model.parameters(), initial, strict=True):
                parameter.copy_(value)
            for state in self._optimizer.state.values():
                for value in state.values():
                    if isinstance(value, torch.Tensor):
                        value.zero_()

    def _step(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self._x.copy_(x)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._captured_loss


class _InBfloat16:
    """Runs forward pass and loss under autocast, which keeps parameters and optimizer in float32."""

    def _mean_loss(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            loss: Any = super()._mean_loss(x, targets)  # type: ignore[misc]
        return loss


class AutocastTorchOnGpu(_InBfloat16, EagerTorchOnGpu):
    """`EagerTorchOnGpu` with autocast to bfloat16."""


class GraphedAutocastTorchOnGpu(_InBfloat16, GraphedTorchOnGpu):
    """`GraphedTorchOnGpu` with autocast to bfloat16."""
