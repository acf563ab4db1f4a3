"""Batch normalization: its running values, a batch of one row, and parity with PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(loc=3, scale=2, size=(33, 4))
Y = RNG.normal(size=(33, 2))


def make_network(backend: str, **settings: float) -> gf.Sequential:
    layers = [gf.BatchNorm(4, **settings), gf.Dense(4, 6, bias=False), gf.BatchNorm(6), gf.Tanh(), gf.Dense(6, 2)]
    return gf.Sequential(layers, dtype="float64", seed=1, backend=backend)


def fit(network: gf.Sequential, x: np.ndarray = X, y: np.ndarray = Y, **arguments: Any) -> gf.History:
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.05))
    return trainer.fit(x, y, **{"epochs": 1, "batch_size": None, "progress": False, **arguments})


def test_columns_are_normalized_and_running_values_follow(backend_name: str) -> None:
    network = make_network(backend_name, momentum=0.25)
    before = network.get_weights()
    assert (before["0.running_mean"] == 0).all()
    assert (before["0.running_variance"] == 1).all()
    fit(network)
    after = network.get_weights()
    assert_allclose(after["0.running_mean"], 0.25 * X.mean(axis=0), rtol=1e-12)
    assert_allclose(after["0.running_variance"], 0.75 + 0.25 * X.var(axis=0, ddof=1), rtol=1e-12)


def test_prediction_takes_the_running_values(backend_name: str) -> None:
    network = gf.Sequential([gf.BatchNorm(4, epsilon=0.5)], dtype="float64", backend=backend_name)
    weights = {
        "0.gamma": np.array([1.0, 2.0, 3.0, 4.0]),
        "0.beta": np.array([0.0, 1.0, 0.0, -1.0]),
        "0.running_mean": np.array([3.0, 2.0, 1.0, 0.0]),
        "0.running_variance": np.array([0.0, 0.5, 3.5, 15.5]),
    }
    network.set_weights(weights)
    expected = (X - weights["0.running_mean"]) / np.sqrt([0.5, 1, 4, 16]) * weights["0.gamma"] + weights["0.beta"]
    assert_allclose(network.predict(X), expected, rtol=1e-12)
    assert_allclose(gf.inspect.layer_outputs(network, X)["0.BatchNorm"], expected, rtol=1e-12)
    assert network.predict(X[:1]).tobytes() == network.predict(X)[:1].tobytes()
    assert network.get_weights()["0.running_mean"].tobytes() == weights["0.running_mean"].tobytes()


def test_a_mean_far_beyond_the_std_costs_no_digits(backend_name: str) -> None:
    network = gf.Sequential([gf.BatchNorm(1, momentum=1.0), gf.Dense(1, 1)], backend=backend_name)
    x = (4096 + np.array([-1.0, 0.0, 1.0, 0.0])).reshape(-1, 1)  # the mean of squares has no digits left for 0.5
    fit(network, x, np.zeros((4, 1)))
    assert_allclose(network.get_weights()["0.running_variance"], 2 / 3, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 5, 33])
def test_gradients(rows: int, backend_name: str) -> None:
    network = make_network(backend_name)
    fit(network, epochs=3)
    assert max(gf.check_gradients(network, "mean_squared_error", X[:rows], Y[:rows]).values()) < 1e-5


def test_a_last_batch_of_one_row_takes_the_running_values(backend_name: str) -> None:
    network, twin = make_network(backend_name), make_network(backend_name)
    fit(network, batch_size=32, shuffle=False)
    fit(twin, X[:32], Y[:32])
    assert network.get_weights()["0.running_mean"].tobytes() == twin.get_weights()["0.running_mean"].tobytes()
    logits = twin.predict(X[32:])
    expected = twin.get_weights()["4.bias"] - 0.05 * (logits - Y[32:])[0]
    assert_allclose(network.get_weights()["4.bias"], expected, rtol=1e-9)


@pytest.mark.parametrize(("rows", "batch_size"), [(33, 1), (1, 32), (1, None)])
def test_training_on_single_rows_is_refused(rows: int, batch_size: int | None, backend_name: str) -> None:
    network = make_network(backend_name)
    before = network.get_weights()
    message = r"layer 0, BatchNorm\(n_in=4, .*, needs batches of at least 2 rows in training, got 1; pass a larger"
    with pytest.raises(gf.DataError, match=message):
        fit(network, X[:rows], Y[:rows], batch_size=batch_size)
    for name, weight in network.get_weights().items():
        assert weight.tobytes() == before[name].tobytes()


def test_the_best_weights_come_with_their_running_values(backend_name: str) -> None:
    class Watch(gf.Callback):
        """Keeps the weights after each epoch."""

        epochs: list[dict[str, np.ndarray]] = []  # noqa: RUF012

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            self.epochs.append(trainer.network.get_weights())

    Watch.epochs = []
    network = make_network(backend_name)
    history = fit(
        network, epochs=40, validation_data=(X[:9], -Y[:9]), early_stopping=gf.EarlyStopping(patience=3),
        callbacks=[Watch()],
    )  # fmt: skip
    assert history.best_epoch is not None
    assert history.best_epoch < len(Watch.epochs)
    for name, weight in network.get_weights().items():
        assert weight.tobytes() == Watch.epochs[history.best_epoch - 1][name].tobytes(), name


def test_a_diverged_network_gets_its_running_values_back(backend_name: str) -> None:
    network = make_network(backend_name)
    fit(network, epochs=2)
    before = network.get_weights()
    with pytest.raises(gf.DivergedError), np.errstate(all="ignore"):
        gf.Trainer(network, "mean_squared_error", gf.SGD(1e200)).fit(X, Y, epochs=5, progress=False)
    for name, weight in network.get_weights().items():
        assert weight.tobytes() == before[name].tobytes(), name


def test_saved_copied_and_decayed_as_it_should(backend_name: str, tmp_path: Path) -> None:
    network = make_network(backend_name, momentum=0.4, epsilon=0.01)
    assert network.n_parameters == 4 + 4 + 24 + 6 + 6 + 12 + 2
    assert network.n_decayed == 24 + 12
    assert network.state.shape == (network.n_parameters + 8 + 12,)
    fit(network, epochs=3)
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    assert repr(loaded) == repr(network)
    for other in (loaded, network.copy()):
        assert list(other.get_weights()) == list(network.get_weights())
        assert other.predict(X).tobytes() == network.predict(X).tobytes()


def test_a_running_variance_below_zero_is_refused() -> None:
    network = make_network("numpy")
    weights = network.get_weights()
    weights["0.running_variance"][2] = -0.25
    with pytest.raises(gf.DataError, match=r"weight '0.running_variance' must be at least 0, got -0.25"):
        network.set_weights(weights)


def test_the_following_activation_chooses_the_initializer_of_the_preceding_layer() -> None:
    chosen = gf.Sequential([gf.Dense(4, 3), gf.BatchNorm(3), gf.ReLU()], backend="numpy").get_weights()["0.weight"]
    named = gf.Sequential([gf.Dense(4, 3, initializer="he_normal")], backend="numpy").get_weights()["0.weight"]
    assert chosen.tobytes() == named.tobytes()


@pytest.mark.peers
@pytest.mark.parametrize(("momentum", "epsilon"), [(0.1, 1e-5), (0.7, 0.1), (1.0, 1e-3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_matches_pytorch(dtype: str, momentum: float, epsilon: float, backend_name: str) -> None:
    import torch

    settings = {"momentum": momentum, "epsilon": epsilon}
    layers = [gf.Dense(4, 6), gf.BatchNorm(6, **settings), gf.Tanh(), gf.Dense(6, 2)]
    network = gf.Sequential(layers, dtype=dtype, backend=backend_name)
    norm = torch.nn.BatchNorm1d(6, eps=epsilon, momentum=momentum)
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), norm, torch.nn.Tanh(), torch.nn.Linear(6, 2))
    model = model.to(getattr(torch, dtype))
    rng = np.random.default_rng(5)
    weights = network.get_weights()
    weights["1.gamma"], weights["1.beta"] = rng.normal(size=(2, 6)).astype(dtype)
    network.set_weights(weights)
    tensors = {
        "0.weight": model[0].weight, "0.bias": model[0].bias, "1.gamma": norm.weight, "1.beta": norm.bias,
        "1.running_mean": norm.running_mean, "1.running_variance": norm.running_var,
        "3.weight": model[3].weight, "3.bias": model[3].bias,
    }  # fmt: skip
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch.tensor(weights[name].T))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = X.astype(dtype), Y.astype(dtype)
    steps = 5
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(x, y, epochs=steps, batch_size=None, progress=False)

    tolerance = 2e-5 if dtype == "float32" else 1e-11
    for name, value in network.get_weights().items():
        assert_allclose(value, tensors[name].detach().numpy().T, rtol=tolerance, atol=tolerance, err_msg=name)
    gradients = network.backend.to_host(network.gradients)
    for name, (start, stop) in network.parameter_ranges.items():
        expected = tensors[name].grad.numpy().T.ravel()
        assert_allclose(gradients[start:stop], expected, rtol=tolerance, atol=tolerance, err_msg=name)
    model.eval()
    assert_allclose(
        network.predict(x), model(torch.tensor(x)).detach().numpy(), rtol=10 * tolerance, atol=10 * tolerance
    )
