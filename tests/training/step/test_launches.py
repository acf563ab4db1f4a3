"""The number of kernels, GEMMs, copies and memsets in a training step, counted on the simulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.losses.base import LOSSES
from gradflow.optimizers.base import OPTIMIZERS

pytestmark = pytest.mark.gpu


class Nodes(gf.Callback):
    """The work of the second epoch on the device."""

    def __init__(self, simgpu: Any) -> None:
        self._simgpu = simgpu
        self.count = 0

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        stats = self._simgpu.stats()
        kernels = sum(kernel["count"] for kernel in stats["kernels"].values())
        products = sum(product["device_kernels"] for product in stats["cublas"].values())
        copies = sum(
            stats[kind]["in_graph"] for kind in ("memset", "d2d", "h2d", "d2h")
        )  # those of the best weights are outside
        self.count = kernels + products + copies
        self._simgpu.reset()


def nodes_per_step(layers: list[gf.Layer], loss: str, optimizer: str, *, batch_size: int, **kwargs: Any) -> int:
    """Return how many nodes one additional step adds to an epoch."""
    simgpu = pytest.importorskip("simgpu")
    counts = []
    for steps in (2, 3):
        network = gf.Sequential(layers_again(layers), backend="cupy")
        x = np.random.default_rng(0).normal(size=(steps * batch_size, network.n_in)).astype(np.float32)
        y = np.arange(len(x)) % network.n_out if loss == "softmax_cross_entropy" else np.ones((len(x), network.n_out))
        nodes = Nodes(simgpu)
        trainer = gf.Trainer(network, loss, optimizer, **kwargs)
        trainer.fit(x, y, epochs=2, batch_size=batch_size, callbacks=[nodes], progress=False)
        counts.append(nodes.count)
    return counts[1] - counts[0]


def layers_again(layers: list[gf.Layer]) -> list[gf.Layer]:
    return [type(layer)(**layer.config()) for layer in layers]


def dense_layers(depth: int, *between: gf.Layer, n_in: int = 6, n_out: int = 3) -> list[gf.Layer]:
    sizes = [n_in] + [8] * (depth - 1) + [n_out]
    layers: list[gf.Layer] = []
    for index in range(depth):
        layers += [gf.Dense(sizes[index], sizes[index + 1]), *(between if index < depth - 1 else ())]
    return layers


@pytest.mark.parametrize("n_in", [6, 1])
@pytest.mark.parametrize("n_out", [3, 1])
@pytest.mark.parametrize("batch_size", [16, 1])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_dense_layers_with_relu(depth: int, batch_size: int, n_out: int, n_in: int) -> None:
    layers = dense_layers(depth, gf.ReLU(), n_in=n_in, n_out=n_out)
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=batch_size) == 3 * depth + 3


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"lbfgs"}))  # takes no steps
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_and_optimizer(loss: str, optimizer: str) -> None:
    assert nodes_per_step(dense_layers(2, gf.ReLU()), loss, optimizer, batch_size=16) <= 3 * 2 + 3


@pytest.mark.parametrize("depth", [2, 4])
def test_dropout_takes_two_nodes_more_for_each_hidden_layer(depth: int) -> None:
    layers = dense_layers(depth, gf.ReLU(), gf.Dropout(0.2))
    nodes = nodes_per_step(layers, "softmax_cross_entropy", "adam", batch_size=16)
    assert nodes == 3 * depth + 3 + 2 * (depth - 1)


@pytest.mark.parametrize("activation", [gf.Tanh(), gf.Sigmoid(), gf.ELU(), gf.LeakyReLU()], ids=repr)
@pytest.mark.parametrize("batch_size", [16, 1])
def test_other_activations_take_two_nodes_more(activation: gf.Layer, batch_size: int) -> None:
    layers = dense_layers(3, activation)
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=batch_size) == 3 * 3 + 3 + 2 * 2


def test_gelu_takes_no_node_more() -> None:
    layers = dense_layers(3, gf.GELU(approximate="tanh"))
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16) == 3 * 3 + 3


def test_clipping_takes_two_nodes_more() -> None:
    layers = dense_layers(2, gf.ReLU())
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16, clip_norm=1.0) == 3 * 2 + 3 + 2


def test_layer_statistics_do_not_change_the_other_steps() -> None:
    layers = dense_layers(3, gf.ReLU())
    nodes = nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16, layer_statistics=True)
    assert nodes == 3 * 3 + 3
