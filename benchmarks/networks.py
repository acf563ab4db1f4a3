"""The measured networks, with the data and initial weights that every contestant gets."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

LEARNING_RATES = {"sgd": 0.01, "adam": 0.001}
"""The measured optimizers: gradient descent without momentum, and Adam with the usual settings."""


@dataclass(frozen=True)
class Network:
    """A multi-layer perceptron with ReLU between its layers, all in float32.

    The loss is softmax cross-entropy, or for a single output half the squared error.

    Attributes:
        name: a letter or a word.
        sizes: the widths from the inputs to the outputs.
        batch_size: the rows of a batch.
        steps: the number of batches in the data, which are timed together.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    steps: int

    def __str__(self) -> str:
        return f"{self.name} {'-'.join(map(str, self.sizes))} ({self.batch_size})"

    @property
    def layers(self) -> list[tuple[int, int]]:
        """The numbers of inputs and outputs of each layer."""
        return list(itertools.pairwise(self.sizes))

    @property
    def is_regression(self) -> bool:
        """True if there is a single output, which predicts a value."""
        return self.sizes[-1] == 1

    @property
    def loss(self) -> str:
        """The name of the loss in gradflow."""
        return "half_squared_error" if self.is_regression else "softmax_cross_entropy"

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(n_in * n_out + n_out for n_in, n_out in self.layers)

    @property
    def gemm_flops(self) -> int:
        """The floating-point operations of the GEMMs of a step: the first layer needs no dL/dx."""
        sizes = [n_in * n_out for n_in, n_out in self.layers]
        return 2 * self.batch_size * (3 * sum(sizes) - sizes[0])

    def least_bytes(self, optimizer: str) -> int:
        """Bytes that training must hold: parameters, gradients, optimizer state, and a batch's activations, inputs
        included."""
        vectors = {"sgd": 2, "adam": 4}[optimizer]
        return 4 * (vectors * self.n_parameters + self.batch_size * sum(self.sizes))

    @cache  # noqa: B019 (networks live as long as the process)
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs (steps · batch_size, n_in) of all batches, and labels or values (steps · batch_size, 1).

        Every call returns the same arrays.
        """
        random = np.random.default_rng(0)
        x = random.standard_normal((self.steps * self.batch_size, self.sizes[0]), dtype=np.float32)
        if self.is_regression:
            return x, random.standard_normal((len(x), 1), dtype=np.float32)
        return x, random.integers(self.sizes[-1], size=len(x))

    def batches(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the data batch by batch, as views."""
        x, targets = self.data()
        rows = [slice(step * self.batch_size, (step + 1) * self.batch_size) for step in range(self.steps)]
        return [(x[batch], targets[batch]) for batch in rows]

    def first_batches(self, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return the batches of the given number of steps, starting over after the last batch."""
        return list(itertools.islice(itertools.cycle(self.batches()), steps))

    def initial_parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return, for each layer, the weight (n_in, n_out), drawn with variance 2 / n_in, and the bias (n_out,),
        zero."""
        random = np.random.default_rng(1)
        return [
            (
                random.standard_normal((n_in, n_out), dtype=np.float32) * np.float32((2 / n_in) ** 0.5),
                np.zeros(n_out, np.float32),
            )
            for n_in, n_out in self.layers
        ]


NETWORKS = {
    network.name: network
    for network in (
        Network("T", (16, 64, 64, 2), batch_size=256, steps=100),
        Network("S", (64, 128, 64, 10), batch_size=32, steps=200),
        Network("M", (784, 512, 256, 10), batch_size=128, steps=20),
        Network("L", (1024, 2048, 2048, 1000), batch_size=512, steps=2),
    )
}
"""A tiny, a small, a medium and a large network, by name."""

_WIDE = Network("W", (4096, 4096, 4096, 4096, 4096), batch_size=4096, steps=4)
GPU_NETWORKS = {name: replace(network, steps=max(network.steps, 20)) for name, network in NETWORKS.items()} | {
    "W": _WIDE
}
"""The networks measured on a GPU: in addition, one whose step is limited by matmuls; with enough steps, that the time
between two passes does not count."""
