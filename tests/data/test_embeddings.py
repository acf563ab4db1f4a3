"""Embeddings in a preprocessing: how categories are numbered, and that numbers and tables stay together."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.data import CSV, Batches, OneHot, Preprocessing, Standardize, fit_preprocessing
from gradflow.data.rules import embedding_size
from gradflow.storage import checksum

RNG = np.random.default_rng(0)
ROWS = 400
CITIES = np.array(["Bern", "Oslo", "Rome", None], object)
EFFECTS = {"Bern": 1.0, "Oslo": -2.0, "Rome": 0.5, None: 3.0}
CITY = CITIES[RNG.integers(0, 4, ROWS)]
COLUMNS = {
    "city": CITY,
    "age": RNG.normal(40, 10, ROWS),
    "shop": RNG.integers(0, 60, ROWS),
    "kind": RNG.choice(["a", "b"], ROWS),
}
RULES = {"city": gf.Embedding(size=3, missing="mark"), "shop": gf.Embedding(size=2)}
Y = np.array([EFFECTS[city] for city in CITY]) + 0.01 * COLUMNS["age"]


def test_categories_are_numbered() -> None:
    fitted = fit_preprocessing(COLUMNS, RULES)
    x = fitted.transform(COLUMNS)
    assert fitted.output_names == ["age", "kind = a", "kind = b", "city", "shop"]
    assert fitted.n_out == 5 == x.shape[1]
    assert fitted.tables == ((5, 3), (fitted.columns[2].rows, 2))
    assert_array_equal(x[:, 3], [["Bern", "Oslo", "Rome", None].index(city) + 1 for city in CITY])
    assert fitted.constant_columns == []


def test_rare_unseen_and_missing_categories() -> None:
    column = np.array(["a"] * 3 + ["b"] * 2 + ["c"], object)
    new = {"x": np.array(["c", "b", "a", "z", None], object)}
    for missing, last in (("fill", 0), ("mark", 3)):
        fitted = fit_preprocessing({"x": column}, {"x": gf.Embedding(missing=missing)})
        assert_array_equal(fitted.transform(new)[:, 0], [0, 2, 1, 0, last])
    with pytest.raises(gf.DataError, match="column 'x' has no value in row 4"):
        fit_preprocessing({"x": column}, {"x": gf.Embedding()}).transform(new)
    every = fit_preprocessing({"x": column}, {"x": gf.Embedding(min_rows=1, missing="fill")})
    assert_array_equal(every.transform(new)[:, 0], [3, 2, 1, 0, 0])
    with pytest.raises(gf.DataError, match=r"3 categories, none of them in 4 rows or more; .* Embedding\(min_rows=1\)"):
        fit_preprocessing({"x": column}, {"x": gf.Embedding(min_rows=4)})


@given(st.lists(st.lists(st.sampled_from(["a", "b", "cc", "d", "e"]), min_size=1, max_size=20), min_size=1, max_size=5))
def test_streams_count_as_the_whole(parts: list[list[str]]) -> None:
    whole = np.array([value for part in parts for value in part], object)[:, None]
    pieces = [(np.array(part, object)[:, None], np.zeros(len(part))) for part in parts]
    rule = {0: gf.Embedding(min_rows=2)}
    try:
        expected = fit_preprocessing(whole, rule)
    except gf.DataError:
        with pytest.raises(gf.DataError, match="none of them in 2 rows"):
            fit_preprocessing(Batches(lambda: pieces), rule)
        return
    assert fit_preprocessing(Batches(lambda: pieces), rule) == expected


@pytest.mark.parametrize("values", [[3.0, 1, 3, 1, 2.5], [True, False, True, False, True], [10**15, 7, 10**15, 7, 1]])
def test_categories_that_are_numbers(values: list[Any]) -> None:
    fitted = fit_preprocessing(np.array(values)[:, None], {0: gf.Embedding()})
    assert_array_equal(fitted.transform(np.array(values)[:4, None])[:, 0], [2, 1, 2, 1])
    assert Preprocessing.from_config(json.loads(json.dumps(fitted.config()))) == fitted


def test_the_default_size_is_that_of_fastai() -> None:
    assert [embedding_size(vectors) for vectors in (2, 3, 10, 100, 1000, 10**6)] == [2, 3, 6, 21, 77, 600]
    column = np.repeat(np.arange(99), 2)[:, None]
    assert fit_preprocessing(column, {0: gf.Embedding()}).tables == ((100, 21),)


def trained(backend_name: str, **settings: Any) -> gf.Sequential:
    preprocessing = fit_preprocessing(COLUMNS, RULES)
    network = gf.MLP([preprocessing.n_out, 16, 1], preprocessing=preprocessing, backend=backend_name, **settings)
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.02))
    trainer.fit(COLUMNS, Y, epochs=30, batch_size=32, validation_data=(COLUMNS, Y), progress=False)
    return network


def test_a_network_learns_the_vectors(backend_name: str) -> None:
    network = trained(backend_name)
    assert [type(layer).__name__ for layer in network.layers] == ["EmbedColumns", "Dense", "ReLU", "Dense"]
    assert network.layers[1].n_in == 3 + 3 + 2
    assert np.square(network.predict(COLUMNS)[:, 0] - Y).mean() < 0.1 * Y.var()
    assert max(gf.check_gradients(network.copy(dtype="float64"), "mean_squared_error", COLUMNS, Y).values()) < 1e-4
    assert gf.inspect.dead_units(network, COLUMNS)
    unseen = network.predict({**COLUMNS, "city": np.full(ROWS, "Paris")})
    assert np.isfinite(unseen).all()


def test_numbers_and_tables_stay_together(backend_name: str, tmp_path: Path) -> None:
    network = trained(backend_name, input_dropout=0.1)
    expected = network.predict(COLUMNS)
    gf.save(network, tmp_path / "model")
    for other in (
        gf.load(tmp_path / "model", backend=backend_name),
        network.copy(),
        pickle.loads(pickle.dumps(network)),
    ):
        assert other.preprocessing == network.preprocessing
        assert other.predict(COLUMNS).tobytes() == expected.tobytes()


def test_an_interrupted_run_is_resumed(backend_name: str, tmp_path: Path) -> None:
    def network() -> gf.Sequential:
        fitted = fit_preprocessing(COLUMNS, RULES)
        return gf.MLP([fitted.n_out, 8, 1], preprocessing=fitted, backend=backend_name)

    def fit(network: gf.Sequential, **settings: Any) -> None:
        gf.Trainer(network, "mean_squared_error", "adam").fit(COLUMNS, Y, batch_size=32, progress=False, **settings)

    whole, parts = network(), network()
    fit(whole, epochs=4)
    fit(parts, epochs=2, output=tmp_path / "run", checkpoint=gf.Checkpoint())
    resumed = network()
    fit(resumed, epochs=4, resume=tmp_path / "run")
    assert resumed.predict(COLUMNS).tobytes() == whole.predict(COLUMNS).tobytes()


def test_a_run_is_repeated_bit_for_bit(tmp_path: Path) -> None:
    fitted = fit_preprocessing(COLUMNS, RULES)
    network = gf.MLP([fitted.n_out, 8, 1], preprocessing=fitted, backend="numpy")
    trainer = gf.Trainer(network, "mean_squared_error", "adam", clip_norm=1.0, l2=1e-4)
    trainer.fit(COLUMNS, Y, epochs=2, batch_size=32, accumulate=2, output=tmp_path / "run", progress=False)
    assert gf.repeat(tmp_path / "run", COLUMNS, Y).results == []


def test_sequential_networks_take_the_tables(backend_name: str) -> None:
    preprocessing = fit_preprocessing(COLUMNS, RULES)
    embed = gf.EmbedColumns(preprocessing.n_out, preprocessing.tables)
    network = gf.Sequential([embed, gf.Dense(embed.n_out, 1)], backend=backend_name)
    network.preprocessing = preprocessing
    assert network.predict(COLUMNS).shape == (ROWS, 1)


def test_what_does_not_fit_together_is_refused() -> None:
    preprocessing = fit_preprocessing(COLUMNS, RULES)
    message = re.escape("have the tables ((5, 3), ") + ".*but the first layer has none; create .*preprocessing=preproc"
    network = gf.MLP([preprocessing.n_out, 1])
    with pytest.raises(gf.DataError, match=message):
        network.preprocessing = preprocessing
    smaller = gf.Sequential([gf.EmbedColumns(5, [(5, 3), (4, 2)])])
    with pytest.raises(gf.DataError, match=r"have the tables .* but the first layer has \(\(5, 3\), \(4, 2\)\)"):
        smaller.preprocessing = preprocessing
    plain = fit_preprocessing(RNG.normal(size=(9, 5)))
    with pytest.raises(gf.DataError, match=r"have the tables \(\), but the first layer has \(\(5, 3\),\)"):
        gf.Sequential([gf.EmbedColumns(5, [(5, 3)])]).preprocessing = plain
    with pytest.raises(gf.DataError, match="creates 5 inputs, but the first layer has 4"):
        gf.MLP([4, 1], preprocessing=preprocessing)
    with pytest.raises(gf.DataError, match="must be what gradflow"):
        gf.MLP([4, 1], preprocessing=Standardize())  # type: ignore[arg-type]
    assert gf.MLP([5, 1], preprocessing=plain).preprocessing == plain
    for make, shown in (
        (lambda: gf.Embedding(size=0), "size must be at least 1"),
        (lambda: gf.Embedding(min_rows=0), "min_rows must be at least 1"),
        (lambda: gf.Embedding(missing="drop"), "unknown missing 'drop'"),
        (lambda: gf.Embedding(most=2**24), "most must be between 1 and 16777214"),
    ):
        with pytest.raises(gf.DataError, match=shown):
            make()
    with pytest.raises(gf.DataError, match=r"more than 20 categories; .*, or pass Embedding\(most=\.\.\.\)"):
        fit_preprocessing(COLUMNS, {"shop": gf.Embedding(most=20), "city": OneHot("fill")})


def test_a_file_with_other_tables_is_refused(tmp_path: Path) -> None:
    network = trained("numpy")
    path = tmp_path / "model.safetensors"
    gf.save(network, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    model = json.loads(header["__metadata__"]["gradflow"])
    model["network"]["preprocessing"]["columns"][0]["categories"].append("Wien")
    model["checksum"] = checksum(network.get_weights(), json.dumps(model["network"]))
    header["__metadata__"]["gradflow"] = json.dumps(model)
    damaged = json.dumps(header).encode()
    path.write_bytes(len(damaged).to_bytes(8, "little") + damaged + content[8 + length :])
    with pytest.raises(gf.FileFormatError, match="the description of the network is damaged"):
        gf.load(path)


def test_files_are_streamed(backend_name: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = zip(*COLUMNS.values(), Y, strict=True)
    lines = [f"{city or ''},{age:.17g},{shop},{kind},{y:.17g}" for city, age, shop, kind, y in rows]
    (tmp_path / "rows.csv").write_text("\n".join(["city,age,shop,kind,y", *lines]))
    parquet.write_table(pyarrow.table({**COLUMNS, "y": Y}), tmp_path / "rows.parquet")
    sources = [
        CSV(tmp_path / "rows.csv", target="y", block_rows=64),
        gf.data.Parquet(tmp_path / "rows.parquet", target="y", block_rows=64),
    ]
    for source in sources:
        preprocessing = fit_preprocessing(source, RULES)
        assert preprocessing.tables == fit_preprocessing(COLUMNS, RULES).tables
        network = gf.MLP([preprocessing.n_out, 4, 1], preprocessing=preprocessing, backend=backend_name)
        gf.Trainer(network, "mean_squared_error", "adam").fit(source, epochs=1, batch_size=32, progress=False)
        assert_allclose(network.predict(source), network.predict(COLUMNS), rtol=1e-6)


def test_networks_side_by_side_and_together(tmp_path: Path) -> None:
    fitted = fit_preprocessing(COLUMNS, RULES)

    def trainer(seed: int) -> gf.Trainer:
        network = gf.MLP([fitted.n_out, 8, 1], preprocessing=fitted, backend="numpy", seed=seed)
        return gf.Trainer(network, "mean_squared_error", "adam", threads=1)

    pack, alone = gf.Pack([trainer(seed) for seed in range(3)]), trainer(1)
    for together in (pack, alone):
        together.fit(COLUMNS, Y, epochs=2, batch_size=32, progress=False)
    assert pack[1].predict(COLUMNS).tobytes() == alone.network.predict(COLUMNS).tobytes()
    ensemble = gf.Ensemble(list(pack))
    gf.save(ensemble, tmp_path / "ensemble")
    assert gf.load(tmp_path / "ensemble").predict(COLUMNS).tobytes() == ensemble.predict(COLUMNS).tobytes()


def test_members_of_a_pack_check_their_own_numbers() -> None:
    def trainer(categories: int) -> gf.Trainer:
        layers = [gf.EmbedColumns(1, [(categories, 2)]), gf.Dense(2, 1)]
        return gf.Trainer(gf.Sequential(layers, backend="numpy"), "mean_squared_error", "adam")

    with pytest.raises(gf.DataError, match=r"expects the number of a category: a whole number from 0 to 29"):
        gf.Pack([trainer(60), trainer(30)]).fit(COLUMNS["shop"][:, None], Y, epochs=1, progress=False)
