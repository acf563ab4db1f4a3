"""Each layer as nodes of ONNX computes what it computes in gradflow: within 4 units of the last place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.executors import Executor
from gradflow.layers import LAYERS, Layer
from gradflow.ops import Array
from tests.export.run import run, ulps
from tests.registries import forgotten

WIDTH = 5


def member_layers() -> list[Layer]:
    """Return layers for the rows of members."""
    scales = [gf.MemberScale(4, members=3, bias=has_bias) for has_bias in (True, False)]
    return [gf.Dense(WIDTH, 4), *scales, gf.MemberDense(4, 3, members=3), gf.MemberDense(3, 2, members=3, bias=False)]


CASES: dict[str, Callable[[], Layer]] = {
    "BatchNorm": lambda: gf.BatchNorm(WIDTH, epsilon=1e-3),
    "CosineEmbedding": lambda: gf.CosineEmbedding(WIDTH, 3, size=4),
    "Dense": lambda: gf.Dense(WIDTH, 4),
    "Dense without bias": lambda: gf.Dense(WIDTH, 4, bias=False),
    "Dropout": lambda: gf.Dropout(0.5),
    "EachMember": lambda: gf.EachMember(member_layers(), members=3),
    "ELU": lambda: gf.ELU(0.7),
    "EmbedColumns": lambda: gf.EmbedColumns(WIDTH, [(4, 3), (2, 1)]),
    "GELU": gf.GELU,
    "GELU with tanh": lambda: gf.GELU("tanh"),
    "Identity": gf.Identity,
    "LayerNorm": lambda: gf.LayerNorm(WIDTH, epsilon=1e-3),
    "LeakyReLU": lambda: gf.LeakyReLU(0.3),
    "Mish": gf.Mish,
    "Parametric": lambda: gf.Parametric(WIDTH, "selu"),
    "PeriodicEmbedding": lambda: gf.PeriodicEmbedding(WIDTH, 3, size=3),
    "PeriodicEmbedding with ReLU": lambda: gf.PeriodicEmbedding(WIDTH, form="plr", frequencies=5),
    "PiecewiseLinearEmbedding": lambda: gf.PiecewiseLinearEmbedding(WIDTH, [[0.1, 1, 2, 3], [0.2, 1]], size=3),
    "PiecewiseLinearEmbedding with ReLU": lambda: gf.PiecewiseLinearEmbedding(WIDTH, [[0, 1, 2]], relu=True),
    "ReLU": gf.ReLU,
    "Increasing": lambda: gf.Increasing(WIDTH),
    "Residual": lambda: gf.Residual([gf.Tanh(), gf.Dense(WIDTH, WIDTH)]),
    "Residual with a projection": lambda: gf.Residual([gf.BatchNorm(WIDTH), gf.Dense(WIDTH, 4)]),
    "Scale": lambda: gf.Scale(WIDTH),
    "SELU": gf.SELU,
    "Sigmoid": gf.Sigmoid,
    "SiLU": gf.SiLU,
    "Softmax": gf.Softmax,
    "Softplus": gf.Softplus,
    "Tanh": gf.Tanh,
}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    with forgotten():
        yield


def network_of(layer: Layer, dtype: str) -> gf.Sequential:
    """Return a network that ends in the layer, with weights in which no parameter is left out."""
    layers = [layer] if layer.first_only else [gf.Dense(WIDTH, WIDTH), layer]
    network = gf.Sequential([*layers, gf.Identity()], dtype=dtype, seed=1, backend="numpy")
    random = np.random.default_rng(0)
    weights = {name: random.uniform(0.2, 1.5, weight.shape) for name, weight in network.get_weights().items()}
    # Rounding many turns moves a wave by more than a few units of the last place.
    weights |= {name: weight / 10 for name, weight in weights.items() if name.endswith("phases")}
    if not layer.first_only:
        weights |= {"0.weight": np.eye(WIDTH), "0.bias": np.zeros(WIDTH)}
    network.set_weights(weights)
    return network


def inputs_of(layer: Layer, dtype: str) -> np.ndarray:
    random = np.random.default_rng(2)
    if isinstance(layer, gf.EmbedColumns):
        numbers = [random.integers(0, rows, 300) for rows, _ in layer.tables]
        return np.column_stack([random.normal(size=(300, WIDTH - 2)), *numbers]).astype(dtype)
    # Nothing cancels in sums of positive terms.
    if isinstance(layer, gf.Dense | gf.Residual | gf.EachMember | gf.PiecewiseLinearEmbedding):
        return random.uniform(0.1, 3, (300, WIDTH)).astype(dtype)
    # A few tenths of a turn: rounding many turns moves a wave by more.
    if isinstance(layer, gf.PeriodicEmbedding | gf.CosineEmbedding):
        return random.uniform(0.01, 0.1, (300, WIDTH)).astype(dtype)
    far = np.linspace(-40, 40, 60 * WIDTH).reshape(WIDTH, -1).T
    near = np.geomspace(1e-12, 1, 60 * WIDTH).reshape(WIDTH, -1).T
    usual = random.normal(0, 3, (200, WIDTH))
    usual[:, 0] = abs(usual[:, 0]) + 1  # an output of about 1 in each row, which is the measure of the others
    x = np.concatenate([usual, far, near, -near, np.zeros((1, WIDTH))])
    return x.astype(dtype)


def test_every_layer_of_the_catalogue_has_a_case() -> None:
    shipped = {name for name, layer in LAYERS.items() if layer.__module__.startswith("gradflow.layers.")}
    shipped -= {
        "Activation",
        "MemberScale",
        "MemberDense",
        "MeanOfMembers",
    }  # the last three are in networks of members
    assert {name.split(" with")[0] for name in CASES} == shipped


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_a_layer_computes_the_same(name: str, dtype: str) -> None:
    layer = CASES[name]()
    network, x = network_of(layer, dtype), inputs_of(layer, dtype)
    (found,) = run(network, x)
    assert ulps(found, network.predict(x)) <= 4
    (one,) = run(network, x[:1])
    assert one.shape == (1, network.n_out)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("activation", "n_out"), [("identity", 2), ("sigmoid", 1), ("sigmoid", 2), ("softmax", 3)])
def test_members_are_averaged(activation: str, n_out: int, dtype: str) -> None:
    stack = [
        gf.Dense(WIDTH, 4),
        gf.MemberScale(4, members=3, bias=True),
        gf.Tanh(),
        gf.MemberDense(4, n_out, members=3),
    ]
    network = gf.Sequential([gf.EachMember(stack, members=3), gf.MeanOfMembers(3)], dtype=dtype, backend="numpy")
    network.output_activation = activation
    x = np.random.default_rng(0).normal(0, 9, (200, WIDTH)).astype(dtype)
    found = run(network, x)[-1]
    np.testing.assert_allclose(found, network.predict(x), rtol=2e-5 if dtype == "float32" else 1e-12, atol=1e-6)


@pytest.mark.parametrize("value", [-1.0, 0.5, 4.0, 1e9])
def test_a_number_of_no_category_gives_nan(value: float) -> None:
    network = network_of(gf.EmbedColumns(2, [(4, 3)]), "float32")
    (found,) = run(network, np.array([[1, 3], [1, value]], np.float32))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "elu"])
def test_a_row_that_predict_refuses_gives_nan(value: float, activation: str) -> None:
    network = gf.MLP([3, 4, 2], activation=activation, backend="numpy")
    x = np.array([[1, 2, 3], [1, value, 3]], np.float32)
    (found,) = run(network, x)
    assert ulps(found[:1], network.predict(x[:1])) <= 4
    assert np.isnan(found[1]).all()


class Doubled(Layer):
    """A layer of a user, with the nodes that it becomes."""

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        y[...] = 2 * x

    def to_onnx(self, graph: gf.export.OnnxGraph, x: str) -> str:
        return graph("Mul", x, graph.constant(2.0))


def test_a_layer_of_ones_own_defines_its_nodes() -> None:
    network = gf.Sequential([gf.Dense(2, 2), Doubled()], backend="numpy")
    x = np.array([[1, 2], [-3, 4]], np.float32)
    assert ulps(run(network, x)[0], network.predict(x)) <= 4


def layers_without_nodes() -> list[Layer]:
    class Plain(Layer):
        def forward(self, ops: Executor, x: Array, y: Array) -> None:
            y[...] = x

    class Tripled(Doubled):
        def forward(self, ops: Executor, x: Array, y: Array) -> None:
            y[...] = 3 * x

    class Other(gf.ReLU):
        pass

    return [Plain(), Tripled(), Other()]


@pytest.mark.parametrize("place", range(3))
def test_a_layer_without_nodes_is_refused_with_the_way_to_add_them(place: int) -> None:
    layer = layers_without_nodes()[place]
    network = gf.Sequential([gf.Dense(2, 2), layer], backend="numpy")
    with pytest.raises(gf.GradflowError, match=rf"cannot write the layer {type(layer).__name__} .* def to_onnx\("):
        gf.export.onnx_model(network)


@pytest.mark.gpu
def test_a_network_on_a_gpu_is_the_same_model() -> None:
    layers: list[Any] = [gf.Dense(3, 4), gf.BatchNorm(4), gf.Tanh(), gf.Residual([gf.Dense(4, 2)])]
    network = gf.Sequential(layers, backend="cupy")
    twin = gf.Sequential(
        [gf.Dense(3, 4), gf.BatchNorm(4), gf.Tanh(), gf.Residual([gf.Dense(4, 2)])],
        backend="numpy",
        weights=network.get_weights(),
    )
    models = [gf.export.onnx_model(either).SerializeToString(deterministic=True) for either in (network, twin)]
    assert models[0] == models[1]
