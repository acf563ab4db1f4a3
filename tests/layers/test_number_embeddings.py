"""Embeddings of numbers: their formulas, training, copies and files, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.optimizers import OPTIMIZERS

RNG = np.random.default_rng(0)
ROWS, N_IN = 50, 5
X = RNG.normal(size=(ROWS, N_IN))
Y = np.column_stack([np.sin(3 * X[:, 0]) + X[:, 4], abs(X[:, 1])])

BINS = gf.quantile_bins(X[:, :3], 9)
BINS[1] = BINS[1][:4]  # rows beyond the last edge

LAYERS: dict[str, Callable[[], gf.Layer]] = {
    "pbld": lambda: gf.PeriodicEmbedding(N_IN, 3, frequencies=7, size=3),
    "plr": lambda: gf.PeriodicEmbedding(N_IN, 3, form="plr", frequencies=5, size=6, std=0.5),
    "piecewise": lambda: gf.PiecewiseLinearEmbedding(N_IN, BINS, size=4),
    "piecewise, relu": lambda: gf.PiecewiseLinearEmbedding(N_IN, BINS, size=5, relu=True),
    "cosine": lambda: gf.CosineEmbedding(N_IN, 3, size=6, std=0.4),
}


def make_network(name: str, backend: str = "numpy", **settings: Any) -> gf.Sequential:
    layer = LAYERS[name]()
    layers = [layer, gf.Dense(layer.output_width(N_IN), 8), gf.Tanh(), gf.Dense(8, 2)]
    return gf.Sequential(layers, backend=backend, **({"seed": 3} | settings))


def linear(z: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return z (rows, columns, features) times the weight of each column, with its bias."""
    return np.einsum("ijk,jsk->ijs", z, weights["0.weight"]) + weights["0.bias"]


def encoded(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the encoding of a column (rows, 1) in nine bins: equation 1 of Gorishniy et al. (2022), bin by bin."""
    z = np.zeros((len(x), 9))
    for t in range(len(edges) - 1):
        z[:, t] = (x[:, 0] - edges[t]) / (edges[t + 1] - edges[t])
        if t > 0:
            z[x[:, 0] < edges[t], t] = 0
        if t < len(edges) - 2:
            z[x[:, 0] >= edges[t + 1], t] = 1
    return z


def expected_embeddings(name: str, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Return the embeddings of the first three columns of X, of shape (rows, 3, size)."""
    x = X[:, :3, None]
    if name == "pbld":
        waves = np.cos(2 * np.pi * weights["0.frequencies"] * x + weights["0.phases"])
        return np.concatenate([linear(waves, weights), x], axis=2)
    if name == "cosine":
        waves = np.cos(2 * np.pi * (weights["0.frequencies"] * x + weights["0.phases"]))
        scale, shift = (weights[key].reshape(3, -1) for key in ("0.scale", "0.shift"))
        return scale * np.concatenate([x, waves], axis=2) + shift
    if name.startswith("piecewise"):
        outputs = linear(np.stack([encoded(x[:, j], np.array(BINS[j])) for j in range(3)], axis=1), weights)
        return np.maximum(outputs, 0) if "relu" in name else outputs
    turns = 2 * np.pi * weights["0.frequencies"] * x
    return np.maximum(linear(np.concatenate([np.cos(turns), np.sin(turns)], axis=2), weights), 0)


@pytest.mark.parametrize("name", LAYERS)
def test_the_formula(name: str, backend_name: str) -> None:
    network = gf.Sequential([LAYERS[name]()], dtype="float64", backend=backend_name)
    if name == "cosine":  # where it begins, all outputs are 0
        rng = np.random.default_rng(2)
        weights = {key: rng.normal(size=weight.shape) for key, weight in network.get_weights().items()}
        network.set_weights(weights)
    assert network.n_out == network.layers[0].n_out
    expected = np.column_stack([expected_embeddings(name, network.get_weights()).reshape(ROWS, -1), X[:, 3:]])
    assert_allclose(network.predict(X), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str, rows: int, backend_name: str) -> None:
    network = make_network(name, backend_name, dtype="float64")
    if name == "cosine":  # not where it begins, at scale 0
        network.set_weights({"0.scale": np.linspace(-1, 1, 18)}, partial=True)
    assert max(gf.check_gradients(network, "mean_squared_error", X[:rows], Y[:rows]).values()) < 1e-5


def test_initial_waves() -> None:
    weights = gf.Sequential([gf.PeriodicEmbedding(40, frequencies=100, std=0.3)], dtype="float64").get_weights()
    # 4000 numbers: a standard deviation is known to 1 part in 90, and the mean to 0.016 of it.
    assert_allclose(weights["0.frequencies"].std(), 0.3, rtol=0.05)
    assert_allclose(weights["0.phases"].std(), np.pi / np.sqrt(3), rtol=0.05)
    assert abs(weights["0.phases"]).max() <= np.pi
    assert abs(weights["0.weight"]).max() <= 0.1
    assert abs(weights["0.bias"]).max() <= 0.1


def test_initial_cosines(backend_name: str) -> None:
    network = gf.Sequential([gf.CosineEmbedding(40, size=101, std=2.0)], dtype="float64", backend=backend_name)
    frequencies = network.get_weights()["0.frequencies"] / 2
    assert 2.5 < abs(frequencies).max() <= 3
    # The standard deviation of N(0, 1) between -3 and 3 is 0.9866; that of 4000 numbers is known to 0.011.
    assert_allclose(frequencies.std(), 0.9866, rtol=0.05)
    assert (network.predict(np.ones((3, 40))) == 0).all()


def test_quantile_bins() -> None:
    x = np.column_stack([np.arange(101.0), [0] * 60 + [1] * 41])
    assert gf.quantile_bins(x, 4) == [[0, 25, 50, 75, 100], [0, 1]]
    assert_allclose(gf.quantile_bins(X, 5), np.quantile(X, [0, 0.2, 0.4, 0.6, 0.8, 1], axis=0).T)


ALONE: dict[str, Callable[[], gf.Layer]] = {
    "pbld": lambda: gf.PeriodicEmbedding(1, size=8, std=1.0),
    "plr": lambda: gf.PeriodicEmbedding(1, form="plr", size=8, std=1.0),
    "piecewise": lambda: gf.PiecewiseLinearEmbedding(1, [np.linspace(-2, 2, 33).tolist()], size=8),
    "cosine": lambda: gf.CosineEmbedding(1, size=8),
}


@pytest.mark.parametrize("name", ALONE)
def test_it_fits_what_a_line_cannot(name: str, backend_name: str) -> None:
    embed = ALONE[name]()
    network = gf.Sequential([embed, gf.Dense(8, 1)], seed=1, backend=backend_name)
    x = np.linspace(-2, 2, 200)[:, None]
    y = np.sin(5 * x)
    gf.Trainer(network, "mean_squared_error", gf.Adam(0.03)).fit(x, y, epochs=200, batch_size=50, progress=False)
    assert np.square(network.predict(x) - y).mean() < 0.1 * y.var()


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "lbfgs"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_optimizer_trains_it(name: str, optimizer: str, backend_name: str) -> None:
    network = make_network(name, backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", OPTIMIZERS[optimizer](learning_rate=0.01))
    history = trainer.fit(X, Y, epochs=10, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("name", LAYERS)
def test_a_frozen_embedding(name: str, backend_name: str) -> None:
    network = make_network(name, backend_name)
    network.frozen = [0]
    before = network.get_weights()
    gf.Trainer(network, "mean_squared_error", "adam").fit(X, Y, epochs=2, batch_size=16, progress=False)
    after = network.get_weights()
    assert all((after[key] == before[key]).all() for key in before if key.startswith("0."))
    assert (after["1.weight"] != before["1.weight"]).any()


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_files_predict_the_same(name: str, backend_name: str, tmp_path: Path) -> None:
    network = make_network(name, backend_name)
    gf.Trainer(network, "mean_squared_error", "adam").fit(X, Y, epochs=2, batch_size=16, progress=False)
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    for twin in (loaded, network.copy(), pickle.loads(pickle.dumps(network))):
        assert repr(twin) == repr(network)
        assert twin.predict(X).tobytes() == network.predict(X).tobytes()


@pytest.mark.parametrize("name", LAYERS)
def test_a_pack_trains_it_as_each_network_alone(name: str, backend_name: str) -> None:
    alone, members = ([make_network(name, backend_name, seed=seed) for seed in (1, 2)] for _ in range(2))
    for network in alone:
        gf.Trainer(network, "mean_squared_error", "adam").fit(X, Y, epochs=2, batch_size=16, progress=False)
    pack = gf.Pack([gf.Trainer(network, "mean_squared_error", "adam") for network in members])
    pack.fit(X, Y, epochs=2, batch_size=16, progress=False)
    for network, member in zip(alone, members, strict=True):
        weights = member.get_weights()
        for key, weight in network.get_weights().items():
            assert_allclose(weights[key], weight, rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", LAYERS)
def test_threads_do_not_change_a_bit(name: str) -> None:
    found = set()
    x = np.random.default_rng(1).normal(size=(3000, N_IN))
    for threads in (1, 2):
        network = make_network(name)
        trainer = gf.Trainer(network, "mean_squared_error", "adam", threads=threads)
        trainer.fit(x, x[:, :2], epochs=2, batch_size=1500, progress=False)
        found.add(b"".join(weight.tobytes() for weight in network.get_weights().values()))
    assert len(found) == 1


@pytest.mark.parametrize("name", ["cosine", "pbld", "piecewise"])
def test_it_embeds_what_a_preprocessing_has_made(name: str, backend_name: str) -> None:
    columns = {"city": np.array(["Rome", "Oslo"] * (ROWS // 2)), "a": 100 * X[:, 0], "b": X[:, 1]}
    preprocessing = gf.data.fit_preprocessing(columns)
    assert preprocessing.output_names == ["a", "b", "city = Oslo", "city = Rome"]
    x = preprocessing.transform(columns)[:, :2]
    made: dict[str, Callable[[], gf.Layer]] = {
        "cosine": lambda: gf.CosineEmbedding(4, 2),
        "pbld": lambda: gf.PeriodicEmbedding(4, 2),
        "piecewise": lambda: gf.PiecewiseLinearEmbedding(4, gf.quantile_bins(x)),
    }
    layer = made[name]()
    network = gf.Sequential([layer, gf.Dense(layer.n_out, 2)], backend=backend_name)
    network.preprocessing = preprocessing
    gf.Trainer(network, "mean_squared_error", "adam").fit(columns, Y, epochs=1, progress=False)
    assert np.isfinite(network.predict(columns)).all()


def test_large_numbers_keep_their_place_in_a_period(backend_name: str) -> None:
    network = gf.Sequential([gf.PeriodicEmbedding(1, form="plr", frequencies=1, size=2)], backend=backend_name)
    network.set_weights({"0.frequencies": np.ones((1, 1)), "0.weight": np.eye(2)[None], "0.bias": np.zeros((1, 2))})
    turns = np.array([[0], [1e6 + 0.25], [2.0**22 + 0.5], [-(2.0**20) - 0.25], [2.0**30], [-3e38]], np.float32)
    found = network.predict(turns)  # the positive parts of cos(2π x) and sin(2π x)
    assert_array_equal(found, [[1, 0], [0, 1], [0, 0], [0, 0], [1, 0], [1, 0]])


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "too many columns": (lambda: gf.PeriodicEmbedding(3, 4), "columns must be between 1 and 3"),
    "no columns": (lambda: gf.PeriodicEmbedding(3, 0), "columns must be between 1 and 3"),
    "an unknown form": (lambda: gf.PeriodicEmbedding(3, form="plx"), "form.*plx"),
    "a size without a wave": (lambda: gf.PeriodicEmbedding(3, size=1), "size must be at least 2 for form='pbld'"),
    "no frequencies": (lambda: gf.PeriodicEmbedding(3, frequencies=0), "frequencies must be"),
    "a standard deviation of 0": (lambda: gf.PeriodicEmbedding(3, std=0), "std must be"),
    "a size without a cosine": (lambda: gf.CosineEmbedding(3, size=1), "size must be"),
    "a constant column": (lambda: gf.quantile_bins(np.ones((5, 2))), "column 0 of x is constant"),
    "a gap": (lambda: gf.quantile_bins([[0.0], [np.nan]]), "NaN or infinity"),
    "a vector": (lambda: gf.quantile_bins([1.0, 2.0]), "a matrix of numbers"),
    "edges that fall": (lambda: gf.PiecewiseLinearEmbedding(3, [[0, 2, 1]]), r"bins\[0\] must be at least two finite"),
    "one edge": (lambda: gf.PiecewiseLinearEmbedding(3, [[0, 1], [0]]), r"bins\[1\] must be at least two finite"),
    "an infinite edge": (lambda: gf.PiecewiseLinearEmbedding(3, [[0, np.inf]]), r"bins\[0\] must be"),
    "text": (lambda: gf.PiecewiseLinearEmbedding(3, [["a", "b"]]), r"bins\[0\] must be a list of numbers"),
    "no bins": (lambda: gf.PiecewiseLinearEmbedding(3, []), "bins of from 1 to 3 columns, got 0"),
    "bins of too many columns": (lambda: gf.PiecewiseLinearEmbedding(1, [[0, 1]] * 2), "from 1 to 1 columns, got 2"),
    "other inputs": (
        lambda: gf.Sequential([gf.Dense(2, 2), gf.PeriodicEmbedding(3)]),
        "has 3 inputs, but the layer before it has 2 outputs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(gf.DataError, match=message):
        make()


def test_relus_behind_an_embedding_that_begins_at_zero_learn() -> None:
    """Without biases of their own no unit would ever be active."""
    x = np.random.default_rng(1).normal(size=(400, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1]
    network = gf.MLP([3, 32, 1], embedding=gf.CosineEmbedding(3), backend="numpy")
    loss = gf.Trainer(network, "mean_squared_error", gf.Adam(0.01)).fit(x, y, epochs=60, progress=False)["loss"]
    assert loss[0] > y.var() / 2
    assert loss[-1] < y.var() / 20
