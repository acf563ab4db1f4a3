"""PyTorch: eager with fused optimizers, and with forward pass and loss compiled, which compiles backward too."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from benchmarks.networks import LEARNING_RATES, Network


class EagerTorch:
    """Eager PyTorch; batches are views of one tensor, so that getting one costs next to nothing."""

    compiled: ClassVar[bool] = False
    compile_mode: ClassVar[str] = "default"
    device: ClassVar[str] = "cpu"
    optimizer_options: ClassVar[dict[str, bool]] = {"fused": True}

    def __init__(self, network: Network, optimizer: str) -> None:
        self._batches = [(self._tensor(x), self._tensor(targets)) for x, targets in network.batches()]
        self._described = network
        modules: list[torch.nn.Module] = []
        for weight, bias in network.initial_parameters():
            dense = torch.nn.Linear(*weight.shape)
            with torch.no_grad():
                dense.weight.copy_(torch.from_numpy(weight.T))
                dense.bias.copy_(torch.from_numpy(bias))
            modules += [dense, torch.nn.ReLU()]
        self._model = torch.nn.Sequential(*modules[:-1]).to(self.device)
        rule = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
        self._optimizer = rule(self._model.parameters(), lr=LEARNING_RATES[optimizer], **self.optimizer_options)
        self._loss = torch.compile(self._mean_loss, mode=self.compile_mode) if self.compiled else self._mean_loss
        self._row = network.data()[0][:1]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)

    def _mean_loss(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self._described.is_regression:
            return torch.nn.functional.mse_loss(self._model(x), targets) / 2
        return torch.nn.functional.cross_entropy(self._model(x), targets)

    def _step(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(x, targets)
        loss.backward()
        self._optimizer.step()
        return loss

    def train(self) -> None:
        for x, targets in self._batches:
            self._step(x, targets)

    def losses(self, steps: int) -> list[float]:
        batches = self._described.first_batches(steps)
        return [self._step(self._tensor(x), self._tensor(targets)).item() for x, targets in batches]

    def predict_one(self) -> None:
        with torch.inference_mode():
            self._model(self._tensor(self._row)).numpy(force=True)


class CompiledTorch(EagerTorch):
    """`EagerTorch` with torch.compile."""

    compiled = True


class EagerTorchOnOneThread(EagerTorch):
    """`EagerTorch` on one thread."""

    def __init__(self, network: Network, optimizer: str) -> None:
        torch.set_num_threads(1)
        super().__init__(network, optimizer)
