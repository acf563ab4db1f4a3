"""Outputs of layers, dead units and saturated units, each compared with a case worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf

X = [[1.0], [2.0]]


def four_units(activation: gf.Layer, biases: list[float], backend_name: str) -> gf.Sequential:
    """Return units x + bias for the four biases, followed by an activation."""
    network = gf.Sequential([gf.Dense(1, 4), activation, gf.Dense(4, 1)], backend=backend_name)
    weights = network.get_weights()
    network.set_weights(weights | {"0.weight": np.ones((1, 4)), "0.bias": biases})
    return network


class Doubled(gf.Layer):
    """A user-defined layer: plain arithmetic, no ops."""

    def forward(self, ops: object, x: np.ndarray, y: np.ndarray) -> None:
        y[...] = 2 * x


def test_layer_outputs_by_hand(backend_name: str) -> None:
    network = four_units(gf.ReLU(), [0.0, -1.0, -1.5, -9.0], backend_name)
    outputs = gf.inspect.layer_outputs(network, X)
    assert list(outputs) == ["0.Dense", "1.ReLU", "2.Dense"]
    # The first is kept although ReLU could have been computed in place.
    assert_allclose(outputs["0.Dense"], [[1, 0, -0.5, -8], [2, 1, 0.5, -7]], rtol=0)
    assert_allclose(outputs["1.ReLU"], [[1, 0, 0, 0], [2, 1, 0.5, 0]], rtol=0)
    np.testing.assert_array_equal(outputs["2.Dense"], network.predict(X))


def test_layer_outputs_omit_dropout(backend_name: str) -> None:
    network = gf.MLP([1, 3, 1], activation="tanh", dropout=0.9, backend=backend_name)
    outputs = gf.inspect.layer_outputs(network, X)
    assert list(outputs) == ["0.Dense", "1.Tanh", "3.Dense"]
    np.testing.assert_array_equal(outputs["3.Dense"], network.predict(X))


def test_layer_outputs_run_layers_of_the_users_own(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 1, initializer=3.0), Doubled()], backend=backend_name)
    assert_allclose(gf.inspect.layer_outputs(network, X)["1.Doubled"], [[6], [12]], rtol=0)


@pytest.mark.parametrize(
    ("activation", "fraction"),
    [
        (gf.ReLU, 0.5),  # -2 gives 0 for both rows, and so does -9; -1.5 does only for the first
        (gf.LeakyReLU, 0.0),
        (gf.ELU, 0.0),
        (gf.Tanh, 0.0),
        (gf.Sigmoid, 0.0),
    ],
)
def test_dead_units_by_hand(backend_name: str, activation: type[gf.Layer], fraction: float) -> None:
    network = four_units(activation(), [0.0, -1.5, -2.0, -9.0], backend_name)
    assert gf.inspect.dead_units(network, X) == {f"1.{activation.__name__}": fraction}


def test_leaky_relu_without_slope_dies_as_relu_does(backend_name: str) -> None:
    network = four_units(gf.LeakyReLU(slope=0.0), [0.0, -1.5, -2.0, -9.0], backend_name)
    assert gf.inspect.dead_units(network, X) == {"1.LeakyReLU": 0.5}


def test_tanh_is_dead_once_it_has_rounded_to_its_limits(backend_name: str) -> None:
    network = four_units(gf.Tanh(), [0.0, 50.0, -50.0, 1.0], backend_name)
    assert gf.inspect.dead_units(network, X) == {"1.Tanh": 0.5}


def test_dead_units_of_every_layer_and_of_a_batch_of_one(backend_name: str) -> None:
    layers = [gf.Dense(1, 2, initializer=-1.0), gf.ReLU(), gf.Dense(2, 1), gf.ReLU(), gf.Dense(1, 1)]
    network = gf.Sequential(layers, backend=backend_name)
    assert gf.inspect.dead_units(network, [[1.0]]) == {"1.ReLU": 1.0, "3.ReLU": 1.0}
    assert gf.inspect.dead_units(network, [[1.0], [-1.0]])["1.ReLU"] == 0.0


def test_softmax_and_layers_without_activation_have_no_dead_units(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1, 3), gf.Identity(), gf.Softmax()], backend=backend_name)
    assert gf.inspect.dead_units(network, X) == {}


def test_saturated_units_by_hand(backend_name: str) -> None:
    sigmoid = four_units(gf.Sigmoid(), [0.0, -4.5, 2.5, -9.0], backend_name)
    # sigmoid(x) > 0.95 from x = ln 19 = 2.944 on. Rows: 1, -3.5, 3.5, -8 and 2, -2.5, 4.5, -7; three are below.
    assert gf.inspect.saturated_units(sigmoid, X) == {"1.Sigmoid": 5 / 8}
    tanh = four_units(gf.Tanh(), [0.0, -3.0, 3.0, -1.5], backend_name)
    # tanh(x) > 0.95 from x = 1.832 on. Rows: 1, -2, 4, -0.5 and 2, -1, 5, 0.5.
    assert gf.inspect.saturated_units(tanh, X) == {"1.Tanh": 4 / 8}


def test_the_distance_says_what_is_near(backend_name: str) -> None:
    network = four_units(gf.Sigmoid(), [-1.5, -1.5, -1.5, 9.0], backend_name)
    # Three units give sigmoid(±0.5) = 0.378 and 0.622, one about 1.
    assert math.isclose(1 / (1 + math.exp(0.5)), 0.378, abs_tol=1e-3)
    assert gf.inspect.saturated_units(network, X, distance=0.37) == {"1.Sigmoid": 0.25}
    assert gf.inspect.saturated_units(network, X, distance=0.38) == {"1.Sigmoid": 1.0}


def test_only_sigmoid_and_tanh_saturate(backend_name: str) -> None:
    network = gf.MLP([1, 3, 3, 1], activation="relu", backend=backend_name)
    assert gf.inspect.saturated_units(network, X) == {}


@pytest.mark.parametrize("distance", [0.0, -0.1, 0.5, 2, math.nan, "near", True])
def test_wrong_distance(backend_name: str, distance: object) -> None:
    network = gf.MLP([1, 1, 1], activation="tanh", backend=backend_name)
    with pytest.raises(gf.DataError, match="distance must be"):
        gf.inspect.saturated_units(network, X, distance=distance)


@pytest.mark.parametrize("diagnose", [gf.inspect.layer_outputs, gf.inspect.dead_units, gf.inspect.saturated_units])
def test_wrong_data(backend_name: str, diagnose) -> None:
    network = gf.MLP([1, 1, 1], backend=backend_name)
    with pytest.raises(gf.DataError, match="must have 1 features"):
        diagnose(network, [[1.0, 2.0]])
    with pytest.raises(gf.DataError, match="not finite"):
        diagnose(network, [[math.inf]])
    with pytest.raises(gf.DataError, match=r"must be a gradflow network, got .* of type str"):
        diagnose("network", X)


@pytest.mark.parametrize("diagnose", [gf.inspect.layer_outputs, gf.inspect.dead_units, gf.inspect.saturated_units])
def test_network_stays_as_it_is(backend_name: str, diagnose) -> None:
    network = gf.MLP([1, 4, 1], activation="sigmoid", backend=backend_name)
    weights = network.get_weights()
    gradients = network.backend.to_host(network.gradients)
    diagnose(network, X)
    for name, weight in network.get_weights().items():
        np.testing.assert_array_equal(weight, weights[name])
    np.testing.assert_array_equal(network.backend.to_host(network.gradients), gradients)


@pytest.mark.gpu
def test_arrays_on_the_device_are_accepted_as_they_are() -> None:
    import cupy

    network = gf.MLP([2, 8, 1], backend="cupy")
    x = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32).T
    on_device = cupy.asarray(x)
    for name, output in gf.inspect.layer_outputs(network, on_device).items():
        np.testing.assert_array_equal(output, gf.inspect.layer_outputs(network, x)[name])
    y = np.zeros(6, np.float32)
    norms = gf.inspect.gradient_norms(network, "mean_squared_error", x, y)
    assert gf.inspect.gradient_norms(network, "mean_squared_error", on_device, cupy.asarray(y)) == norms
