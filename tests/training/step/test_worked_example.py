"""The worked example with two weights, to the last digit: x = 2, w1 = 0.5, w2 = 0.3, a sigmoid hidden unit, target
0.5."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf

X, TARGET = np.array([[2.0]]), np.array([0.5])


@pytest.fixture
def network(backend_name: str) -> gf.MLP:
    network = gf.MLP([1, 1, 1], activation="sigmoid", bias=False, dtype="float64", backend=backend_name)
    network.set_weights({"0.weight": [[0.5]], "2.weight": [[0.3]]})
    return network


def test_forward_backward_and_one_step(network: gf.MLP) -> None:
    h = 1 / (1 + math.exp(-2 * 0.5))
    y = 0.3 * h
    d_y = y - 0.5
    d_w2 = d_y * h
    d_w1 = d_y * 0.3 * h * (1 - h) * 2
    assert_allclose(
        [h, y, d_y**2 / 2, d_w2, d_w1],
        [0.7310585786, 0.2193175736, 0.0393913122, -0.2051952957, -0.0331113087],
        atol=5e-11,
        rtol=0,
    )
    assert_allclose(network.predict(X), [[y]], rtol=1e-15)

    trainer = gf.Trainer(network, "half_squared_error", gf.GradientDescent(0.01))
    history = trainer.fit(X, TARGET, epochs=1, batch_size=None)
    assert_allclose(history["loss"], [d_y**2 / 2], rtol=1e-14)
    assert_allclose(network.backend.to_host(network.gradients), [d_w1, d_w2], rtol=1e-14)
    weights = network.get_weights()
    assert_allclose(weights["2.weight"], [[0.3 - 0.01 * d_w2]], rtol=1e-15)
    assert_allclose(weights["0.weight"], [[0.5 - 0.01 * d_w1]], rtol=1e-15)
    assert_allclose([weights["2.weight"][0, 0], weights["0.weight"][0, 0]], [0.3020519530, 0.5003311131], atol=5e-11)


def test_gradient_check_agrees(network: gf.MLP) -> None:
    errors = gf.check_gradients(network, "half_squared_error", X, TARGET)
    assert errors.keys() == {"0.weight", "2.weight"}
    assert max(errors.values()) < 1e-8
