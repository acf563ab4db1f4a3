"""Networks: the flat vectors and their views, initial weights, and prediction."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.initializers import INITIALIZERS
from gradflow.testing.activations import ACTIVATION_CASES

X = np.random.default_rng(0).normal(size=(9, 4))


def test_layers_hold_views_into_one_vector(backend_name: str) -> None:
    network = gf.MLP([4, 3, 2], backend=backend_name)
    assert network.parameters.shape == network.gradients.shape == (network.n_parameters,) == (4 * 3 + 3 + 3 * 2 + 2,)
    assert network.n_decayed == 4 * 3 + 3 * 2
    assert network.layers[0].weight.shape == (4, 3)
    assert network.layers[0].bias.shape == (3,)
    network.backend.copy(network.backend.from_host(np.arange(23, dtype=np.float32)), network.parameters)
    weights = network.get_weights()
    assert list(weights) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    flat = np.concatenate([weights[name].ravel() for name in ("0.weight", "2.weight", "0.bias", "2.bias")])
    assert_allclose(flat, np.arange(23))
    for name, (start, stop) in network.parameter_ranges.items():
        assert_allclose(weights[name].ravel(), np.arange(start, stop))


def test_get_weights_is_a_copy(backend_name: str) -> None:
    network = gf.MLP([4, 3], backend=backend_name)
    network.get_weights()["0.weight"][...] = 7
    assert (network.get_weights()["0.weight"] != 7).all()


def test_mlp_builds_the_documented_stack() -> None:
    network = gf.MLP([4, 5, 6, 2], "tanh", dropout=0.5, backend="numpy")
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == ["Dense", "Tanh", "Dropout", "Dense", "Tanh", "Dropout", "Dense"]
    assert "Dense(n_in=4, n_out=5, bias=True)" in repr(network)
    network = gf.MLP([4, 5, 2], input_dropout=0.2, backend="numpy")
    assert [type(layer).__name__ for layer in network.layers] == ["Dropout", "Dense", "ReLU", "Dense"]
    assert network.layers[0].rate == 0.2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_weights_are_the_same_bytes_on_every_backend(dtype: str, backend_name: str) -> None:
    initializers = [*INITIALIZERS, 0.25]

    def weights(name: str) -> dict[str, bytes]:
        layers = [gf.Dense(7, 7, initializer=initializer) for initializer in initializers]
        network = gf.Sequential(layers, dtype=dtype, seed=2**63 + 1, backend=name)
        return {key: value.tobytes() for key, value in network.get_weights().items()}

    assert weights(backend_name) == weights("reference")


def test_layers_start_with_different_weights() -> None:
    weights = gf.MLP([5, 5, 5], backend="numpy").get_weights()
    assert (weights["0.weight"] != weights["2.weight"]).all()
    assert (weights["0.weight"] != gf.MLP([5, 5, 5], seed=1, backend="numpy").get_weights()["0.weight"]).all()


@pytest.mark.parametrize(
    ("name", "variance", "limit"),
    [
        ("glorot_uniform", 2 / 700, np.sqrt(6 / 700)),
        ("glorot_normal", 2 / 700, np.inf),
        ("he_uniform", 2 / 400, np.sqrt(6 / 400)),
        ("he_normal", 2 / 400, np.inf),
        ("lecun_uniform", 1 / 400, np.sqrt(3 / 400)),
        ("lecun_normal", 1 / 400, np.inf),
        ("fan_in_uniform", 1 / 1200, np.sqrt(1 / 400)),
    ],
)
def test_initializers_have_the_variance_of_their_paper(name: str, variance: float, limit: float) -> None:
    network = gf.Sequential([gf.Dense(400, 300, initializer=name)], backend="numpy")
    weight = network.get_weights()["0.weight"]
    # 120,000 draws: the standard errors are 0.3 % of the standard deviation for the mean, and below 0.5 % for the
    # variance.
    assert_allclose(weight.mean(), 0, atol=0.015 * np.sqrt(variance))
    assert_allclose(weight.var(), variance, rtol=0.02)
    assert np.abs(weight).max() <= limit * (1 + 1e-6)
    assert np.abs(weight).max() > 1.7 * np.sqrt(variance)


def test_every_initializer_is_tested() -> None:
    families = {f"{author}_{kind}" for author in ("glorot", "he", "lecun") for kind in ("uniform", "normal")}
    assert set(INITIALIZERS) == families | {"fan_in_uniform", "orthogonal", "zeros"}
    assert not gf.MLP([4, 3], initializer="zeros", backend="numpy").get_weights()["0.weight"].any()


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25), (1, 7)])
def test_orthogonal_weights_keep_lengths(shape: tuple[int, int]) -> None:
    network = gf.Sequential([gf.Dense(*shape, initializer="orthogonal")], dtype="float64", backend="numpy")
    weight = network.get_weights()["0.weight"]
    narrow = weight if shape[0] >= shape[1] else weight.T
    assert_allclose(narrow.T @ narrow, np.eye(min(shape)), atol=1e-14)


def test_orthogonal_weights_are_uniformly_distributed() -> None:
    # The trace of a uniformly distributed orthogonal matrix has mean 0 and variance 1; without the signs of R its
    # diagonal is biased to one side.
    traces = [
        np.trace(gf.Sequential([gf.Dense(3, 3, initializer="orthogonal")], seed=seed).get_weights()["0.weight"])
        for seed in range(1000)
    ]
    assert_allclose(np.mean(traces), 0, atol=0.12)
    assert_allclose(np.var(traces), 1, atol=0.2)


def test_selu_keeps_mean_and_variance_through_twenty_layers() -> None:
    stack = [layer for _ in range(20) for layer in (gf.Dense(300, 300), gf.SELU())]
    y = gf.Sequential(stack, backend="numpy").predict(np.random.default_rng(1).normal(size=(500, 300)))
    assert_allclose(y.mean(), 0, atol=0.1)
    assert_allclose(y.var(), 1, atol=0.2)


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        *((case.make, case.initializer) for case in ACTIVATION_CASES.values()),
        (gf.Softmax, "glorot_uniform"),
        (None, "glorot_uniform"),
    ],
)
def test_the_following_activation_chooses_the_initializer(following: Any, expected: str) -> None:
    after = [gf.Dropout(0.1), following()] if following else []
    chosen = gf.Sequential([gf.Dense(4, 3), *after], backend="numpy").get_weights()["0.weight"]
    named = gf.Sequential([gf.Dense(4, 3, initializer=expected)], backend="numpy").get_weights()["0.weight"]
    assert chosen.tobytes() == named.tobytes()


def test_a_users_own_initializer() -> None:
    network = gf.MLP([4, 3], initializer=lambda shape, random: random.uniform(2, 3, shape), backend="numpy")
    weight = network.get_weights()["0.weight"]
    assert ((weight >= 2) & (weight < 3)).all()


@pytest.mark.parametrize(
    ("initializer", "middle", "most"), [("zeros", 0, 0), (0.5, 0.5, 0), ("fan_in_uniform", 0, 0.25)]
)
def test_initial_biases(initializer: str | float, middle: float, most: float) -> None:
    network = gf.MLP([16, 500, 3], bias_initializer=initializer, backend="numpy")
    weights, usual = network.get_weights(), gf.MLP([16, 500, 3], backend="numpy").get_weights()
    assert 0.98 * most <= abs(weights["0.bias"] - middle).max() <= most
    assert_array_equal(weights["0.weight"], usual["0.weight"])
    assert_array_equal(pickle.loads(pickle.dumps(network)).get_weights()["0.bias"], weights["0.bias"])


def test_prediction_by_hand(backend_name: str) -> None:
    network = gf.MLP([4, 3, 2], "tanh", dtype="float64", backend=backend_name)
    w = network.get_weights()
    expected = np.tanh(X @ w["0.weight"] + w["0.bias"]) @ w["2.weight"] + w["2.bias"]
    assert_allclose(network.predict(X), expected, rtol=1e-12)
    assert_allclose(network.logits(X), expected, rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 10_000])
def test_prediction_in_blocks_is_prediction(rows: int, backend_name: str) -> None:
    network = gf.MLP([4, 3, 2], "tanh", dtype="float64", backend=backend_name)
    x = np.random.default_rng(1).normal(size=(rows, 4))
    w = network.get_weights()
    expected = np.tanh(x @ w["0.weight"] + w["0.bias"]) @ w["2.weight"] + w["2.bias"]
    assert_allclose(network.predict(x), expected, rtol=1e-11, atol=1e-13)


def test_output_activation_is_named_by_the_loss(backend_name: str) -> None:
    network = gf.MLP([4, 3], backend=backend_name)
    assert network.output_activation == "identity"
    gf.Trainer(network, "softmax_cross_entropy", "sgd").fit(X, np.arange(9) % 3, epochs=1)
    assert network.output_activation == "softmax"
    assert_allclose(network.predict(X).sum(axis=1), 1, rtol=1e-6)
    exponentials = np.exp(network.logits(X))
    assert_allclose(network.predict(X), exponentials / exponentials.sum(axis=1, keepdims=True), rtol=1e-5)
    gf.Trainer(network, "mean_squared_error", "sgd").fit(X, np.zeros((9, 3)), epochs=1)
    assert network.output_activation == "identity"
    assert network.predict(X).tobytes() == network.logits(X).tobytes()


def test_a_trailing_activation_is_folded_into_its_loss(backend_name: str) -> None:
    y = np.arange(9) % 3

    def trained(*trailing: gf.Layer) -> gf.Sequential:
        network = gf.Sequential([gf.Dense(4, 3), *trailing], dtype="float64", seed=1, backend=backend_name)
        gf.Trainer(network, "softmax_cross_entropy", gf.SGD(0.1)).fit(X, y, epochs=3)
        return network

    plain, folded = trained(), trained(gf.Softmax())
    assert folded.output_activation == plain.output_activation == "softmax"
    assert folded.get_weights()["0.weight"].tobytes() == plain.get_weights()["0.weight"].tobytes()
    assert folded.predict(X).tobytes() == plain.predict(X).tobytes()
    assert folded.logits(X).tobytes() == plain.logits(X).tobytes()


def test_a_trailing_sigmoid_stays_before_a_squared_error(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2), gf.Sigmoid()], dtype="float64", backend=backend_name)
    y = np.random.default_rng(3).random((9, 2))
    assert max(gf.check_gradients(network, "mean_squared_error", X, y).values()) < 1e-6
    history = gf.Trainer(network, "mean_squared_error", gf.SGD(2.0)).fit(X, y, epochs=50, batch_size=None)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert network.output_activation == "sigmoid"
    assert_allclose(network.predict(X), 1 / (1 + np.exp(-network.logits(X))), rtol=1e-12)


def test_classes(backend_name: str) -> None:
    binary = gf.Sequential([gf.Dense(4, 1), gf.Sigmoid()], backend=backend_name)
    assert_allclose(binary.predict_classes(X), binary.predict(X)[:, 0] > 0.5)
    assert binary.predict_classes(X).shape == (9,)
    several = gf.Sequential([gf.Dense(4, 3), gf.Sigmoid()], backend=backend_name)
    assert_allclose(several.predict_classes(X), several.predict(X) > 0.5)
    softmax = gf.Sequential([gf.Dense(4, 3), gf.Softmax()], backend=backend_name)
    assert_allclose(softmax.predict_classes(X), softmax.predict(X).argmax(axis=1))
    assert softmax.predict_classes(X).dtype == np.int64
    with pytest.raises(gf.DataError, match="predicts numbers, not classes"):
        gf.MLP([4, 1], backend=backend_name).predict_classes(X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"])
def test_inputs_of_any_number_type(dtype: str, backend_name: str) -> None:
    network = gf.MLP([4, 3], backend=backend_name)
    x = (np.abs(X) > 0.5).astype(dtype)
    assert network.predict(x).tobytes() == network.predict(x.astype(np.float32)).tobytes()
    assert network.predict(x).dtype == np.float32


def test_lists_and_strided_arrays(backend_name: str) -> None:
    network = gf.MLP([4, 3], backend=backend_name)
    x = X.astype(np.float32)
    expected = network.predict(x).tobytes()
    assert network.predict(x.tolist()).tobytes() == expected
    assert network.predict(np.asfortranarray(x)).tobytes() == expected
    assert network.predict(np.repeat(x, 2, axis=0)[::2]).tobytes() == expected


def test_copy_in_another_dtype() -> None:
    network = gf.MLP([4, 3], "elu", dropout=0.2, seed=8, backend="numpy")
    twin = network.copy(dtype="float64")
    assert twin.dtype == np.float64
    assert twin.seed == 8
    for name, weight in network.get_weights().items():
        assert_allclose(twin.get_weights()[name], weight, rtol=0)
    twin.set_weights({name: 0 * weight for name, weight in network.get_weights().items()})
    assert network.get_weights()["0.weight"].any()


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    activation=st.sampled_from(["relu", "leaky_relu", "elu", "sigmoid", "tanh", "softmax", "identity"]),
    bias=st.booleans(),
    dropout=st.sampled_from([0.0, 0.3]),
    rows=st.integers(1, 5),
    seed=st.integers(0, 2**64 - 1),
)
def test_gradients_of_any_network(
    sizes: list[int], activation: str, bias: bool, dropout: float, rows: int, seed: int
) -> None:
    network = gf.MLP(sizes, activation, bias=bias, dropout=dropout, seed=seed, backend="numpy")
    rng = np.random.default_rng(seed % 2**32)
    # Nonzero biases keep units whose inputs are all zero away from their kink.
    network.set_weights({name: rng.normal(size=weight.shape) for name, weight in network.get_weights().items()})
    x, y = rng.normal(size=(rows, sizes[0])), rng.normal(size=(rows, sizes[-1]))
    assert max(gf.check_gradients(network, "half_squared_error", x, y).values()) < 1e-4


def broken(shape: tuple[int, ...], random: Any) -> np.ndarray:
    raise ArithmeticError("no weights today")


@pytest.mark.parametrize("inside", [False, True])
def test_a_network_that_cannot_be_created_uses_up_no_layer(inside: bool) -> None:
    def stack(*layers: gf.Layer) -> list[gf.Layer]:
        return [gf.Residual(list(layers))] if inside else list(layers)

    good, used = gf.Dense(3, 3), gf.Dense(3, 3)
    gf.Sequential([used])
    with pytest.raises(ArithmeticError):
        gf.Sequential(stack(good, gf.Dense(3, 3, initializer=broken)))
    with pytest.raises(gf.DataError, match="unknown initializer"):
        gf.Sequential(stack(good, gf.Dense(3, 3, initializer="ones")))
    with pytest.raises(gf.DataError, match="weights are missing"):
        gf.Sequential(stack(good), weights={})
    with pytest.raises(gf.DataError, match="this Dense already belongs to a network"):
        gf.Sequential(stack(good, used))
    with pytest.raises(gf.DataError, match="occurs in the network twice"):
        gf.Sequential([*stack(good), good])
    gf.Sequential(stack(good))


def test_the_first_layer_may_have_inputs_and_no_parameters(backend_name: str) -> None:
    class Twice(gf.Layer):
        def __init__(self, n_in: int) -> None:
            self.n_in = n_in

        def output_width(self, n_in: int) -> int:
            return 2 * n_in

        def forward(self, ops: Any, x: Any, y: Any) -> None:
            y[:, : self.n_in] = x
            y[:, self.n_in :] = x

    network = gf.Sequential([Twice(4), gf.Dense(8, 3)], backend=backend_name)
    assert network.n_in == 4
    weight, bias = network.get_weights().values()
    assert_allclose(network.predict(X), np.hstack([X, X]) @ weight + bias, rtol=1e-5, atol=1e-6)
    with pytest.raises(gf.DataError, match=r"Dense\(n_in=9, .* has 9 inputs, but the layer before it has 8"):
        gf.Sequential([Twice(4), gf.Dense(9, 3)])


def test_a_residual_block_belongs_to_one_network() -> None:
    block = gf.Residual([gf.Dense(3, 3)])
    gf.Sequential([block])
    with pytest.raises(gf.DataError, match="this Residual already belongs to a network"):
        gf.Sequential([block])


def test_a_changed_setting_of_a_layer_takes_effect(backend_name: str) -> None:
    def network(slope: float) -> gf.Sequential:
        stack = [gf.Dense(4, 3), gf.Residual([gf.LeakyReLU(slope), gf.Dense(3, 3)]), gf.LeakyReLU(slope)]
        return gf.Sequential(stack, seed=2, backend=backend_name)

    changed, expected = network(0.1), network(0.7)
    assert not np.array_equal(changed.predict(X), expected.predict(X))
    inner: Any = changed.layers[1].layers[0]  # type: ignore[attr-defined]
    outer: Any = changed.layers[2]
    inner.slope = outer.slope = 0.7
    assert changed.predict(X).tobytes() == expected.predict(X).tobytes()


def test_settings_of_recorded_layers_stay_while_the_network_trains() -> None:
    class Anneals(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            trainer.network.layers[1].rate = 0.1  # type: ignore[attr-defined]

    network = gf.Sequential([gf.Dense(4, 3), gf.Dropout(0.5), gf.Dense(3, 2)], backend="numpy")
    trainer = gf.Trainer(network, "mean_squared_error", "adam")
    with pytest.raises(gf.GradflowError, match=r"Dropout\.rate cannot be changed during training"):
        trainer.fit(X, np.zeros((9, 2)), epochs=2, callbacks=[Anneals()], progress=False)
    network.layers[1].rate = 0.1  # type: ignore[attr-defined]
    trainer.fit(X, np.zeros((9, 2)), epochs=1, progress=False)


def test_a_layer_that_runs_at_every_step_may_change_its_settings() -> None:
    class Scaled(gf.Layer):
        def __init__(self, scale: float) -> None:
            self.scale = scale

        def config(self) -> dict[str, Any]:
            return {"scale": self.scale}

        def forward(self, ops: Any, x: Any, y: Any) -> None:
            np.multiply(x, self.scale, out=y)

        def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
            if d_x is not None:
                np.multiply(d_y, self.scale, out=d_x)

    class Anneals(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            trainer.network.layers[1].scale *= 0.5  # type: ignore[attr-defined]

    network = gf.Sequential([gf.Dense(4, 3), Scaled(1.0)], backend="numpy")
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(1e-9))
    losses = trainer.fit(X, np.zeros((9, 3)), epochs=2, callbacks=[Anneals()], progress=False)["loss"]
    assert_allclose(losses[1], losses[0] / 4, rtol=1e-5)
    assert_allclose(network.predict(X), network.copy().predict(X), rtol=1e-6)


def test_a_new_head_on_a_trained_body(backend_name: str, tmp_path: Path) -> None:
    layers = [gf.Dense(4, 5), gf.BatchNorm(5), gf.ReLU(), gf.Dense(5, 3), gf.Softmax()]
    network = gf.Sequential(layers, dtype="float64", seed=1, backend=backend_name)
    columns = dict(zip("abcd", X.T, strict=True))
    labels = np.array(["x", "y", "z"] * 3)
    gf.Trainer(network, "softmax_cross_entropy", "adam").fit(columns, labels, epochs=2, progress=False)
    network.frozen = [0, 3]
    gf.save(network, tmp_path / "model.safetensors")
    loaded = gf.load(tmp_path / "model.safetensors", backend=backend_name)
    for of in (network, loaded):
        new = of.with_head([gf.Dense(5, 2), gf.Tanh(), gf.Dense(2, 1)], seed=7)
        assert [type(layer).__name__ for layer in new.layers[:4]] == ["Dense", "BatchNorm", "ReLU", "Dense"]
        assert (new.n_out, new.frozen, new.seed, new.dtype, new.epochs_begun) == (1, (0,), 7, np.float64, 0)
        assert (new.classes, new.output_activation, new.feature_names) == (None, "identity", tuple("abcd"))
        old, weights = network.get_weights(), new.get_weights()
        for name, weight in old.items():
            if not name.startswith("3."):
                assert_allclose(weights[name], weight, rtol=0)
        gf.Trainer(new, "mean_squared_error", "adam").fit(columns, X[:, :1], epochs=2, progress=False)
        assert_allclose(new.get_weights()["0.weight"], old["0.weight"], rtol=0)  # frozen
        assert (new.get_weights()["1.gamma"] != old["1.gamma"]).any()
        assert_allclose(network.get_weights()["1.gamma"], old["1.gamma"], rtol=0)  # the old one has its own


@pytest.mark.parametrize(
    ("network", "layers", "message"),
    [
        (lambda: gf.MLP([4, 3, 2]), [gf.Dense(4, 2)], "has 4 inputs, but the layer before it has 3 outputs"),
        (lambda: gf.MLP([4, 3, 2]), [gf.Tanh()], "a head needs at least one layer with parameters"),
        (lambda: gf.MLP([4, 3, 2]), [], "a head needs at least one layer with parameters"),
        (lambda: gf.MLP([4, 3, 2]), gf.Dense(3, 2), "layers must be a list of gradflow layers"),
        (lambda: gf.MLP([4, 2]), [gf.Dense(4, 2)], "and so no body; create a new network"),
    ],
)
def test_heads_that_do_not_fit(network: Any, layers: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        network().with_head(layers)
