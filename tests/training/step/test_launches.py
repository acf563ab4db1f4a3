"""A training step launches few kernels and GEMMs, and does nothing else: counted on the simulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.losses.base import LOSSES
from gradflow.optimizers.base import OPTIMIZERS
from gradflow.training.step.training_step import TrainingStep

pytestmark = pytest.mark.gpu


STEPS = 5
MUST_NOT = ("mallocs", "frees", "host_allocs", "syncs", "events", "compiles", "captured", "launches")
COPIES = ("memset", "d2d", "h2d", "d2h", "h2h")


def nodes_per_step(
    layers: list[gf.Layer], loss: str, optimizer: str | gf.Optimizer, *, batch_size: int, **settings: Any
) -> int:
    """Return the number of kernels and GEMMs in a step, after checking that it does nothing else."""
    simgpu = pytest.importorskip("simgpu")
    network = gf.Sequential(layers_again(layers), backend="cupy")
    x = np.random.default_rng(0).normal(size=(2 * batch_size, network.n_in)).astype(np.float32)
    y = np.arange(len(x)) % network.n_out if loss == "softmax_cross_entropy" else np.ones((len(x), network.n_out))
    step = TrainingStep.of(network, loss, optimizer, x, y, batch_size=batch_size, **settings)
    step.update.begin_epoch(0, {})
    step.run()  # compiles the kernels, and captures the graph
    simgpu.reset()
    step.epoch._full.run(STEPS)
    stats = simgpu.stats()
    assert {name: stats[name] for name in MUST_NOT} == dict.fromkeys(MUST_NOT, 0)
    assert {name: stats[name]["count"] for name in COPIES} == dict.fromkeys(COPIES, 0)
    assert stats["graph_launches"] == STEPS
    kernels = sum(kernel["count"] for kernel in stats["kernels"].values())
    products = sum(product["device_kernels"] for product in stats["cublas"].values())
    assert (kernels + products) % STEPS == 0
    return (kernels + products) // STEPS


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
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=batch_size) == 3 * depth + 2


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"lbfgs", "muon"}))  # without steps, and below
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_loss_and_optimizer(loss: str, optimizer: str, shuffle: bool) -> None:
    layers = dense_layers(2, gf.ReLU())
    assert nodes_per_step(layers, loss, optimizer, batch_size=16, shuffle=shuffle) == 3 * 2 + 2


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_muon_takes_24_nodes_for_each_hidden_matrix(depth: int) -> None:
    nodes = nodes_per_step(dense_layers(depth, gf.ReLU()), "softmax_cross_entropy", "muon", batch_size=16)
    of_the_rest = 1 if depth == 1 else 3  # AdamW before and after the matrices, and the end of the step
    assert nodes == 3 * depth + 1 + 24 * (depth - 1) + of_the_rest


def test_a_schedule_takes_no_node_more_and_an_average_one() -> None:
    layers, schedule = dense_layers(2, gf.ReLU()), gf.SGD(gf.CosineSchedule(0.1))
    assert nodes_per_step(layers, "mean_squared_error", schedule, batch_size=16) == 3 * 2 + 2
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16, average=0.9) == 3 * 2 + 3


@pytest.mark.parametrize("depth", [2, 4])
def test_dropout_takes_two_nodes_more_for_each_hidden_layer(depth: int) -> None:
    layers = dense_layers(depth, gf.ReLU(), gf.Dropout(0.2))
    nodes = nodes_per_step(layers, "softmax_cross_entropy", "adam", batch_size=16)
    assert nodes == 3 * depth + 2 + 2 * (depth - 1)


@pytest.mark.parametrize("activation", [gf.Tanh(), gf.Sigmoid(), gf.ELU(), gf.LeakyReLU()], ids=repr)
@pytest.mark.parametrize("batch_size", [16, 1])
def test_other_activations_take_two_nodes_more(activation: gf.Layer, batch_size: int) -> None:
    layers = dense_layers(3, activation)
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=batch_size) == 3 * 3 + 2 + 2 * 2


def test_gelu_takes_no_node_more() -> None:
    layers = dense_layers(3, gf.GELU(approximate="tanh"))
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16) == 3 * 3 + 2


def test_clipping_takes_two_nodes_more() -> None:
    layers = dense_layers(2, gf.ReLU())
    assert nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16, clip_norm=1.0) == 3 * 2 + 2 + 2


def test_layer_statistics_do_not_change_the_other_steps() -> None:
    layers = dense_layers(3, gf.ReLU())
    nodes = nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16, layer_statistics=True)
    assert nodes == 3 * 3 + 2
