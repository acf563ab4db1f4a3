"""Gradients and their norms: by hand, against numerical ones, and without side effects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf


def two_weights(backend_name: str) -> gf.Sequential:
    network = gf.MLP([1, 1, 1], activation="sigmoid", bias=False, dtype="float64", backend=backend_name)
    network.set_weights({"0.weight": [[0.5]], "2.weight": [[0.3]]})
    return network


def test_two_weight_network_by_hand(backend_name: str) -> None:
    hidden = 1 / (1 + math.exp(-2 * 0.5))
    error = 0.3 * hidden - 0.5
    norms = gf.inspect.gradient_norms(two_weights(backend_name), "half_squared_error", [[2.0]], [[0.5]])
    assert list(norms) == ["0.weight", "2.weight"]
    expected = [abs(error * 0.3 * hidden * (1 - hidden) * 2), abs(error * hidden)]
    assert_allclose(list(norms.values()), expected, rtol=1e-14)  # a few tens of float64 ulps: a few operations


def test_norm_is_over_all_entries_and_the_mean_over_rows(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(2, 2, initializer=0.0)], backend=backend_name)
    x, y = [[3.0, 0.0], [0.0, 4.0]], [[-1.0, 0.0], [-2.0, 0.0]]
    # Outputs are 0, so dL/dy = -y / 2 rows: (0.5, 0) and (1, 0); dL/dweight = xᵀ dL/dy = [[1.5, 0], [4, 0]].
    norms = gf.inspect.gradient_norms(network, "half_squared_error", x, y)
    assert_allclose([norms["0.weight"], norms["0.bias"]], [math.hypot(1.5, 4), 1.5], rtol=1e-6)  # float32


def test_agrees_with_central_differences(backend_name: str) -> None:
    network = gf.MLP([3, 4, 2], activation="tanh", dtype="float64", seed=1, backend=backend_name)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1])
    norms = gf.inspect.gradient_norms(network, "softmax_cross_entropy", x, y)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "sgd")
    weights = network.get_weights()
    for name, weight in weights.items():
        squares, h = 0.0, 1e-5
        for entry in np.ndindex(weight.shape):
            losses = []
            for step in (h, -h):
                shifted = {key: value.copy() for key, value in weights.items()}
                shifted[name][entry] += step
                network.set_weights(shifted)
                losses.append(trainer.evaluate(x, y)["loss"])
            squares += ((losses[0] - losses[1]) / (2 * h)) ** 2
        # Central differences: h² truncation and eps / h rounding, both about 1e-10 here.
        assert_allclose(norms[name], math.sqrt(squares), rtol=1e-7)


def test_standardized_targets_are_those_that_training_sees(backend_name: str) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3))
    y = 5000 + 300 * x[:, :1]
    network = gf.MLP([3, 4, 1], "tanh", dtype="float64", seed=1, backend=backend_name)
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.1), standardize_targets=True).fit(x, y, epochs=1)
    norms = gf.inspect.gradient_norms(network, "mean_squared_error", x, y)
    assert max(gf.check_gradients(network, "mean_squared_error", x, y).values()) < 1e-5
    before = network.get_weights()
    # A step with rate 1 is the gradient itself.
    gf.Trainer(network, "mean_squared_error", gf.SGD(1.0)).fit(x, y, epochs=1, batch_size=None)
    for name, weight in network.get_weights().items():
        assert_allclose(norms[name], np.linalg.norm(weight - before[name]), rtol=1e-9)


def weighted_networks(backend: str) -> list[tuple[gf.Sequential, str, np.ndarray, np.ndarray]]:
    random = np.random.default_rng(0)
    x = random.normal(size=(12, 3))
    classifier = gf.MLP([3, 4, 2], "tanh", dtype="float64", seed=1, backend=backend)
    layers = [gf.Dense(3, 4), gf.BatchNorm(4), gf.Tanh(), gf.Dense(4, 1)]
    regressor = gf.Sequential(layers, dtype="float64", seed=1, backend=backend)
    regressor.preprocessing = gf.data.fit_preprocessing(x)
    y = 5000 + 300 * x[:, :1]
    gf.Trainer(regressor, "mean_squared_error", gf.SGD(0.1), standardize_targets=True).fit(x, y, epochs=1)
    return [(classifier, "softmax_cross_entropy", x, np.arange(12) % 2), (regressor, "mean_squared_error", x, y)]


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_a_step_of_rate_1_subtracts_the_gradients(weighted: bool, backend_name: str) -> None:
    for network, loss, x, y in weighted_networks(backend_name):
        weights = {"sample_weight": np.arange(12.0)} if weighted else {}
        if weighted and loss == "softmax_cross_entropy":
            weights["class_weight"] = {1: 3}
        found = gf.gradients(network, loss, x, y, **weights)
        assert max(gf.check_gradients(network, loss, x, y).values()) < 1e-5
        before = network.get_weights()
        gf.Trainer(network, loss, gf.SGD(1.0)).fit(x, y, epochs=1, batch_size=None, **weights)
        after = network.get_weights()
        assert found.keys() == {name for name in before if "running" not in name}
        for name, gradient in found.items():
            assert gradient.dtype == np.float64
            assert_allclose(before[name] - after[name], gradient, rtol=1e-9, atol=1e-12)


def test_norms_are_those_of_the_gradients(backend_name: str) -> None:
    for network, loss, x, y in weighted_networks(backend_name):
        norms = gf.inspect.gradient_norms(network, loss, x, y)
        expected = {name: np.linalg.norm(gradient) for name, gradient in gf.gradients(network, loss, x, y).items()}
        assert norms == pytest.approx(expected, rel=1e-12)


def test_network_stays_as_it_is(backend_name: str) -> None:
    network = gf.MLP([2, 5, 1], dropout=0.5, seed=3, backend=backend_name)
    x, y = np.ones((4, 2)), np.zeros(4)
    gf.Trainer(network, "mean_squared_error", gf.GradientDescent(0.1)).fit(x, y, epochs=1)
    weights, gradients = network.get_weights(), network.backend.to_host(network.gradients)
    before = network.epochs_begun
    first = gf.inspect.gradient_norms(network, "mean_squared_error", x, y)
    assert gf.inspect.gradient_norms(network, "mean_squared_error", x, y) == first
    for name, weight in network.get_weights().items():
        np.testing.assert_array_equal(weight, weights[name])
    np.testing.assert_array_equal(network.backend.to_host(network.gradients), gradients)
    assert network.epochs_begun == before == 1


def test_dropout_takes_part(backend_name: str) -> None:
    layers = [gf.Dense(1, 200, bias=False, initializer=1.0), gf.Dropout(0.5), gf.Dense(200, 1, initializer=0.0)]
    network = gf.Sequential(layers, backend=backend_name)
    norms = gf.inspect.gradient_norms(network, "half_squared_error", [[1.0]], [[-1.0]])
    # The gradient of the second weight is the hidden output: 2 where kept and 0 where dropped.
    kept = (norms["2.weight"] / 2) ** 2
    assert_allclose(kept, round(kept), rtol=1e-5)  # float32
    assert 60 < round(kept) < 140  # more than five standard deviations (7.1) around 100


def test_trailing_activation_is_folded_into_its_loss(backend_name: str) -> None:
    x, y = [[1.0], [-2.0]], [1, 0]
    plain = gf.Sequential([gf.Dense(1, 1, initializer=0.7)], backend=backend_name)
    ending = gf.Sequential([gf.Dense(1, 1, initializer=0.7), gf.Sigmoid()], backend=backend_name)
    norms = gf.inspect.gradient_norms(plain, "binary_cross_entropy", x, y)
    assert norms["0.weight"] > 0.1
    assert gf.inspect.gradient_norms(ending, "binary_cross_entropy", x, y) == norms


def test_overflowing_loss_shows_as_nan(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 1, bias=False, initializer=1e38)], backend=backend_name)
    norms = gf.inspect.gradient_norms(network, "half_squared_error", [[10.0]], [[0.0]])
    assert not math.isfinite(norms["0.weight"])


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[1.0, 2.0]], [[1.0]], "must have 1 features"),
        ([[1.0], [2.0]], [[1.0]], "x has 2 rows, but y has 1 rows"),
        ([[1.0]], 1.0, "no dimension"),
        ([[math.nan]], [[1.0]], "not finite"),
        (np.empty((0, 1)), np.empty((0, 1)), "no rows"),
        ([["a"]], [[1.0]], "must hold numbers"),
    ],
)
def test_wrong_data(backend_name: str, x: object, y: object, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        gf.inspect.gradient_norms(two_weights(backend_name), "half_squared_error", x, y)


def test_wrong_network_and_loss(backend_name: str) -> None:
    with pytest.raises(gf.DataError, match=r"must be a gradflow network, got .* of type list"):
        gf.inspect.gradient_norms([gf.Dense(1, 1)], "half_squared_error", [[1.0]], [[1.0]])
    with pytest.raises(gf.DataError, match="Did you mean 'half_squared_error'"):
        gf.inspect.gradient_norms(two_weights(backend_name), "half_square_error", [[1.0]], [[1.0]])


def test_gradient_check_refuses_rows_that_do_not_match(backend_name: str) -> None:
    with pytest.raises(gf.DataError, match="x has 2 rows, but y has 1 rows"):
        gf.check_gradients(two_weights(backend_name), "half_squared_error", [[1.0], [2.0]], [[1.0]])
