"""Embeddings of categories: by hand, gradients, the same bits everywhere, and what is refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.executors import Eager
from gradflow.layers import embed_columns
from gradflow.optimizers import OPTIMIZERS
from gradflow.precision import check_precision

RNG = np.random.default_rng(0)
TABLES = ((7, 3), (2, 1), (300, 70))
ROWS = 60
X = np.column_stack(
    [RNG.normal(size=(ROWS, 2)), *(RNG.integers(0, categories, ROWS) for categories, _ in TABLES)]
)  # two numbers, then the numbers of categories
Y = RNG.normal(size=(ROWS, 2))


def make_network(backend: str = "numpy", **settings: Any) -> gf.Sequential:
    embed = gf.EmbedColumns(5, TABLES)
    layers = [embed, gf.Dense(embed.n_out, 6), gf.Tanh(), gf.Dense(6, 2)]
    return gf.Sequential(layers, backend=backend, **({"seed": 3} | settings))


def test_vectors_take_the_place_of_numbers(backend_name: str) -> None:
    embed = gf.EmbedColumns(5, TABLES)
    network = gf.Sequential([embed], dtype="float64", backend=backend_name)
    assert (network.n_in, network.n_out, embed.n_out) == (5, 76, 76)
    weights = network.get_weights()
    assert {name: weight.shape for name, weight in weights.items()} == {
        "0.table_0": (7, 3), "0.table_1": (2, 1), "0.table_2": (300, 70),
    }  # fmt: skip
    assert network.n_decayed == network.n_parameters == 7 * 3 + 2 + 300 * 70
    numbers = X[:, 2:].astype(int)
    expected = [X[:, :2], *(weights[f"0.table_{index}"][numbers[:, index]] for index in range(3))]
    assert_array_equal(network.predict(X), np.hstack(expected))


def test_initial_vectors() -> None:
    table = gf.Sequential([gf.EmbedColumns(1, [(4001, 16)])], dtype="float64").get_weights()["0.table_0"]
    assert (table[0] == 0).all()
    # 4000 vectors: the mean of the squared lengths has a standard deviation of sqrt(2 / 16 / 4000) = 0.0056.
    assert_allclose(np.square(table[1:]).sum(axis=1).mean(), 1, atol=0.03)
    rule = np.full((3, 2), 5.0)
    filled = gf.Sequential([gf.EmbedColumns(1, [(3, 2)], initializer=lambda shape, random: rule)]).get_weights()
    assert_array_equal(filled["0.table_0"], [[0, 0], [5, 5], [5, 5]])
    assert (rule == 5).all()


@pytest.mark.parametrize("rows", [1, ROWS])
def test_gradients(rows: int, backend_name: str) -> None:
    network = make_network(backend_name, dtype="float64")
    assert max(gf.check_gradients(network, "mean_squared_error", X[:rows], Y[:rows]).values()) < 1e-5


def test_gradient_of_the_inputs(backend_name: str) -> None:
    network = make_network(backend_name, dtype="float64")
    backend, layer = network.backend, network.layers[0]
    y, d_x = backend.empty((ROWS, layer.n_out), np.float64), backend.empty(X.shape, np.float64)
    d_y = RNG.normal(size=(ROWS, layer.n_out))
    layer.forward(Eager(backend), backend.from_host(X), y)
    layer.backward(Eager(backend), backend.from_host(X), y, backend.from_host(d_y.copy()), d_x)
    assert_array_equal(backend.to_host(d_x), np.hstack([d_y[:, :2], np.zeros((ROWS, 3))]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(rows=st.integers(1, 700), categories=st.integers(1, 40), size=st.integers(1, 70))
def test_gradients_add_the_rows_of_a_category(rows: int, categories: int, size: int, dtype: str) -> None:
    rng = np.random.default_rng(rows)
    x = rng.integers(0, categories, (rows, 1))
    network = gf.Sequential([gf.EmbedColumns(1, [(categories, size)])], dtype=dtype, backend="numpy")
    y = rng.normal(size=(rows, size))
    outputs = network.predict(x).astype(np.float64)
    expected = np.zeros((categories, size))
    np.add.at(expected, x[:, 0], (outputs - y) / rows)
    found = gf.gradients(network, "half_squared_error", x, y)["0.table_0"]
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("categories", [1, 3, 2000])
def test_gradients_have_the_same_bits_on_every_backend(categories: int, backend_name: str) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, categories, 1000).astype(np.int32)
    d_y = rng.normal(size=(1000, 5)).astype(np.float32)
    found = []
    for name in ("reference", backend_name):
        backend = gf.MLP([1, 1], backend=name).backend
        d_table = backend.zeros((categories, 4), np.float32)
        arrays = [backend.from_host(array) for array in (numbers, d_y)]
        Eager(backend)(embed_columns.embed_column_gradient, *arrays, d_table, first=1)
        found.append(backend.to_host(d_table).tobytes())
    assert found[0] == found[1]


def test_large_batches_are_added_in_parts(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for rows_at_a_time in (1024, 7):
        monkeypatch.setattr(embed_columns, "_ROWS_AT_A_TIME", rows_at_a_time)
        network = make_network(backend_name, dtype="float64")
        gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(X, Y, epochs=2, batch_size=None, progress=False)
        weights.append(network.get_weights())
    for name, weight in weights[0].items():
        assert_allclose(weights[1][name], weight, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_trains_as_one_hot_inputs_and_a_dense_layer(dtype: str, backend_name: str) -> None:
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 9, ROWS)
    embedded = gf.Sequential(
        [gf.EmbedColumns(1, [(9, 4)]), gf.Tanh(), gf.Dense(4, 2)], dtype=dtype, backend=backend_name
    )
    dense = gf.Sequential([gf.Dense(9, 4, bias=False), gf.Tanh(), gf.Dense(4, 2)], dtype=dtype, backend=backend_name)
    weights = embedded.get_weights()
    dense.set_weights({"0.weight": weights.pop("0.table_0"), **weights})
    for network, x in ((embedded, numbers[:, None]), (dense, np.eye(9)[numbers])):
        trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.01), l2=1e-3)
        trainer.fit(x, Y, epochs=5, batch_size=16, progress=False)
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    assert_allclose(
        embedded.get_weights()["0.table_0"], dense.get_weights()["0.weight"], rtol=tolerance, atol=tolerance
    )


def test_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(0, 500, (6000, 1))
    y = rng.normal(size=(6000, 1))
    found = set()
    for threads in (1, 2):
        network = gf.Sequential([gf.EmbedColumns(1, [(500, 40)]), gf.Tanh(), gf.Dense(40, 1)], backend="numpy")
        trainer = gf.Trainer(network, "mean_squared_error", "adam", threads=threads)
        trainer.fit(x, y, epochs=3, batch_size=2500, progress=False)
        found.add(network.get_weights()["0.table_0"].tobytes())
    assert len(found) == 1


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_matches_pytorch(dtype: str, backend_name: str) -> None:
    import torch

    network = make_network(backend_name, dtype=dtype)
    tables = [torch.nn.Embedding(*shape) for shape in TABLES]
    linear = torch.nn.Linear(76, 6), torch.nn.Linear(6, 2)
    model = torch.nn.ModuleList([*tables, *linear]).to(getattr(torch, dtype))
    tensors = {f"0.table_{index}": table.weight for index, table in enumerate(tables)}
    tensors |= {"1.weight": linear[0].weight, "1.bias": linear[0].bias}
    tensors |= {"3.weight": linear[1].weight, "3.bias": linear[1].bias}

    def as_theirs(name: str, weight: np.ndarray) -> np.ndarray:
        return weight.T if name.endswith("weight") else weight

    with torch.no_grad():
        for name, weight in network.get_weights().items():
            tensors[name].copy_(torch.tensor(as_theirs(name, weight)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    numbers = [torch.tensor(X[:, 2 + index].astype(int)) for index in range(3)]
    passed, y = torch.tensor(X[:, :2].astype(dtype)), torch.tensor(Y.astype(dtype))
    for _ in range(5):
        optimizer.zero_grad()
        inputs = torch.cat([passed, *(table(column) for table, column in zip(tables, numbers, strict=True))], dim=1)
        torch.nn.functional.mse_loss(linear[1](torch.tanh(linear[0](inputs))), y).backward()
        optimizer.step()
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.1))
    trainer.fit(X, Y.astype(dtype), epochs=5, batch_size=None, progress=False)
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    for name, weight in network.get_weights().items():
        theirs = tensors[name].detach().numpy()
        assert_allclose(as_theirs(name, weight), theirs, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.gpu
def test_wrong_numbers_on_the_gpu_are_refused() -> None:
    import cupy

    network = make_network("cupy")
    x = X.astype(np.float32)
    assert_allclose(network.predict(cupy.asarray(x)).get(), network.predict(x), rtol=1e-6)
    x[5, 2] = 7
    with pytest.raises(gf.DataError, match="x holds 7 in row 5, column 2, where the first layer, EmbedColumns"):
        network.predict(cupy.asarray(x))


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "lbfgs"])
def test_every_optimizer_trains_it(optimizer: str, backend_name: str) -> None:
    network = make_network(backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", OPTIMIZERS[optimizer](learning_rate=0.01))
    history = trainer.fit(X, Y, epochs=10, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0]


def test_a_category_that_a_batch_lacks_keeps_its_vector(backend_name: str) -> None:
    network = make_network(backend_name)
    before = network.get_weights()
    x = X.copy()
    x[:, 2] = 4
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(x, Y, epochs=1, batch_size=None, progress=False)
    moved = (network.get_weights()["0.table_0"] != before["0.table_0"]).any(axis=1)
    assert_array_equal(moved, np.arange(7) == 4)


def test_frozen_tables(backend_name: str) -> None:
    network = make_network(backend_name)
    network.frozen = [0]
    before = network.get_weights()
    gf.Trainer(network, "mean_squared_error", "adam").fit(X, Y, epochs=2, batch_size=16, progress=False)
    after = network.get_weights()
    assert all((after[name] == before[name]).all() for name in before if name.startswith("0."))
    assert (after["1.weight"] != before["1.weight"]).any()


def test_copies_and_files_predict_the_same(backend_name: str, tmp_path: Path) -> None:
    network = make_network(backend_name)
    gf.Trainer(network, "mean_squared_error", "adam").fit(X, Y, epochs=2, batch_size=16, progress=False)
    gf.save(network, tmp_path / "model")
    for twin in (
        gf.load(tmp_path / "model", backend=backend_name),
        network.copy(),
        pickle.loads(pickle.dumps(network)),
    ):
        assert repr(twin) == repr(network)
        assert twin.layers[0].tables == TABLES
        assert twin.predict(X).tobytes() == network.predict(X).tobytes()


def test_wrong_numbers_are_refused(backend_name: str) -> None:
    network = make_network(backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", "sgd")
    for value, shown in ((7, "7"), (-1, "-1"), (1.5, "1.5"), (1e9, "1e+09")):
        x = X.copy()
        x[5, 2] = value
        message = re.escape(f"x holds {shown} in row 5, column 2, where the first layer, EmbedColumns, expects")
        calls: list[Callable[[], Any]] = [
            lambda x=x: network.predict(x),
            lambda x=x: network.predict(x.astype(np.float32)),
            lambda x=x: trainer.fit(x, Y, epochs=1, progress=False),
            lambda x=x: trainer.fit(gf.data.Arrays(x, Y), epochs=1, progress=False),
        ]
        for call in calls:
            with pytest.raises(gf.DataError, match=message):
                call()


def test_kernels_read_only_inside_the_table(backend_name: str) -> None:
    network = gf.Sequential([gf.EmbedColumns(1, [(3, 2)])], backend=backend_name)
    backend = network.backend
    x = np.array([[-5.0], [np.nan], [-np.inf], [0.9], [2.5], [3], [1e30], [np.inf]], np.float32)
    y = backend.empty((len(x), 2), np.float32)
    network.layers[0].forward(Eager(backend), backend.from_host(x), y)
    table = network.get_weights()["0.table_0"]
    assert_array_equal(backend.to_host(y), table[[0, 0, 0, 0, 2, 2, 2, 2]])


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no tables": (lambda: gf.EmbedColumns(3, []), "n_in = 3 inputs need from 1 to 3 tables"),
    "too many tables": (lambda: gf.EmbedColumns(1, [(2, 1), (3, 1)]), "from 1 to 1 tables, .* got 2"),
    "no pair": (lambda: gf.EmbedColumns(3, [(3,)]), r"tables\[0\] has 1 values"),
    "a number": (lambda: gf.EmbedColumns(3, [3]), r"tables\[0\] must be a pair"),
    "a size of 0": (lambda: gf.EmbedColumns(3, [(3, 0)]), r"the size of tables\[0\] must be at least 1"),
    "too many categories": (
        lambda: gf.EmbedColumns(3, [(2**24 + 1, 1)]),
        r"categories of tables\[0\] must be between 1 and 16777216",
    ),
    "not first": (
        lambda: gf.Sequential([gf.Dropout(0.1), gf.EmbedColumns(1, [(3, 2)])]),
        "EmbedColumns must be the first layer of the network",
    ),
    "inside": (
        lambda: gf.Sequential([gf.Residual([gf.EmbedColumns(1, [(3, 1)])])]),
        "EmbedColumns must be the first layer of the network, and not inside",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(gf.DataError, match=message):
        make()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_16_bits_are_refused(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network()
    monkeypatch.setattr(network.backend, "check_precision", lambda name: None)
    with pytest.raises(gf.DataError, match="EmbedColumns reads category numbers, which 16 bits do not hold exactly"):
        check_precision(precision, network.backend, network.dtype, network.layers)
