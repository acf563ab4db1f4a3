"""Every loss: its value by hand, its gradient against central differences, both compared with PyTorch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.clock import RunStatus
from gradflow.executors import Eager
from gradflow.losses import LOSSES, Loss, get_loss
from gradflow.names import is_built_in
from tests.losses.cases import COLUMNS, LOSS_CASES, ROWS, labels, probabilities


def test_every_loss_has_a_case() -> None:
    assert {name.split()[0] for name in LOSS_CASES} == {name for name, loss in LOSSES.items() if is_built_in(loss)}


def applied(
    loss: str | Loss, outputs: np.ndarray, y: np.ndarray, backend_name: str, row_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row losses, correct predictions and d_outputs of a loss."""
    loss, backend = get_loss(loss), get_backend(backend_name)
    status = RunStatus(backend)
    targets = backend.from_host(loss.targets(y, outputs.shape[1], outputs.dtype))
    on_device = backend.from_host(outputs.copy())
    weight = None if row_weight is None else backend.from_host(row_weight.astype(outputs.dtype))
    d_outputs = backend.empty(outputs.shape, outputs.dtype)
    losses, correct = (backend.zeros(len(outputs), outputs.dtype) for _ in range(2))
    loss.apply(Eager(backend), on_device, targets, weight, d_outputs, losses, correct, status.clock)
    return backend.to_host(losses), backend.to_host(correct), backend.to_host(d_outputs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSS_CASES)
def test_gradient_matches_central_differences(name: str, weighted: bool, backend_name: str) -> None:
    case = LOSS_CASES[name]
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(ROWS, COLUMNS)), case.targets(rng)
    weight = rng.random(ROWS) + 0.5 if weighted else None
    d_outputs = applied(case.loss, outputs, y, backend_name, weight)[2]
    numerical = np.empty_like(outputs)
    for index in np.ndindex(outputs.shape):
        means = []
        for shift in (1e-6, -1e-6):
            shifted = outputs.copy()
            shifted[index] += shift
            means.append(applied(case.loss, shifted, y, backend_name, weight)[0].mean())
        numerical[index] = (means[0] - means[1]) / 2e-6
    assert_allclose(d_outputs, numerical, rtol=1e-6, atol=1e-9)


@pytest.mark.peers
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSS_CASES)
def test_value_and_gradient_match_pytorch(
    name: str, dtype: str, weighted: bool, scale: float, backend_name: str
) -> None:
    import torch

    case = LOSS_CASES[name]
    rng = np.random.default_rng(1)
    scale = min(scale, case.largest_scale)
    outputs = (rng.normal(size=(ROWS, COLUMNS)) * scale).astype(dtype)
    y = case.targets(rng)
    weight = rng.random(ROWS) + 0.5 if weighted else np.ones(ROWS)
    losses, _, d_outputs = applied(case.loss, outputs, y, backend_name, weight if weighted else None)

    tensor = torch.tensor(outputs, requires_grad=True)
    targets = torch.tensor(y) if y.ndim == 1 else torch.tensor(y, dtype=tensor.dtype)
    expected = case.in_torch(torch.nn.functional, tensor, targets) * torch.tensor(weight, dtype=tensor.dtype)
    expected.mean().backward()
    epsilon = np.finfo(dtype).eps
    # Differences of outputs up to `scale` in size carry their rounding errors.
    assert_allclose(losses, expected.detach().numpy(), rtol=8 * epsilon, atol=8 * epsilon * scale)
    assert_allclose(d_outputs, tensor.grad.numpy(), rtol=16 * epsilon, atol=4 * epsilon)


def test_means_are_named_apart(backend_name: str) -> None:
    outputs, y = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[0.0, 0.0], [3.0, 1.0]])
    mean = applied("mean_squared_error", outputs, y, backend_name)
    half = applied("half_squared_error", outputs, y, backend_name)
    assert_allclose(mean[0], [2.5, 8.0])
    assert_allclose(half[0], [2.5, 8.0])
    assert_allclose(mean[2], [[0.5, 1.0], [0.0, 2.0]])
    outputs3, y3 = np.array([[1.0, 2.0, 4.0]]), np.zeros((1, 3))
    assert_allclose(applied("mean_squared_error", outputs3, y3, backend_name)[0], [7.0])
    assert_allclose(applied("half_squared_error", outputs3, y3, backend_name)[0], [10.5])


def test_accuracy_counts_the_first_largest_logit(backend_name: str) -> None:
    logits = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 3.0]])
    correct = applied("softmax_cross_entropy", logits, np.array([1, 1, 2]), backend_name)[1]
    assert_allclose(correct, [0, 1, 1])
    one_hot = np.eye(3)[[1, 1, 2]]
    assert_allclose(applied("softmax_cross_entropy", logits, one_hot, backend_name)[1], [0, 1, 1])


def test_binary_accuracy_is_the_fraction_of_outputs(backend_name: str) -> None:
    logits, y = np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert_allclose(applied("binary_cross_entropy", logits, y, backend_name)[1], [1.0, 0.5])


@pytest.mark.parametrize(
    ("name", "y", "message"),
    [
        ("softmax_cross_entropy", np.array([0, 1, 4]), "from 0 to 3 .* got labels from 0 to 4"),
        ("softmax_cross_entropy", np.array([0, 1, -1]), "got labels from -1 to 1"),
        ("softmax_cross_entropy", np.array([0.0, 1.0, 2.0]), r"must be integers .* got dtype float64.*astype\(int\)"),
        ("softmax_cross_entropy", np.full((3, 4), 0.5), "sum to 1 in each row"),
        ("softmax_cross_entropy", np.zeros((3, 2)), r"shape \(batch,\) or probabilities of shape \(batch, 4\)"),
        ("binary_cross_entropy", np.full((3, 4), 2.0), "between 0 and 1, got values from 2 to 2"),
        ("binary_cross_entropy", np.zeros((3, 1)), r"shape \(batch, 4\) .* got \(3, 1\)"),
        ("mean_squared_error", np.zeros(3), r"shape \(batch, 4\) .* got \(3,\)"),
        ("mean_squared_error", np.full((3, 4), np.nan), "targets contain NaN"),
        ("half_squared_error", np.full((3, 4), np.inf), "targets contain NaN, infinity"),
        ("poisson", np.full((3, 4), -0.5), "must be counts, numbers that are at least 0, got -0.5 among them"),
        (gf.QuantileLoss([0.1, 0.5, 0.9]), np.zeros((3, 1)), "n_targets times 3, got 4 outputs"),
        (gf.QuantileLoss([0.1, 0.9]), np.zeros((3, 4)), r"shape \(batch, 2\) .* got \(3, 4\)"),
    ],
)
def test_wrong_targets_are_refused(name: str | Loss, y: np.ndarray, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        get_loss(name).targets(y, 4, np.dtype(np.float32))


def test_unknown_loss_suggests_the_nearest() -> None:
    with pytest.raises(gf.DataError, match="Did you mean 'mean_squared_error'"):
        get_loss("mean_square_error")


def test_one_output_takes_flat_targets() -> None:
    targets = get_loss("mean_squared_error").targets(np.arange(3), 1, np.dtype(np.float32))
    assert targets.shape == (3, 1)
    assert targets.dtype == np.float32


def test_softmax_cross_entropy_needs_two_outputs() -> None:
    with pytest.raises(gf.DataError, match="binary_cross_entropy"):
        get_loss("softmax_cross_entropy").targets(np.array([0, 0]), 1, np.dtype(np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gf.HuberLoss(0), "delta must be above 0, got 0"),
        (lambda: gf.HuberLoss(float("inf")), "delta must be a finite number above 0, got inf"),
        (lambda: gf.QuantileLoss([]), r"must list numbers between 0 and 1, such as \[0.1, 0.5, 0.9\], got \[\]"),
        (lambda: gf.QuantileLoss(0.5), "quantiles must list numbers between 0 and 1"),
        (lambda: gf.QuantileLoss([0.5, 1.0]), r"quantiles\[1\] must be above 0 and below 1, got 1.0"),
        (lambda: gf.QuantileLoss([0.0, 0.5]), r"quantiles\[0\] must be above 0 and below 1, got 0.0"),
        (lambda: gf.QuantileLoss([-0.1]), r"quantiles\[0\] must be above 0 and below 1, got -0.1"),
        (lambda: gf.QuantileLoss([0.1, "0.5"]), r"quantiles\[1\] must be a number above 0 and below 1, got '0.5'"),
        (lambda: gf.QuantileLoss([0.5, 0.5]), "each quantile may occur only once"),
        (lambda: gf.SoftmaxCrossEntropy(label_smoothing=1), "label_smoothing must be at least 0 and below 1, got 1"),
        (lambda: gf.SoftmaxCrossEntropy(focal_gamma=-1), "focal_gamma must be at least 0, got -1"),
        (lambda: gf.BinaryCrossEntropy(label_smoothing=-0.1), "label_smoothing must be at least 0 and below 1"),
        (lambda: gf.BinaryCrossEntropy(focal_gamma="2"), "focal_gamma must be a finite number, at least 0, got '2'"),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], Loss], message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        make()


@pytest.mark.parametrize("name", LOSS_CASES)
def test_config_recreates_the_loss(name: str) -> None:
    loss = LOSS_CASES[name].loss
    twin = LOSSES[loss.name](**json.loads(json.dumps(loss.config())))
    assert (type(twin), twin.config(), repr(twin)) == (type(loss), loss.config(), repr(loss))


@pytest.mark.parametrize("kind", [labels, probabilities])
def test_smoothing_and_focus_leave_accuracy_as_it_is(kind: Any, backend_name: str) -> None:
    rng = np.random.default_rng(6)
    outputs, y = rng.normal(size=(ROWS, COLUMNS)), kind(rng)
    plain = applied("softmax_cross_entropy", outputs, y, backend_name)[1]
    loss = gf.SoftmaxCrossEntropy(label_smoothing=0.3, focal_gamma=2)
    assert_allclose(applied(loss, outputs, y, backend_name)[1], plain)
    assert 0 < plain.sum() < ROWS


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_weight_of_certain_and_impossible_outputs_is_finite(gamma: float, backend_name: str) -> None:
    outputs, y = np.array([[800.0, 0.0], [-800.0, 0.0], [0.0, 0.0]]), np.array([0, 1, 0])
    losses, _, d_outputs = applied(gf.SoftmaxCrossEntropy(focal_gamma=gamma), outputs, y, backend_name)
    half = 0.5**gamma
    slope = half * (1 + gamma * np.log(2)) / 2 / 3
    assert_allclose(losses, [0, 0, half * np.log(2)], rtol=1e-14)
    assert_allclose(d_outputs, [[0, 0], [0, 0], [-slope, slope]], rtol=1e-14)
    losses, _, d_outputs = applied(gf.BinaryCrossEntropy(focal_gamma=gamma), outputs, np.eye(2)[y], backend_name)
    assert_allclose(losses[:2], half * np.log(2) / 2, rtol=1e-14)
    assert_allclose(d_outputs[:2], [[0, 0.5 * slope], [0, -0.5 * slope]], rtol=1e-14)


def test_quantiles_of_each_target_are_adjacent(backend_name: str) -> None:
    y = np.random.default_rng(7).normal(size=(201, 2)) * [1, 3]
    network = gf.Sequential([gf.Dense(1, 6, initializer=0.0)], dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, gf.QuantileLoss([0.1, 0.5, 0.9]), gf.GradientDescent(1.0))
    trainer.fit(np.zeros((201, 1)), y, epochs=200, batch_size=None)
    predicted = network.predict(np.zeros((1, 1))).reshape(2, 3)
    # A step is up to 0.15, and a quantile of 201 numbers jumps from one to the next.
    fraction_below = (y[:, :, None] < predicted).mean(axis=0)
    assert_allclose(fraction_below, [[0.1, 0.5, 0.9]] * 2, atol=0.03)


def test_standardized_quantiles_are_in_the_units_of_their_targets(backend_name: str, tmp_path: Path) -> None:
    y = np.random.default_rng(7).normal(size=(201, 2)) * [1e-3, 300] + [2, 5e4]
    network = gf.Sequential([gf.Dense(1, 6, initializer=0.0)], dtype="float64", backend=backend_name)
    loss = gf.QuantileLoss([0.1, 0.5, 0.9])
    trainer = gf.Trainer(network, loss, gf.GradientDescent(1.0), standardize_targets=True)
    trainer.fit(np.zeros((201, 1)), y, epochs=200, batch_size=None, validation_data=(np.zeros((9, 1)), y[:9]))
    assert network.output_scale is not None
    assert_allclose(network.output_scale.mean, np.repeat(y.mean(axis=0), 3), rtol=1e-9)
    assert_allclose(network.output_scale.std, np.repeat(y.std(axis=0), 3), rtol=1e-9)
    predicted = network.predict(np.zeros((1, 1)))
    fraction_below = (y[:, :, None] < predicted.reshape(2, 3)).mean(axis=0)
    assert_allclose(fraction_below, [[0.1, 0.5, 0.9]] * 2, atol=0.03)
    gf.save(network, tmp_path / "model.safetensors")
    assert (
        gf.load(tmp_path / "model.safetensors", backend_name).predict(np.zeros((1, 1))).tobytes() == predicted.tobytes()
    )
    streamed = gf.Sequential([gf.Dense(1, 6, initializer=0.0)], dtype="float64", backend=backend_name)
    source = gf.data.Batches([(np.zeros((201, 1)), y)])
    gf.Trainer(streamed, loss, gf.GradientDescent(1.0), standardize_targets=True).fit(source, epochs=1)
    assert streamed.output_scale == network.output_scale


def test_quantiles_do_not_take_the_scales_of_other_targets() -> None:
    y = np.random.default_rng(7).normal(size=(20, 2)) * [1, 3]
    network = gf.MLP([1, 2], backend="numpy")
    gf.Trainer(network, "mean_squared_error", "adam", standardize_targets=True).fit(np.zeros((20, 1)), y, epochs=1)
    trainer = gf.Trainer(network, gf.QuantileLoss([0.1, 0.9]), "adam")
    with pytest.raises(gf.DataError, match=r"set network\.output_scale = None"):
        trainer.fit(np.zeros((20, 1)), y[:, 0], epochs=1)
    trainer = gf.Trainer(gf.MLP([1, 3]), gf.QuantileLoss([0.1, 0.9]), "adam", standardize_targets=True)
    with pytest.raises(gf.DataError, match="2 quantiles need a network whose number of outputs"):
        trainer.fit(np.zeros((20, 1)), y[:, 0], epochs=1)


def test_counts_are_not_standardized() -> None:
    trainer = gf.Trainer(gf.MLP([1, 1], backend="numpy"), "poisson", "sgd", standardize_targets=True)
    with pytest.raises(gf.DataError, match="got 'poisson'"):
        trainer.fit(np.ones((5, 1)), np.arange(5), epochs=1)
