"""Layer normalization: by hand, and parity with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(loc=3, scale=2, size=(33, 6))
Y = RNG.normal(size=(33, 2))


def test_rows_are_normalized(backend_name: str) -> None:
    network = gf.Sequential([gf.LayerNorm(6, epsilon=0.5)], dtype="float64", backend=backend_name)
    gamma, beta = np.arange(1.0, 7.0), np.arange(-3.0, 3.0)
    network.set_weights({"0.gamma": gamma, "0.beta": beta})
    std = np.sqrt(X.var(axis=1, keepdims=True) + 0.5)
    expected = (X - X.mean(axis=1, keepdims=True)) / std * gamma + beta
    assert_allclose(network.predict(X), expected, rtol=1e-12, atol=1e-14)  # terms of size 8 cancel
    assert network.n_decayed == 0


def test_a_mean_far_beyond_the_std_costs_no_digits(backend_name: str) -> None:
    network = gf.Sequential([gf.LayerNorm(4)], backend=backend_name)
    row = 4096 + np.array([[-1.0, 0.0, 1.0, 0.0]])  # the mean of squares has no digits left for 0.5
    assert_allclose(network.predict(row), (row - 4096) / np.sqrt(0.5), rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 33])
def test_gradients_and_training_on_single_rows(rows: int, backend_name: str) -> None:
    layers = [gf.LayerNorm(6), gf.Dense(6, 5), gf.LayerNorm(5), gf.Tanh(), gf.Dense(5, 2)]
    network = gf.Sequential(layers, dtype="float64", backend=backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.05))
    history = trainer.fit(X, Y, epochs=3, batch_size=rows, progress=False)
    assert history["loss"][-1] < history["loss"][0]
    assert max(gf.check_gradients(network, "mean_squared_error", X[:rows], Y[:rows]).values()) < 1e-5


@pytest.mark.peers
@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_matches_pytorch(dtype: str, epsilon: float, backend_name: str) -> None:
    import torch

    network = gf.Sequential(
        [gf.Dense(6, 5), gf.LayerNorm(5, epsilon=epsilon), gf.Dense(5, 2)], dtype=dtype, backend=backend_name
    )
    norm = torch.nn.LayerNorm(5, eps=epsilon)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), norm, torch.nn.Linear(5, 2)).to(getattr(torch, dtype))
    weights = network.get_weights()
    weights["1.gamma"], weights["1.beta"] = RNG.normal(size=(2, 5)).astype(dtype)
    network.set_weights(weights)
    tensors = {
        "0.weight": model[0].weight, "0.bias": model[0].bias, "1.gamma": norm.weight, "1.beta": norm.bias,
        "2.weight": model[2].weight, "2.bias": model[2].bias,
    }  # fmt: skip
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.tensor(weights[name].T))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = X.astype(dtype), Y.astype(dtype)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(y)).backward()
        optimizer.step()
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(x, y, epochs=5, batch_size=None, progress=False)

    tolerance = 2e-5 if dtype == "float32" else 1e-11
    gradients = network.backend.to_host(network.gradients)
    for name, value in network.get_weights().items():
        assert_allclose(value, tensors[name].detach().numpy().T, rtol=tolerance, atol=tolerance, err_msg=name)
        gradient, expected = gradients[slice(*network.parameter_ranges[name])], tensors[name].grad.numpy().T.ravel()
        assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    assert_allclose(network.predict(x), model(torch.tensor(x)).detach().numpy(), rtol=tolerance, atol=tolerance)
