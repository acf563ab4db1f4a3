"""Tables of other libraries: columns go by name wherever data come in, and what no network can take is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

import gradflow as gf
from gradflow.data import fit_preprocessing

RNG = np.random.default_rng(0)
X = np.column_stack([RNG.uniform(18, 90, 200), RNG.lognormal(8, 1, 200), RNG.normal(size=200)]).astype(np.float32)
X[:, 1] /= 1e4
NAMES = ["age", "income", "score"]
FRAME = pd.DataFrame(X, columns=NAMES)
OTHER_ORDER = FRAME[["score", "age", "income"]]
Y = (X[:, 0] > 50).astype(int)

TABLES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "dict": lambda frame: {name: frame[name].to_numpy() for name in frame},
    "dict of lists": lambda frame: {name: frame[name].tolist() for name in frame},
    "pandas": lambda frame: frame,
    "pandas with another index": lambda frame: frame.set_axis(RNG.permutation(len(frame)), axis=0),
    "polars": pl.from_pandas,
    "polars lazy": lambda frame: pl.from_pandas(frame).lazy(),
    "pyarrow": pa.Table.from_pandas,
    "pyarrow batch": pa.RecordBatch.from_pandas,
    "structured array": lambda frame: frame.to_records(index=False),
}
tables = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def trained(x: Any, y: Any = Y, **arguments: Any) -> gf.Trainer:
    network = gf.MLP([3, 8, 1], seed=1)
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam(0.01))
    trainer.fit(x, y, epochs=2, **arguments)
    return trainer


def written(frame: pd.DataFrame, folder: Path) -> gf.data.Parquet:
    pyarrow.parquet.write_table(pa.Table.from_pandas(frame.assign(y=Y)), folder / "rows.parquet")
    return gf.data.Parquet(folder / "rows.parquet", target="y")


def refused(message: str) -> Any:
    return pytest.raises(gf.DataError, match=re.escape(message))


# -- a network without a preprocessing --------------------------------------------------------------------------------


@tables
def test_columns_go_by_name_everywhere(table: Callable[[pd.DataFrame], Any], backend_name: str) -> None:
    network = gf.MLP([3, 8, 1], seed=1, backend=backend_name)
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam(0.01))
    history = trainer.fit(table(FRAME), Y, epochs=2, validation_data=(table(OTHER_ORDER), Y))
    assert network.feature_names == tuple(NAMES)
    expected = trainer.evaluate(X, Y)
    assert history["val_loss"][-1] == expected["loss"]
    assert trainer.evaluate(table(OTHER_ORDER), Y) == expected
    assert trainer.evaluate(gf.data.Arrays(table(OTHER_ORDER), Y)) == expected
    assert trainer.evaluate(gf.data.Batches([(table(OTHER_ORDER), Y)])) == expected
    for predict in (network.predict, network.logits, network.predict_classes, lambda x: network.inputs("x", x)):
        np.testing.assert_array_equal(predict(table(OTHER_ORDER)), predict(X))
    assert gf.check_gradients(network, "binary_cross_entropy", table(OTHER_ORDER), Y) == gf.check_gradients(
        network, "binary_cross_entropy", X, Y
    )
    rates = [gf.flow.learning_rate_range_test(trainer, x, Y, steps=20).losses for x in (table(OTHER_ORDER), X)]
    np.testing.assert_array_equal(*rates)
    assert gf.flow.dead_units(network, table(OTHER_ORDER)) == gf.flow.dead_units(network, X)


@tables
def test_tables_train_as_arrays_do(table: Callable[[pd.DataFrame], Any]) -> None:
    weights = [trained(x).network.get_weights()["0.weight"] for x in (table(FRAME), X)]
    np.testing.assert_array_equal(*weights)
    of_source = trained(gf.data.Arrays(table(FRAME), Y), None).network
    np.testing.assert_array_equal(of_source.get_weights()["0.weight"], weights[1])
    assert of_source.feature_names == tuple(NAMES)


def test_what_gives_arrow_data_is_a_table() -> None:
    expected = trained(X).network.get_weights()["0.weight"]
    network = trained(pa.Table.from_pandas(FRAME).to_reader()).network
    np.testing.assert_array_equal(network.get_weights()["0.weight"], expected)
    np.testing.assert_array_equal(network.predict(pa.Table.from_pandas(OTHER_ORDER).to_reader()), network.predict(X))


def test_names_go_where_the_network_goes(tmp_path: Path) -> None:
    network = trained(FRAME).network
    gf.save(network, tmp_path / "model.safetensors")
    for other in (network.copy(), gf.load(tmp_path / "model.safetensors")):
        assert other.feature_names == tuple(NAMES)
        np.testing.assert_array_equal(other.predict(OTHER_ORDER), network.predict(FRAME))


def test_missing_and_renamed_columns_are_refused_by_name() -> None:
    trainer = trained(FRAME)
    renamed = FRAME.rename(columns={"income": "Income"})
    message = "column 'income' is missing from x; it has age, Income, score. Is it 'Income'? Then rename it."
    for refuse in (
        lambda: trainer.network.predict(renamed),
        lambda: trainer.network.predict(pl.from_pandas(renamed)),
        lambda: trainer.evaluate(renamed, Y),
        lambda: trainer.fit(renamed, Y, epochs=1),
        lambda: gf.check_gradients(trainer.network, "binary_cross_entropy", renamed, Y),
        lambda: gf.flow.learning_rate_range_test(trainer, renamed, Y),
    ):
        with refused(message):
            refuse()
    with refused(message.replace("from x", "from validation x")):
        trainer.fit(FRAME, Y, epochs=1, validation_data=(renamed, Y))
    with refused("column 'income' is missing from validation x"):
        trained(FRAME, validation_data=(renamed, Y))
    with refused("columns 'income', 'score' are missing from x; it has age."):
        trainer.network.predict(FRAME[["age"]])
    np.testing.assert_array_equal(trainer.network.predict(FRAME.assign(more="text")), trainer.network.predict(FRAME))


def test_a_failed_fit_keeps_no_names() -> None:
    network = gf.MLP([3, 8, 1])
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam())
    with refused("validation x holds values that are not finite, the first (NaN) in row 0, column 'age'"):
        trainer.fit(FRAME, Y, epochs=1, validation_data=(FRAME * np.nan, Y))
    assert network.feature_names is None


def test_arrays_go_by_position_and_so_do_tables_while_no_names_are_known() -> None:
    by_name = trained(FRAME).network
    np.testing.assert_array_equal(by_name.predict(X), by_name.predict(FRAME))
    by_position = trained(X).network
    assert by_position.feature_names is None
    np.testing.assert_array_equal(by_position.predict(FRAME), by_position.predict(X))
    unnamed = trained(pd.DataFrame(X)).network
    assert unnamed.feature_names is None
    np.testing.assert_array_equal(unnamed.predict(FRAME), unnamed.predict(X))
    np.testing.assert_array_equal(unnamed.predict(pd.DataFrame(X)[[2, 0, 1]]), unnamed.predict(X))
    with refused("column '1' is missing from x; it has 0, other, 2"):
        unnamed.predict(pd.DataFrame(X).rename(columns={1: "other"}))
    with refused("x must have 3 features, as the network's first layer, got 2"):
        by_position.predict(FRAME[["age", "income"]])


def test_names_are_those_of_the_first_fit_until_they_are_forgotten() -> None:
    trainer = trained(FRAME)
    again = trained(FRAME)
    for x, trainer_of in ((OTHER_ORDER, trainer), (FRAME, again)):
        trainer_of.fit(x, Y, epochs=1)
    np.testing.assert_array_equal(trainer.network.predict(X), again.network.predict(X))
    others = FRAME.set_axis(["a", "b", "c"], axis=1)
    with refused("columns 'age', 'income', 'score' are missing from x"):
        trainer.fit(others, Y, epochs=1)
    trainer.network.feature_names = None
    trainer.fit(others, Y, epochs=1)
    assert trainer.network.feature_names == ("a", "b", "c")
    for names, message in (
        (("a", "b"), "feature_names must be 3 different names"),
        (("a", "b", "b"), "feature_names must be 3 different names"),
        ("abc", "feature_names must be a list of names, or None, got 'abc'"),
        ((0, 1, 2), "feature_names must be a list of names"),
    ):
        with refused(message):
            trainer.network.feature_names = names  # type: ignore[assignment]
    trainer.network.preprocessing = fit_preprocessing(FRAME)
    assert trainer.network.feature_names == tuple(NAMES)
    with refused("the preprocessing names the columns that this network takes"):
        trainer.network.feature_names = NAMES


def test_sources_go_by_name(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    source, other = written(FRAME, tmp_path / "one"), written(OTHER_ORDER, tmp_path / "other")
    trainer = trained(source, None, validation_data=other)
    assert trainer.network.feature_names == tuple(NAMES)
    assert trainer.evaluate(other) == trainer.evaluate(X, Y)
    renamed = FRAME.rename(columns={"income": "revenue"})
    with refused("column 'income' is missing from x; it has age, revenue, score."):
        trainer.evaluate(gf.data.Batches([(renamed, Y)]))
    mixed = gf.data.Batches([(FRAME[:100], Y[:100]), (OTHER_ORDER[100:], Y[100:])])
    weights = [trained(x, None).network.get_weights()["0.weight"] for x in (mixed, gf.data.Batches([(X, Y)]))]
    np.testing.assert_array_equal(*weights)


# -- a network with a preprocessing -----------------------------------------------------------------------------------


@tables
def test_a_preprocessing_takes_columns_by_name_everywhere(table: Callable[[pd.DataFrame], Any]) -> None:
    preprocessing = fit_preprocessing(table(FRAME))
    assert preprocessing == fit_preprocessing(FRAME)
    assert preprocessing.names == tuple(NAMES)
    network = gf.MLP([3, 8, 1], seed=1)
    network.preprocessing = preprocessing
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam(0.01))
    trainer.fit(FRAME, Y, epochs=2)
    expected = trainer.evaluate(FRAME, Y)
    other = table(OTHER_ORDER)
    assert trainer.evaluate(other, Y) == expected
    assert trainer.evaluate(gf.data.Arrays(table(OTHER_ORDER), Y)) == expected
    assert trainer.evaluate(gf.data.Batches([(table(OTHER_ORDER), Y)])) == expected
    assert fit_preprocessing(gf.data.Arrays(table(FRAME), Y)) == preprocessing
    assert fit_preprocessing(gf.data.Batches([(table(FRAME), Y)])) == preprocessing
    np.testing.assert_array_equal(network.predict(table(OTHER_ORDER)), network.predict(X))


def test_a_preprocessing_of_an_array_takes_tables_by_position() -> None:
    preprocessing = fit_preprocessing(X)
    np.testing.assert_array_equal(preprocessing.transform(FRAME), preprocessing.transform(X))
    with refused("x must have 3 columns, but has 2: age, income"):
        preprocessing.transform(FRAME[["age", "income"]])


# -- targets and weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        pd.Series,
        lambda y: pd.Series(y, index=y[::-1], dtype="Int64"),
        lambda y: pd.Series(y, dtype="boolean"),
        lambda y: pd.Series(y, dtype=object),
        lambda y: pd.DataFrame({"y": y}),
        pl.Series,
        lambda y: pl.Series(y).cast(pl.Boolean),
        lambda y: pl.DataFrame({"y": y}),
        lambda y: pl.LazyFrame({"y": y}),
        lambda y: pa.chunked_array([y[:50], y[50:]]),
        pa.array,
        lambda y: pa.table({"y": y}),
        lambda y: pd.Series([Decimal(int(value)) for value in y]),
    ],
)
def test_columns_are_targets(make: Callable[[np.ndarray], Any]) -> None:
    expected = trained(X).network.get_weights()["0.weight"]
    np.testing.assert_array_equal(trained(X, make(Y)).network.get_weights()["0.weight"], expected)
    np.testing.assert_array_equal(trained(gf.data.Arrays(X, make(Y)), None).network.get_weights()["0.weight"], expected)


def test_columns_are_weights() -> None:
    weight = 1 + Y
    expected = trained(X, sample_weight=weight).network.get_weights()["0.weight"]
    for same in (pd.Series(weight, dtype="Int64"), pl.DataFrame({"w": weight}), pa.chunked_array([weight])):
        np.testing.assert_array_equal(trained(X, sample_weight=same).network.get_weights()["0.weight"], expected)


def test_several_columns_are_several_targets() -> None:
    y = FRAME[["age", "score"]]
    losses = [
        gf.Trainer(gf.MLP([3, 2], seed=1), "mean_squared_error", gf.Adam()).fit(X, targets, epochs=1)["loss"]
        for targets in (y.to_numpy(), y, pl.from_pandas(y), pa.Table.from_pandas(y))
    ]
    assert losses.count(losses[0]) == 4


def test_targets_of_text_and_missing_targets_are_refused() -> None:
    words = np.where(Y, "yes", "no")
    for y in (words, pd.Series(words), pl.Series(words), pa.array(words), pd.Series(words, dtype="category")):
        with refused("names of classes with numpy.unique(y, return_inverse=True)"):
            trained(X, y)
    gone = pd.Series(Y, dtype="Int64")
    gone[7] = pd.NA
    with refused("targets contain NaN"):
        trained(X, gone)
