"""gradflow: a training epoch as `Trainer.fit` runs it, on one backend."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import ClassVar

import numpy as np

import gradflow as gf
from benchmarks.networks import LEARNING_RATES, Network
from gradflow.backends import get_backend
from gradflow.backends.blas import using_threads
from gradflow.training.step.training_step import TrainingStep


def gradflow_network(network: Network, backend: str = "numpy") -> gf.Sequential:
    """Return the network with its initial parameters."""
    made = gf.MLP(list(network.sizes), initializer=0.0, backend=backend)
    dense = [index for index, layer in enumerate(made.layers) if isinstance(layer, gf.Dense)]
    weights = {}
    for index, (weight, bias) in zip(dense, network.initial_parameters(), strict=True):
        weights[f"{index}.weight"], weights[f"{index}.bias"] = weight, bias
    made.set_weights(weights)
    return made


class Gradflow:
    """gradflow, timed over the whole epoch: gathering each batch from the data, the step, and summing the losses at the
    end."""

    backend: ClassVar[str] = "numpy"
    precision: ClassVar[str] = "float32"

    def __init__(self, network: Network, optimizer: str) -> None:
        self._described = network
        self._network = gradflow_network(network, self.backend)
        rate = LEARNING_RATES[optimizer]
        rule = gf.Adam(rate) if optimizer == "adam" else gf.SGD(rate)
        self._new_step = partial(
            TrainingStep.of,
            self._network,
            network.loss,
            rule,
            batch_size=network.batch_size,
            shuffle=False,
            precision=self.precision,
        )
        self._step = self._step_on(*network.data())
        self._row = network.data()[0][:1]

    def _step_on(self, x: np.ndarray, targets: np.ndarray) -> TrainingStep:
        step = self._new_step(x, targets)
        step.update.begin_epoch(0, {})
        return step

    def train(self) -> None:
        self._step.run()

    def losses(self, steps: int) -> list[float]:
        x, labels = map(np.concatenate, zip(*self._described.first_batches(steps), strict=True))
        step = self._step_on(x, labels)
        step.run()
        of_rows = self._network.backend.to_host(step.epoch.results.losses)
        means = of_rows.reshape(steps, self._described.batch_size).mean(axis=1, dtype=np.float64)
        return [float(mean) for mean in means]

    def predict_one(self) -> None:
        self._network.logits(self._row)


class GradflowOnOneThread(Gradflow):
    """`Gradflow` with threads=1, for as long as the contestant lives."""

    def __init__(self, network: Network, optimizer: str) -> None:
        self._on_one_thread = ExitStack()
        self._on_one_thread.enter_context(using_threads(get_backend(self.backend).blas, 1))
        super().__init__(network, optimizer)
