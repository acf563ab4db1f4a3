"""Every loss: its value by hand, its gradient against central differences, both against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.losses import LOSSES, get_loss
from gradflow.ops import Eager
from gradflow.status import RunStatus

ROWS, COLUMNS = 6, 4


def targets_for(name: str, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Targets of a kind that the loss takes."""
    if kind == "labels":
        return rng.integers(0, COLUMNS, ROWS)
    if kind == "probabilities":
        t = rng.random((ROWS, COLUMNS))
        t[0] = np.eye(COLUMNS)[2]
        return t / t.sum(axis=1, keepdims=True)
    if name == "binary_cross_entropy":
        return rng.random((ROWS, COLUMNS)).round(1)
    return rng.normal(size=(ROWS, COLUMNS))


LOSS_CASES = [
    ("mean_squared_error", "numbers"),
    ("half_squared_error", "numbers"),
    ("binary_cross_entropy", "numbers"),
    ("softmax_cross_entropy", "labels"),
    ("softmax_cross_entropy", "probabilities"),
]


def test_every_loss_has_a_case() -> None:
    assert {name for name, _ in LOSS_CASES} == set(LOSSES)


def applied(
    name: str, outputs: np.ndarray, y: np.ndarray, backend_name: str, row_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row losses, hits and d_outputs of a loss."""
    loss, backend = get_loss(name), get_backend(backend_name)
    status = RunStatus(backend)
    targets = backend.from_host(loss.targets(y, outputs.shape[1], outputs.dtype))
    on_device = backend.from_host(outputs.copy())
    weight = None if row_weight is None else backend.from_host(row_weight.astype(outputs.dtype))
    d_outputs = backend.empty(outputs.shape, outputs.dtype)
    losses, hits = (backend.zeros(len(outputs), outputs.dtype) for _ in range(2))
    loss.apply(Eager(backend), on_device, targets, weight, d_outputs, losses, hits, status.clock)
    return backend.to_host(losses), backend.to_host(hits), backend.to_host(d_outputs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("name", "kind"), LOSS_CASES)
def test_gradient_matches_central_differences(name: str, kind: str, weighted: bool, backend_name: str) -> None:
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(ROWS, COLUMNS)), targets_for(name, kind, rng)
    weight = rng.random(ROWS) + 0.5 if weighted else None
    d_outputs = applied(name, outputs, y, backend_name, weight)[2]
    numerical = np.empty_like(outputs)
    for index in np.ndindex(outputs.shape):
        means = []
        for shift in (1e-6, -1e-6):
            shifted = outputs.copy()
            shifted[index] += shift
            means.append(applied(name, shifted, y, backend_name, weight)[0].mean())
        numerical[index] = (means[0] - means[1]) / 2e-6
    assert_allclose(d_outputs, numerical, rtol=1e-6, atol=1e-9)


def torch_loss(name: str, outputs: Any, y: np.ndarray, dtype: Any) -> Any:
    """PyTorch's loss for each row."""
    import torch
    from torch.nn import functional

    if name == "softmax_cross_entropy" and y.ndim == 1:
        return functional.cross_entropy(outputs, torch.tensor(y), reduction="none")
    targets = torch.tensor(y, dtype=dtype)
    if name == "softmax_cross_entropy":
        return functional.cross_entropy(outputs, targets, reduction="none")
    if name == "binary_cross_entropy":
        return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(dim=1)
    squares = functional.mse_loss(outputs, targets, reduction="none")
    return squares.mean(dim=1) if name == "mean_squared_error" else squares.sum(dim=1) / 2


@pytest.mark.peers
@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "kind"), LOSS_CASES)
def test_value_and_gradient_match_pytorch(
    name: str, kind: str, dtype: str, weighted: bool, scale: float, backend_name: str
) -> None:
    import torch

    rng = np.random.default_rng(1)
    outputs = (rng.normal(size=(ROWS, COLUMNS)) * scale).astype(dtype)
    y = targets_for(name, kind, rng)
    weight = rng.random(ROWS) + 0.5 if weighted else np.ones(ROWS)
    losses, _, d_outputs = applied(name, outputs, y, backend_name, weight if weighted else None)

    tensor = torch.tensor(outputs, requires_grad=True)
    expected = torch_loss(name, tensor, y, tensor.dtype) * torch.tensor(weight, dtype=tensor.dtype)
    expected.mean().backward()
    epsilon = np.finfo(dtype).eps
    # Differences of outputs up to `scale` in size carry its rounding errors.
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
    hits = applied("softmax_cross_entropy", logits, np.array([1, 1, 2]), backend_name)[1]
    assert_allclose(hits, [0, 1, 1])
    one_hot = np.eye(3)[[1, 1, 2]]
    assert_allclose(applied("softmax_cross_entropy", logits, one_hot, backend_name)[1], [0, 1, 1])


def test_binary_accuracy_is_the_share_of_outputs(backend_name: str) -> None:
    logits, y = np.array([[1.0, -1.0], [1.0, -1.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert_allclose(applied("binary_cross_entropy", logits, y, backend_name)[1], [1.0, 0.5])


@pytest.mark.parametrize(
    ("name", "y", "message"),
    [
        ("softmax_cross_entropy", np.array([0, 1, 4]), "from 0 to 3 .* got labels from 0 to 4"),
        ("softmax_cross_entropy", np.array([0, 1, -1]), "got labels from -1 to 1"),
        ("softmax_cross_entropy", np.array([0.0, 1.0, 2.0]), r"must be integers .* got dtype float64.*astype\(int\)"),
        ("softmax_cross_entropy", np.full((3, 4), 0.5), "sum 1 in each row"),
        ("softmax_cross_entropy", np.zeros((3, 2)), r"shape \(batch,\) or probabilities of shape \(batch, 4\)"),
        ("binary_cross_entropy", np.full((3, 4), 2.0), "between 0 and 1, got values from 2 to 2"),
        ("binary_cross_entropy", np.zeros((3, 1)), r"shape \(batch, 4\) .* got \(3, 1\)"),
        ("mean_squared_error", np.zeros(3), r"shape \(batch, 4\) .* got \(3,\)"),
        ("mean_squared_error", np.full((3, 4), np.nan), "targets contain NaN"),
        ("half_squared_error", np.full((3, 4), np.inf), "targets contain NaN, infinity"),
    ],
)
def test_wrong_targets_are_refused(name: str, y: np.ndarray, message: str) -> None:
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
