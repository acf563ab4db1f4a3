"""Every layer: dL/dx and dL/dparameters against central differences in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.executors import Eager
from gradflow.layers import LAYERS
from tests.layers.cases import LAYER_CASES, WIDTH

BATCH = 7
STEP = 1e-6


def test_every_layer_has_a_case() -> None:
    shipped = {name for name, layer in LAYERS.items() if layer.__module__.startswith("gradflow.layers.")}
    elsewhere = {"EmbedColumns", "MeanOfMembers", "MemberDense", "MemberScale"}  # test_embed_columns, test_members
    assert shipped - {"Activation"} - elsewhere == {type(case.make()).__name__ for case in LAYER_CASES.values()}


@pytest.mark.parametrize("name", LAYER_CASES)
def test_gradients_match_central_differences(name: str, backend_name: str) -> None:
    case = LAYER_CASES[name]
    layer = case.make()
    network = gf.Sequential([gf.Dense(WIDTH, WIDTH), layer], dtype="float64", seed=3, backend=backend_name)
    backend, ops = network.backend, Eager(network.backend)
    rng = np.random.default_rng(0)
    x = case.adjust(rng.normal(size=(BATCH, WIDTH)))
    direction = rng.normal(size=(BATCH, layer.output_width(WIDTH)))

    def output(x: np.ndarray) -> np.ndarray:
        y = backend.empty(direction.shape, np.float64)
        layer.forward(ops, backend.from_host(x), y)
        return backend.to_host(y)

    def loss(x: np.ndarray) -> float:
        return float((output(x) * direction).sum())

    d_x = backend.zeros(x.shape, np.float64)
    d_y = backend.from_host(direction.copy())  # a layer may overwrite it
    layer.backward(ops, backend.from_host(x), backend.from_host(output(x)), d_y, d_x)

    numerical = np.empty_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += STEP
        below[index] -= STEP
        numerical[index] = (loss(above) - loss(below)) / (2 * STEP)
    assert_allclose(backend.to_host(d_x), numerical, rtol=1e-6, atol=1e-8)

    weights, gradients = network.get_weights(), backend.to_host(network.gradients)
    for parameter in layer.parameters():
        key = f"1.{parameter}"
        gradient = gradients[slice(*network.parameter_ranges[key])].reshape(weights[key].shape)
        for index in np.ndindex(gradient.shape):
            values = []
            for shift in (STEP, -STEP):
                shifted = {name: value.copy() for name, value in weights.items()}
                shifted[key][index] += shift
                network.set_weights(shifted)
                values.append(loss(x))
            assert_allclose(gradient[index], (values[0] - values[1]) / (2 * STEP), rtol=1e-6, atol=1e-8)
        network.set_weights(weights)


@pytest.mark.parametrize("name", [name for name, case in LAYER_CASES.items() if case.make().elementwise])
def test_working_in_place_gives_the_same_bits(name: str, backend_name: str) -> None:
    layer = LAYER_CASES[name].make()
    network = gf.Sequential([gf.Dense(WIDTH, WIDTH), layer], backend=backend_name)
    backend, ops = network.backend, Eager(network.backend)
    rng = np.random.default_rng(1)
    x, d_y = (rng.normal(size=(BATCH, WIDTH)).astype(np.float32) for _ in range(2))

    y = backend.empty(x.shape, np.float32)
    d_x = backend.empty(x.shape, np.float32)
    layer.forward(ops, backend.from_host(x), y)
    layer.backward(ops, backend.from_host(x), y, backend.from_host(d_y), d_x)

    y_in_place, d_in_place = backend.from_host(x.copy()), backend.from_host(d_y.copy())
    layer.forward(ops, y_in_place, y_in_place)
    kept = backend.from_host(x) if "x" in layer.backward_reads else y_in_place
    layer.backward(ops, kept, y_in_place, d_in_place, d_in_place)
    assert backend.to_host(y).tobytes() == backend.to_host(y_in_place).tobytes()
    assert backend.to_host(d_x).tobytes() == backend.to_host(d_in_place).tobytes()


def test_dense_formula_by_hand(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(2, 3)], dtype="float64", backend=backend_name)
    weight = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    network.set_weights({"0.weight": weight, "0.bias": np.array([0.5, 0.0, -0.5])})
    assert_allclose(network.predict(np.array([[1.0, 10.0]])), [[41.5, 52.0, 62.5]], rtol=0)


def test_dropout_keeps_the_mean_and_drops_the_rate(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(1000, 1000), gf.Dropout(0.3)], seed=5, backend=backend_name)
    backend = network.backend
    y = backend.empty((100, 1000), np.float32)
    network.layers[1].forward(Eager(backend), backend.from_host(np.ones((100, 1000), np.float32)), y)
    kept = backend.to_host(y)
    # 100,000 draws: the fraction of zeros has a standard deviation of 0.00145.
    assert_allclose((kept == 0).mean(), 0.3, atol=0.006)
    assert_allclose(kept[kept != 0], 1 / 0.7, rtol=1e-6)


def test_dropout_on_the_inputs(backend_name: str) -> None:
    network = gf.MLP([4, 3], input_dropout=0.5, dtype="float64", backend=backend_name)
    x, y = np.random.default_rng(0).normal(size=(2, 64, 4))[:, :, :4]
    x[:] = 1
    trainer = gf.Trainer(network, "half_squared_error", gf.SGD(1.0))
    before = network.get_weights()
    trainer.fit(x, np.zeros((64, 3)), epochs=1, batch_size=None, progress=False)
    # With d_y as for the masked inputs, dL/dweight is their product: no row of the weight changes like another.
    moved = network.get_weights()["1.weight"] - before["1.weight"]
    assert not np.allclose(moved, moved[0])
    assert (x == 1).all()
    assert max(gf.check_gradients(network, "half_squared_error", x, y[:, :3]).values()) < 1e-6
    w = network.get_weights()
    assert_allclose(network.predict(x), x @ w["1.weight"] + w["1.bias"], rtol=1e-12)


def test_dropout_is_left_out_at_prediction(backend_name: str) -> None:
    x = np.random.default_rng(0).normal(size=(8, 4))
    with_dropout = gf.Sequential([gf.Dense(4, 6), gf.Dropout(0.5), gf.Dense(6, 2)], backend=backend_name)
    without = gf.Sequential([gf.Dense(4, 6), gf.Dense(6, 2)], backend=backend_name)
    weights = with_dropout.get_weights()
    without.set_weights({name.replace("2.", "1."): value for name, value in weights.items()})
    assert with_dropout.predict(x).tobytes() == without.predict(x).tobytes()
