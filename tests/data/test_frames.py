"""Tables of other libraries: columns are matched by name wherever data is accepted, and invalid contents are
refused."""

from __future__ import annotations

import copy
import datetime
import pickle
import re
import tracemalloc
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
import scipy.sparse

import gradflow as gf
from gradflow.data import OneHot, Standardize, fit_preprocessing
from gradflow.network import input_format

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
def test_columns_are_matched_by_name_everywhere(table: Callable[[pd.DataFrame], Any], backend_name: str) -> None:
    network = gf.MLP([3, 8, 1], seed=1, backend=backend_name)
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam(0.01))
    history = trainer.fit(table(FRAME), Y, epochs=2, validation_data=(table(OTHER_ORDER), Y))
    assert network.feature_names == tuple(NAMES)
    expected = trainer.evaluate(X, Y)
    assert history["val_loss"][-1] == expected["loss"]
    assert trainer.evaluate(table(OTHER_ORDER), Y) == expected
    assert trainer.evaluate(gf.data.Arrays(table(OTHER_ORDER), Y)) == expected
    assert trainer.evaluate(gf.data.Batches([(table(OTHER_ORDER), Y)])) == expected
    for predict in (network.predict, network.logits, network.predict_classes, lambda x: input_format(network)("x", x)):
        np.testing.assert_array_equal(predict(table(OTHER_ORDER)), predict(X))
    assert gf.check_gradients(network, "binary_cross_entropy", table(OTHER_ORDER), Y) == gf.check_gradients(
        network, "binary_cross_entropy", X, Y
    )
    rates = [gf.inspect.learning_rate_range_test(trainer, x, Y, steps=20).losses for x in (table(OTHER_ORDER), X)]
    np.testing.assert_array_equal(*rates)
    assert gf.inspect.dead_units(network, table(OTHER_ORDER)) == gf.inspect.dead_units(network, X)


@tables
def test_tables_train_as_arrays_do(table: Callable[[pd.DataFrame], Any]) -> None:
    weights = [trained(x).network.get_weights()["0.weight"] for x in (table(FRAME), X)]
    np.testing.assert_array_equal(*weights)
    of_source = trained(gf.data.Arrays(table(FRAME), Y), None).network
    np.testing.assert_array_equal(of_source.get_weights()["0.weight"], weights[1])
    assert of_source.feature_names == tuple(NAMES)


def test_objects_that_export_arrow_data_are_tables() -> None:
    expected = trained(X).network.get_weights()["0.weight"]
    network = trained(pa.Table.from_pandas(FRAME).to_reader()).network
    np.testing.assert_array_equal(network.get_weights()["0.weight"], expected)
    np.testing.assert_array_equal(network.predict(pa.Table.from_pandas(OTHER_ORDER).to_reader()), network.predict(X))


def test_names_are_saved_and_copied_with_the_network(tmp_path: Path) -> None:
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
        lambda: gf.inspect.learning_rate_range_test(trainer, renamed, Y),
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


def test_arrays_and_tables_are_matched_by_position_while_no_names_are_known() -> None:
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
    with refused("x must have 3 features, as the network's first layer expects, got 2"):
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
        ((0, 1, 2), "each name in feature_names must be a string, got 0"),
        (3, "feature_names must be a list of names"),
    ):
        with refused(message):
            trainer.network.feature_names = names  # type: ignore[assignment]
    trainer.network.preprocessing = fit_preprocessing(FRAME)
    assert trainer.network.feature_names == tuple(NAMES)
    with refused("the preprocessing determines the columns of this network"):
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


def test_a_batch_without_a_column_is_named() -> None:
    batches = gf.data.Batches([(FRAME[:100], Y[:100]), (FRAME[100:][["age", "score"]], Y[100:])])
    with refused("batch 1 of the iterable: column 'income' is missing from x; it has age, score."):
        fit_preprocessing(batches)


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


def test_times_and_missing_targets_are_refused() -> None:
    with refused("y holds times (dtype datetime64[us])"):
        trained(X, pd.Series(pd.to_datetime(["2024-01-01"] * len(X))))
    for table in (pd.DataFrame(mixed := {"age": X[:, 0], "city": ["Bern"] * len(X)}), pl.DataFrame(mixed), mixed):
        with refused("y has several columns, but 'city' holds text: only one column may hold it"):
            trained(X, table)
    gone = pd.Series(Y, dtype="Int64")
    gone[7] = pd.NA
    with refused("y holds NaN or infinity in row 7; remove these rows or fill in the values"):
        trained(X, gone)


# -- names ------------------------------------------------------------------------------------------------------------


def test_names_need_not_be_text() -> None:
    numbered = fit_preprocessing(pd.DataFrame(X))
    assert numbered == fit_preprocessing(X)
    assert fit_preprocessing({0: X[:, 0], 1: X[:, 1], 2: X[:, 2]}) == numbered
    mixed = {0: X[:, 0], "a": X[:, 1], 2.5: X[:, 2]}
    assert fit_preprocessing(mixed).names == ("0", "a", "2.5")
    assert fit_preprocessing(pd.DataFrame(mixed), {0: Standardize("fill")}).names == ("0", "a", "2.5")
    np.testing.assert_array_equal(trained(pd.DataFrame(mixed)).network.predict(mixed), trained(X).network.predict(X))


def test_names_that_are_not_unique_are_refused() -> None:
    several = FRAME.set_axis(pd.MultiIndex.from_tuples([("a", "b"), ("a", "c"), ("d", "e")]), axis=1)
    twice = FRAME.set_axis(["a", "b", "a"], axis=1)
    looks_alike = FRAME.set_axis(["1", 1, "a"], axis=1)
    arrow = pa.table([pa.array(column) for column in X.T], names=["a", "b", "a"])
    for x, message in (
        (several, "the columns of x have multi-part names, such as ('a', 'b'); join them: x.columns = ['_'.join"),
        (twice, "x has two columns named 'a'; rename one of them"),
        (looks_alike, "x has two columns named '1'; rename one of them"),
        (arrow, "x has two columns named 'a'; rename one of them"),
    ):
        for refuse in (lambda x=x: fit_preprocessing(x), lambda x=x: trained(x), lambda x=x: gf.data.Arrays(x, Y)):
            with refused(message):
                refuse()


# -- the contents of columns -------------------------------------------------------------------------------------------

NUMBERS: dict[str, tuple[Any, list[float]]] = {
    "Int64": (pd.Series([1, None, 3], dtype="Int64"), [1, np.nan, 3]),
    "Float64": (pd.Series([1, None, 3], dtype="Float64"), [1, np.nan, 3]),
    "boolean": (pd.Series([True, None, False], dtype="boolean"), [1, np.nan, 0]),
    "arrow-backed": (pd.Series([1, None, 3], dtype="int64[pyarrow]"), [1, np.nan, 3]),
    "objects": (pd.Series([1, pd.NA, 3.0], dtype=object), [1, np.nan, 3]),
    "None, NaN and NaT": ([1, None, float("nan"), pd.NaT, 3], [1, np.nan, np.nan, np.nan, 3]),
    "large integers": ([2**70, None], [2.0**70, np.nan]),
    "decimals": (pd.Series([Decimal("1.5"), None, Decimal("NaN")]), [1.5, np.nan, np.nan]),
    "decimals of polars": (pl.Series([Decimal("1.5"), None]), [1.5, np.nan]),
    "decimals of pyarrow": (pa.array([Decimal("1.5"), None]), [1.5, np.nan]),
    "integers of polars": (pl.Series([1, None, 3]), [1, np.nan, 3]),
    "booleans of pyarrow": (pa.chunked_array([pa.array([True, None])]), [1, np.nan]),
    "sparse": (pd.Series(pd.arrays.SparseArray([1.0, np.nan, 0])), [1, np.nan, 0]),
    "dictionary of pyarrow": (pa.chunked_array([pa.array([1, None, 3]).dictionary_encode()]), [1, np.nan, 3]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_every_kind_are_numbers(case: str) -> None:
    column, expected = NUMBERS[case]
    rest = {"b": np.arange(len(expected))}
    preprocessing = fit_preprocessing({"a": column, **rest}, {"a": Standardize("mark")})
    assert preprocessing == fit_preprocessing({"a": np.array(expected), **rest}, {"a": Standardize("mark")})
    np.testing.assert_array_equal(
        preprocessing.transform({"a": column, **rest}), preprocessing.transform({"a": np.array(expected), **rest})
    )


TEXT: dict[str, Any] = {
    "string": pd.Series(["u", None, "v"], dtype="string"),
    "objects": pd.Series(["u", pd.NA, "v"], dtype=object),
    "NaN among text": ["u", float("nan"), "v"],
    "category": pd.Series(["u", None, "v"], dtype="category"),
    "polars": pl.Series(["u", None, "v"]),
    "categories of polars": pl.Series(["u", None, "v"], dtype=pl.Categorical),
    "enumeration of polars": pl.Series(["u", None, "v"], dtype=pl.Enum(["v", "u"])),
    "pyarrow": pa.chunked_array([["u", None, "v"]]),
    "dictionary of pyarrow": pa.chunked_array([pa.array(["u", None, "v"]).dictionary_encode()]),
    "texts of NumPy": np.array(["u", None, "v"], np.dtypes.StringDType(na_object=None)),
}


@pytest.mark.parametrize("column", TEXT.values(), ids=TEXT)
def test_text_of_every_kind_is_categories(column: Any) -> None:
    preprocessing = fit_preprocessing({"t": column}, text=OneHot(missing="mark"))
    assert preprocessing.output_names == ["t = u", "t = v", "t is missing"]
    np.testing.assert_array_equal(preprocessing.transform({"t": column}), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    with refused("column 't' has no value in row 1"):
        fit_preprocessing({"t": column})


def test_categories_may_be_numbers() -> None:
    frame = pd.DataFrame({"zip": pd.Series([8001, 3011, 8001], dtype="category"), "b": [True, False, True]})
    preprocessing = fit_preprocessing(frame, {"b": OneHot()})
    assert preprocessing.output_names == ["zip = 3011", "zip = 8001", "b = False", "b = True"]
    as_numbers = preprocessing.transform({"zip": [3011.0, 8001], "b": [0, 1]})
    np.testing.assert_array_equal(as_numbers, [[1, 0, 1, 0], [0, 1, 0, 1]])
    with refused("column 'zip' holds 8002 in row 0, a category that the training data did not have"):
        preprocessing.transform({"zip": [8002], "b": [True]})
    with refused("column 'zip' holds categories, but a network needs numbers"):
        gf.MLP([2, 1]).predict(frame)
    saved = type(preprocessing).from_config(preprocessing.config())
    assert saved.output_names == preprocessing.output_names


def test_whole_numbers_match_their_printed_text() -> None:
    preprocessing = fit_preprocessing({"zip": ["8001", "3011", None]}, text=OneHot(missing="mark"))
    for column in (np.array([8001, 3011]), np.array([8001.0, 3011.0])):
        np.testing.assert_array_equal(preprocessing.transform({"zip": column}), [[0, 1, 0], [1, 0, 0]])


MONDAY = datetime.date(2024, 1, 1)
UNUSABLE: dict[str, tuple[Any, str]] = {
    "timestamps": (pd.Series(pd.to_datetime(["2024-01-01"])), "holds times (dtype datetime64"),
    "time zones": (pd.Series(pd.to_datetime(["2024-01-01"]).tz_localize("UTC")), "holds times (dtype datetime64[us])"),
    "durations": (pd.Series(pd.to_timedelta(["1 day"])), "holds durations (dtype timedelta64"),
    "periods": (pd.Series(pd.period_range("2024", periods=1, freq="M")), "holds a Period in row 0"),
    "times of NumPy": (np.array(["2024-01-01"], "datetime64[D]"), "holds times (dtype datetime64[D])"),
    "dates of polars": (pl.Series([MONDAY]), "holds times (dtype datetime64"),
    "times of polars": (pl.Series([datetime.time(1)]), "holds times (a time in row 0)"),
    "dates of pyarrow": (pa.array([MONDAY]), "holds times (dtype datetime64"),
    "durations of pyarrow": (pa.chunked_array([[datetime.timedelta(1)]]), "holds durations (dtype timedelta64"),
    "dates as objects": ([None, MONDAY], "holds times (a date in row 1)"),
    "dates beside numbers": ([1.0, np.datetime64("2024-01-01")], "holds times (a datetime64 in row 1)"),
    "durations beside numbers": ([1.0, np.timedelta64(1, "D")], "holds durations (a timedelta64 in row 1)"),
    "bytes": ([b"x"], "holds a bytes in row 0; decode it to text"),
    "bytes of NumPy": (np.array([b"x"]), "has dtype |S1; decode it to text"),
    "lists": (pd.Series([[1], [2, 3]]), "holds a list in row 0; expected numbers or text"),
    "lists of polars": (pl.Series([[1], [2, 3]]), "holds a ndarray in row 0; expected numbers or text"),
    "dicts": (pd.Series([{"a": 1}]), "holds a dict in row 0; expected numbers or text"),
    "complex numbers": (np.array([1j]), "has dtype complex128; expected numbers or text"),
    "complex objects": ([1.0, 1j], "holds a complex in row 1; expected numbers or text"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_values_that_are_neither_numbers_nor_text_are_refused(case: str) -> None:
    column, message = UNUSABLE[case]
    y = np.zeros(len(column))
    for refuse in (
        fit_preprocessing,
        gf.MLP([1, 1]).predict,
        lambda x: gf.Trainer(gf.MLP([1, 1]), "mean_squared_error", "adam").fit(x, y, epochs=1),
        lambda x: fit_preprocessing(gf.data.Arrays(x, y)),
        lambda x: fit_preprocessing(gf.data.Batches([(x, y)])),
    ):
        with refused(f"column 'when' {message}"):
            refuse({"when": column})
    if "times" in message:
        with refused("the rule gradflow.data.Dates() for this column (rules= of gradflow.data.fit_preprocessing, "):
            fit_preprocessing({"when": column})


@pytest.mark.parametrize("case", UNUSABLE)
def test_unused_items_do_no_harm(case: str) -> None:
    column, _ = UNUSABLE[case]
    rows = len(column)
    table = {"when": column, **{name: FRAME[name][:rows] for name in NAMES}}
    network = trained(FRAME).network
    np.testing.assert_array_equal(network.predict(table), network.predict(FRAME[:rows]))
    np.testing.assert_array_equal(network.predict(gf.data.Batches([(table, None)])), network.predict(FRAME[:rows]))
    preprocessing = fit_preprocessing(FRAME)
    np.testing.assert_array_equal(preprocessing.transform(table), preprocessing.transform(FRAME[:rows]))


def test_rows_of_lists_keep_their_numbers() -> None:
    preprocessing = fit_preprocessing([[1.5, "u"], [2.5, "v"], [np.float32(4), "u"]])
    assert preprocessing.output_names == ["0", "1 = u", "1 = v"]


def test_a_long_text_does_not_widen_the_others(tmp_path: Path) -> None:
    rows, long = 20_000, "x" * 100_000
    texts = ["ab"] * rows
    texts[5] = long
    with open(tmp_path / "rows.csv", "w") as file:
        file.write("t,y\n" + "".join(f"{text},{row % 2}\n" for row, text in enumerate(texts)))
    csv = gf.data.CSV(tmp_path / "rows.csv", target="y")
    for data in (pd.DataFrame({"t": texts}), pl.DataFrame({"t": texts}), {"t": texts}, [[t] for t in texts], csv):
        tracemalloc.start()
        try:
            preprocessing = fit_preprocessing(data)
            preprocessing.transform(csv.sample().x if data is csv else data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert preprocessing.n_out == 2
        assert peak < 50e6, f"{peak / 1e6:.0f} MB"


# -- not a table -------------------------------------------------------------------------------------------------------


def test_a_single_row_is_refused_with_the_reshape_to_use() -> None:
    network = trained(FRAME).network
    with_preprocessing = gf.MLP([3, 8, 1])
    with_preprocessing.preprocessing = fit_preprocessing(FRAME)
    row = FRAME.iloc[0]
    for predict in (network.predict, with_preprocessing.predict):
        with refused("x holds single values by name, but must hold columns: for one row, pass lists of one value"):
            predict(dict(row))
        with refused("x is a list of rows by name; convert it to a table: pandas.DataFrame(x)"):
            predict([dict(row)])
        with refused("if it is a row, pass pandas.DataFrame([x])"):
            predict(row)
        for table in (pd.DataFrame([row]), pd.DataFrame([dict(row)])):
            assert predict(table).shape == (1, 1)


@pytest.mark.parametrize("sparse", [scipy.sparse.csr_matrix, scipy.sparse.coo_array])
def test_sparse_matrices_are_refused_with_what_makes_them_dense(sparse: Callable[[np.ndarray], Any]) -> None:
    x, y = sparse(X), sparse(Y[:, None])
    network = gf.MLP([3, 8, 1])
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam())
    for refuse in (
        lambda: trainer.fit(x, Y, epochs=1),
        lambda: trainer.evaluate(x, Y),
        lambda: network.predict(x),
        lambda: fit_preprocessing(x),
        lambda: fit_preprocessing(FRAME).transform(x),
        lambda: gf.data.Arrays(x, Y),
        lambda: trainer.fit(gf.data.Batches([(x, Y)]), epochs=1),
        lambda: gf.check_gradients(network, "binary_cross_entropy", x, Y),
    ):
        with pytest.raises(gf.DataError, match=r"is a sparse matrix, but a network needs a dense one: .*\.toarray\(\)"):
            refuse()
    for refuse in (lambda: trainer.fit(X, y, epochs=1), lambda: gf.data.Arrays(X, y), lambda: trainer.evaluate(X, y)):
        with refused("y is a sparse matrix, but a network needs a dense one: pass y.toarray()"):
            refuse()


class Bfloat16:
    """A column like a torch tensor in bfloat16."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError("Got unsupported ScalarType BFloat16")


def test_objects_that_are_not_arrays_are_refused() -> None:
    for refuse in (
        lambda: trained(Bfloat16()),
        lambda: trained(X, Bfloat16()),
        lambda: gf.data.Arrays(Bfloat16(), Y),
        lambda: fit_preprocessing(Bfloat16()),
        lambda: fit_preprocessing({"a": Bfloat16()}),
        lambda: gf.MLP([3, 1]).predict(Bfloat16()),
    ):
        with refused("Got unsupported ScalarType BFloat16"):
            refuse()


def test_a_table_without_columns_is_refused() -> None:
    for x in (FRAME[[]], {}, pl.DataFrame()):
        with refused("x must have 3 features, as the network's first layer expects, got 0"):
            gf.MLP([3, 1]).predict(x)
        with refused("x has no rows or no columns; at least 1 is needed"):
            fit_preprocessing(x)


def test_a_run_is_resumed_with_a_network_that_knows_its_columns(tmp_path: Path) -> None:
    trained(FRAME, output=tmp_path, checkpoint=gf.Checkpoint())
    network = gf.load(tmp_path / "model.safetensors")
    assert network.feature_names == tuple(NAMES)
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam(0.01))
    assert trainer.fit(FRAME, Y, epochs=3, resume=tmp_path).epochs == 3


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_know_the_columns(twin: Callable[[gf.Sequential], gf.Sequential]) -> None:
    network = trained(FRAME).network
    np.testing.assert_array_equal(twin(network).predict(OTHER_ORDER), network.predict(FRAME))


def test_labels_are_no_properties() -> None:
    """Pandas makes labels available as attributes: a row named "type" is not the type of a column."""
    labels = ["type", "nnz", "toarray", "to_pylist", "to_frame", "columns", "column_names", "dtype", "collect"]
    codes = pd.Series(pd.Categorical(np.arange(len(labels)) % 3), index=labels)
    assert fit_preprocessing({"code": codes}).output_names == ["code = 0", "code = 1", "code = 2"]
    frame = pd.DataFrame({label: X[:, place % 3] for place, label in enumerate(labels)})
    assert fit_preprocessing(frame).names == tuple(labels)
    network = gf.MLP([len(labels), 1])
    np.testing.assert_array_equal(network.predict(frame), network.predict(frame.to_numpy()))
