"""The bytes that a training step moves, counted from the arrays that its launches are bound to."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from gradflow.doctor.traffic import StepTraffic, step_traffic
from gradflow.losses.base import LOSSES
from gradflow.optimizers.base import OPTIMIZERS
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.step.objective import Objective


def traffic(
    sizes: list[int],
    batch_size: int,
    optimizer: str | gf.Optimizer = "adam",
    activation: str = "relu",
    loss: str = "softmax_cross_entropy",
    *,
    shuffle: bool = True,
    **settings: float,
) -> StepTraffic:
    network = gf.MLP(sizes, activation, initializer=0.0, backend="numpy")
    objective = Objective.checked(network, loss, optimizer, **settings)
    x = np.zeros((2 * batch_size, sizes[0]), np.float32)
    y = np.arange(len(x)) % sizes[-1] if loss == "softmax_cross_entropy" else np.ones((len(x), sizes[-1]))
    data = prepare_arrays(network, objective.loss, x, y)
    return step_traffic(objective, data, batch_size, shuffle=shuffle)


SHAPES = {
    "T": ([16, 64, 64, 2], 256),
    "S": ([64, 128, 64, 10], 32),
    "M": ([784, 512, 256, 10], 128),
    "L": ([1024, 2048, 2048, 1000], 512),
    "wide": ([4096, 4096, 4096, 10], 1024),
    "deep": ([256] * 8 + [10], 512),
}


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS.keys() - {"lbfgs", "muon"}))  # without steps, and below
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_moves_little_more_than_its_gemms_and_its_optimizer_must(
    shape: str, loss: str, optimizer: str, shuffle: bool
) -> None:
    sizes, batch_size = SHAPES[shape]
    step = traffic(sizes, batch_size, optimizer, loss=loss, shuffle=shuffle)
    assert len(step.calls) == 3 * (len(sizes) - 1) + 2  # counted on the device by tests/training/step/test_launches.py
    assert 1 <= step.n_bytes / step.least_bytes <= 1.1


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_adds_five_iterations_for_each_hidden_matrix_to_a_step(shape: str) -> None:
    sizes, batch_size = SHAPES[shape]
    step, of_adam = (traffic(sizes, batch_size, name, loss="softmax_cross_entropy") for name in ("muon", "adam"))
    before = len(of_adam.calls) - 1
    assert step.calls[:before] == of_adam.calls[:before]
    iteration = ["gemm", "gemm", "muon_factor", "gemm"]
    of_matrix = ["muon_direction", "muon_scale", "muon_normalize", *5 * iteration, "muon_update"]
    names = [call.name for call in step.calls[before:]]
    assert names == [*(len(sizes) - 2) * of_matrix, "adamw_range", "adamw_range", "advance"]


def test_bytes_of_a_small_step() -> None:
    step = traffic([4, 8, 2], 16, gf.Adam())
    clock, hyper, row = 4 * 8, 12 * 8, 4
    x, hidden, logits, labels = 16 * 4 * row, 16 * 8 * row, 16 * 2 * row, 16 * row
    signs, parameters = 16 * 16, (4 * 8 + 8 + 8 * 2 + 2) * 4
    moved = [(call.name, call.read, call.written) for call in step]
    assert moved == [
        ("gather_shuffled_batch", x + labels + clock, x + labels),
        ("gemm + bias_relu_forward", x + 4 * 8 * 4 + 8 * 4, hidden + signs),
        ("gemm + add_bias", hidden + 8 * 2 * 4 + 2 * 4, logits),
        # Losses and correct predictions of the rows, and the clock, which records the first step whose loss is not
        # finite.
        ("softmax_cross_entropy_labels", logits + labels, logits + 2 * 16 * 4 + clock),
        ("gemm + column_sum", hidden + logits, 8 * 2 * 4 + 2 * 4),
        ("gemm + relu_backward", logits + 8 * 2 * 4 + signs, hidden),
        ("gemm + column_sum", x + hidden, 4 * 8 * 4 + 8 * 4),
        ("adam_ending", 4 * parameters + hyper + 4 + clock, 3 * parameters + clock),
    ]
    assert [call.flops for call in step if call.flops] == [
        2 * 16 * 4 * 8, 2 * 16 * 8 * 2, 2 * 8 * 16 * 2, 2 * 16 * 2 * 8, 2 * 4 * 16 * 8,
    ]  # fmt: skip
    assert step.flops == sum(call.flops for call in step)


def test_an_activation_in_a_launch_of_its_own_moves_more() -> None:
    relu, tanh = (traffic([256] * 8 + [10], 512, gf.Adam(), activation) for activation in ("relu", "tanh"))
    assert len(tanh.calls) > len(relu.calls)
    assert tanh.n_bytes > relu.n_bytes
    assert tanh.flops == relu.flops
