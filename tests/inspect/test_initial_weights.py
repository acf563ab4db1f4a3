"""Initial weights from the data, and the NTK parametrization by factors of the learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf

RNG = np.random.default_rng(0)
X = 5 + 10 * RNG.normal(size=(300, 4)) * [1, 0.1, 3, 1]
Y = RNG.normal(size=(300, 2))


def make_network(backend: str = "numpy", **settings: Any) -> gf.Sequential:
    layers = [gf.Dense(4, 30), gf.ReLU(), gf.Dropout(0.2), gf.Dense(30, 20, bias=False), gf.Tanh(), gf.Dense(20, 2)]
    return gf.Sequential(layers, backend=backend, **({"seed": 3, "dtype": "float64"} | settings))


def test_every_unit_begins_with_standard_deviation_1(backend_name: str) -> None:
    network = make_network(backend_name)
    gf.fit_initial_weights(network, X)
    outputs = gf.inspect.layer_outputs(network, X)
    for name in ("0.Dense", "3.Dense", "5.Dense"):
        assert_allclose(outputs[name].std(axis=0), 1, rtol=1e-9)


def test_the_boundary_of_every_unit_lies_within_the_data(backend_name: str) -> None:
    network = make_network(backend_name)
    before = network.get_weights()
    gf.fit_initial_weights(network, X)
    first = gf.inspect.layer_outputs(network, X)["0.Dense"]
    assert (first.min(axis=0) < 0).all()
    assert (first.max(axis=0) > 0).all()
    after = network.get_weights()
    ratio = after["0.weight"] / before["0.weight"]
    assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-9)
    assert (ratio > 0).all()
    # All units would have the same sign on most rows without biases: the inputs are far from 0.
    assert len(np.unique(after["0.bias"])) == 30


def test_it_is_repeatable_and_reads_preprocessed_inputs(backend_name: str) -> None:
    columns = {"a": X[:, 0], "b": X[:, 1], "city": np.array(["Rome", "Oslo", "Bern"] * 100)}
    networks = []
    for _ in range(2):
        preprocessing = gf.data.fit_preprocessing(columns)
        network = gf.MLP([5, 8, 2], preprocessing=preprocessing, seed=4, backend=backend_name)
        gf.fit_initial_weights(network, columns)
        networks.append(network)
    assert_allclose(gf.inspect.layer_outputs(networks[0], columns)["0.Dense"].std(axis=0), 1, rtol=1e-4)
    for name, weight in networks[0].get_weights().items():
        assert_array_equal(networks[1].get_weights()[name], weight)


def test_units_that_do_not_vary_keep_their_weights() -> None:
    network = make_network()
    before = network.get_weights()
    gf.fit_initial_weights(network, np.ones((6, 4)))
    assert_array_equal(network.get_weights()["0.weight"], before["0.weight"])
    assert all(np.isfinite(weight).all() for weight in network.get_weights().values())


def test_factors_are_those_of_all_dense_layers() -> None:
    block = gf.Residual([gf.Dense(4, 9), gf.ReLU(), gf.Dense(9, 4)])
    network = gf.Sequential([gf.Dense(16, 4), block, gf.BatchNorm(4), gf.Dense(4, 1)], backend="numpy")
    assert gf.ntk_factors(network) == {"0.weight": 1 / 4, "1.0.weight": 1 / 2, "1.2.weight": 1 / 3, "3.weight": 1 / 2}


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_learns_as_in_the_ntk_parametrization(decay: float, backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2, initializer="lecun_normal")], dtype="float64", seed=1, backend=backend_name)
    rate, root = 0.03, 2.0  # √n_in
    w, bias = root * network.get_weights()["0.weight"], np.zeros(2)
    factors = gf.ntk_factors(network)
    optimizer = gf.AdamW(
        rate,
        epsilon=1e-14,
        weight_decay=decay,
        factors=factors,
        decay_factors={name: 1 / factor for name, factor in factors.items()},
    )
    x = np.random.default_rng(1).normal(size=(300, 4))
    trainer = gf.Trainer(network, "half_squared_error", optimizer)
    trainer.fit(x, Y, epochs=12, batch_size=None, shuffle=False, progress=False)
    # AdamW on W and the bias of x W / √n_in + bias, by hand.
    moments = [[np.zeros_like(value), np.zeros_like(value)] for value in (w, bias)]
    for step in range(1, 13):
        error = (x @ w / root + bias - Y) / len(x)
        gradients = [x.T @ error / root, error.sum(axis=0)]
        w = w * (1 - rate * decay)
        moved = []
        for value, gradient, pair in zip((w, bias), gradients, moments, strict=True):
            pair[0] = 0.9 * pair[0] + 0.1 * gradient
            pair[1] = 0.999 * pair[1] + 0.001 * gradient**2
            moved.append(value - rate * (pair[0] / (1 - 0.9**step)) / np.sqrt(pair[1] / (1 - 0.999**step)))
        w, bias = moved
    weights = network.get_weights()
    assert_allclose(weights["0.weight"], w / root, rtol=1e-8)
    assert_allclose(weights["0.bias"], bias, rtol=1e-8)
