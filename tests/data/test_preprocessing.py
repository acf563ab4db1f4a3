"""Preprocessing: the values it learns in one pass, its handling of columns, and that it stays with its network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.data import (
    Batches,
    OneHot,
    Preprocessing,
    RobustScale,
    SmoothClip,
    Standardize,
    Unchanged,
    fit_preprocessing,
)
from gradflow.storage import checksum

RNG = np.random.default_rng(0)
NUMBERS = np.column_stack([RNG.normal(5, 3, 200), RNG.lognormal(size=200), RNG.normal(1e6, 1e-2, 200)])
CITY = np.array(["Rome", "Oslo", "Bern", None], object)[RNG.integers(0, 4, 200)]
COLUMNS = {"age": NUMBERS[:, 0], "income": NUMBERS[:, 1], "city": CITY, "unit": np.full(200, 7.0)}
RULES = {"income": RobustScale(), "city": OneHot(missing="mark")}


def in_pieces(x: np.ndarray, sizes: list[int]) -> Batches:
    ends = np.cumsum(sizes)[:-1]
    return Batches(lambda: zip(np.split(x, ends), np.split(np.zeros(len(x)), ends), strict=True))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_one_pass_over_a_stream_gives_the_statistics_of_the_whole(sizes: list[int]) -> None:
    x = NUMBERS[: sum(sizes)] if sum(sizes) <= 200 else np.tile(NUMBERS, (2, 1))[: sum(sizes)]
    if len(x) < 2:
        return
    streamed = fit_preprocessing(in_pieces(x, sizes), {1: RobustScale()})
    scales = np.array([[column.center, column.scale] for column in streamed.columns])  # type: ignore[union-attr]
    assert_allclose(scales[[0, 2], 0], x[:, [0, 2]].mean(axis=0), rtol=1e-14)
    # The third column's standard deviation is 1e-8 of its mean: the textbook formula, a difference of squares, would
    # lose it.
    assert_allclose(scales[[0, 2], 1], x[:, [0, 2]].std(axis=0), rtol=1e-6)
    low, median, high = np.quantile(x[:, 1], [0.25, 0.5, 0.75])
    assert_allclose(scales[1], [median, high - low if high > low else x[:, 1].std()], rtol=1e-12)


@given(st.lists(st.integers(100, 5000), min_size=1, max_size=40), st.sampled_from([300, 4096, 80_000]))
def test_the_blocks_of_a_source_make_no_difference_in_any_bit(sizes: list[int], rows: int) -> None:
    x = np.random.default_rng(rows).lognormal(10, 2, (rows, 3))
    x[::7, :2] = np.nan
    days = np.datetime64("2024-01-01T00:00", "m") + np.arange(rows) % 1000
    table = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "day": days}
    rules = {"a": Standardize(missing="fill"), "b": RobustScale(missing="mark"), "day": gf.data.Dates()}
    ends = np.cumsum(np.resize(sizes, rows))
    cuts = [0, *ends[ends < rows].tolist(), rows]

    def pieces() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        for start, stop in pairwise(cuts):
            yield {name: column[start:stop] for name, column in table.items()}, np.zeros(stop - start)

    assert fit_preprocessing(Batches(pieces), rules) == fit_preprocessing(table, rules)


def test_columns_become_inputs() -> None:
    preprocessing = fit_preprocessing(COLUMNS, RULES)
    x = preprocessing.transform(COLUMNS)
    assert preprocessing.output_names == [
        "age",
        "income",
        "city = Bern",
        "city = Oslo",
        "city = Rome",
        "city is missing",
    ]
    assert preprocessing.n_out == 6 == x.shape[1]
    assert preprocessing.constant_columns == ["unit"]
    assert_allclose(x[:, 0].mean(), 0, atol=1e-14)
    assert_allclose(x[:, 0].std(), 1, rtol=1e-14)
    assert_allclose(np.quantile(x[:, 1], [0.25, 0.5, 0.75])[[1]], 0, atol=1e-15)
    assert_allclose(np.subtract(*np.quantile(x[:, 1], [0.75, 0.25])), 1, rtol=1e-14)
    assert_array_equal(x[:, 2:], np.stack([city == CITY for city in ("Bern", "Oslo", "Rome", None)], axis=1))


def test_missing_numbers_are_filled_or_marked() -> None:
    x = np.array([[1.0, 1], [np.nan, 2], [5, np.nan]])
    filled = fit_preprocessing(x, {0: Standardize(missing="fill"), 1: RobustScale(missing="mark")})
    assert filled.output_names == ["0", "1", "1 is missing"]
    assert_allclose(filled.transform(x), [[-1, -1, 0], [0, 1, 0], [1, 0, 1]])
    as_objects = np.array([[1, "1"], [None, 2], [5.0, None]], object)
    assert_array_equal(filled.transform(as_objects), filled.transform(x))
    for rule in (Standardize(), RobustScale(), Unchanged()):
        with pytest.raises(gf.DataError, match="column '0' has no value in row 1"):
            fit_preprocessing(x, {0: rule})
    complete = fit_preprocessing(x[:1] * [[1], [2]])
    with pytest.raises(gf.DataError, match="column '1' has no value in row 2"):
        complete.transform(x[[0, 0, 2]])
    assert_array_equal(fit_preprocessing(x[[0, 2]], {0: Unchanged(), 1: Standardize("fill")}).transform(x[:1]), [[1]])


def test_columns_with_half_of_the_values_equal_are_scaled_by_their_std() -> None:
    x = np.array([[0.0], [0], [0], [0], [10]])
    assert_allclose(fit_preprocessing(x, {0: RobustScale()}).transform(x).max(), 10 / 4)


def test_smooth_clip_is_that_of_realmlp() -> None:
    x = np.array([[0.0], [1], [2], [3], [1e300]])
    low, median, high = np.quantile(x, [0.25, 0.5, 0.75])
    y = (x - median) / (high - low)
    with np.errstate(over="ignore"):
        expected = np.append((y / np.sqrt(1 + (y / 3) ** 2))[:4], 3)[:, None]
    fitted = fit_preprocessing(x, {0: SmoothClip()})
    assert_allclose(fitted.transform(x), expected, rtol=1e-14)
    assert Preprocessing.from_config(json.loads(json.dumps(fitted.config()))) == fitted
    assert fit_preprocessing(in_pieces(x, [2, 3]), {0: SmoothClip()}) == fitted
    # Half of the values are equal: the scale is half the range, 5, and not the interquartile range of 0.
    rare = fit_preprocessing(np.array([[0.0], [0], [0], [0], [10]]), {0: SmoothClip(limit=1.0)})
    assert_allclose(rare.transform(np.array([[10.0], [0]])), [[2 / np.sqrt(5)], [0]], rtol=1e-14)
    gap = fit_preprocessing(np.array([[1.0, 4], [2, 5], [np.nan, 4]]), {0: SmoothClip("mark"), 1: SmoothClip()})
    assert gap.output_names == ["0", "1", "0 is missing"]
    assert gap.n_numbers == 2
    assert gap.transform(np.array([[np.nan, 4.0]])).tolist()[0] == [0, 0, 1]
    with pytest.raises(gf.DataError, match="all columns are constant"):
        fit_preprocessing(np.ones((3, 1)), {0: SmoothClip()})
    with pytest.raises(gf.DataError, match="limit must be"):
        SmoothClip(limit=0)


def test_quantiles_of_many_rows_come_from_a_sample() -> None:
    rows = 200_000
    numbers = np.arange(rows)[:, None] / rows
    robust = fit_preprocessing(in_pieces(numbers, [rows // 10] * 10), {0: RobustScale()}).columns[0]
    # Five standard errors of the rank: 0.2 % each for the median and for the difference of the quartiles.
    assert abs(robust.center - 0.5) < 0.01  # type: ignore[union-attr]
    assert abs(robust.scale - 0.5) < 0.01  # type: ignore[union-attr]


def test_categories_that_are_unknown_are_refused_or_zeros() -> None:
    words = np.array([["a"], ["b"]])
    for values, unknown, shown in ((words, "c", "'c'"), (np.array([[1.0], [3]]), 2.0, "2")):
        column = np.array([values[0], [unknown]])
        with pytest.raises(gf.DataError, match=re.escape(f"column '0' holds {shown} in row 1, a category that")):
            fit_preprocessing(values, {0: OneHot()}).transform(column)
        assert_array_equal(fit_preprocessing(values, {0: OneHot(unknown="zeros")}).transform(column), [[1, 0], [0, 0]])
    with pytest.raises(gf.DataError, match="column '0' holds numbers, but 'x' in row 0"):
        fit_preprocessing(np.array([[1.0], [3]]), {0: OneHot()}).transform(np.array([["x"]]))
    gone = np.array([["a"], [None], ["b"]], object)
    with pytest.raises(gf.DataError, match="column '0' has no value in row 1"):
        fit_preprocessing(gone)
    assert_array_equal(fit_preprocessing(gone, text=OneHot(missing="fill")).transform(gone), [[1, 0], [0, 0], [0, 1]])
    with pytest.raises(gf.DataError, match="column '0' has more than 10 categories"):
        fit_preprocessing(np.arange(11)[:, None], {0: OneHot(most=10)})


def test_two_categories_are_one_input_as_signs() -> None:
    rule = OneHot("fill", "zeros", signs=True)
    table = {"a": np.array(["x", "y", None, "x"], object), "b": np.array([1.0, 2, 3, np.nan])}
    fitted = fit_preprocessing(table, {"a": rule, "b": rule})
    assert fitted.output_names == ["a = y", "b = 1", "b = 2", "b = 3"]
    assert fitted.widths == [1, 3]
    assert_array_equal(fitted.transform(table), [[-1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1], [-1, 0, 0, 0]])
    assert_array_equal(fitted.transform({"a": ["z"], "b": [7]}), [[0, 0, 0, 0]])
    marked = fit_preprocessing({"a": table["a"]}, {"a": OneHot("mark", signs=True)})
    assert marked.output_names == ["a = y", "a is missing"]
    assert_array_equal(marked.transform({"a": table["a"]}), [[-1, 0], [1, 0], [0, 1], [-1, 0]])
    assert Preprocessing.from_config(json.loads(json.dumps(marked.config()))) == marked


@given(st.lists(st.sampled_from("aabcd") | st.none(), min_size=2, max_size=60), st.booleans())
def test_clipped_categories_are_those_that_numbers_would_give(given_values: list[str | None], signs: bool) -> None:
    column = {"a": np.array([*given_values, "a", "b"], object)}
    plain = fit_preprocessing(column, {"a": OneHot("fill", signs=signs)}).transform(column)
    clipped = fit_preprocessing(column, {"a": OneHot("fill", signs=signs, clip=3.0)})
    as_numbers = fit_preprocessing(plain, numbers=SmoothClip(limit=3.0)).transform(plain)
    assert_allclose(clipped.transform(column), as_numbers, rtol=1e-14, atol=1e-15)
    assert Preprocessing.from_config(json.loads(json.dumps(clipped.config()))) == clipped


def test_an_indicator_that_training_never_saw_keeps_its_scale() -> None:
    fitted = fit_preprocessing({"a": ["x", "y", "y"]}, {"a": OneHot("mark", clip=1.0)})
    assert_allclose(fitted.transform({"a": [None, "x"]})[:, -1], [np.sqrt(0.5), 0], rtol=1e-15)


def test_columns_of_many_categories_get_another_rule() -> None:
    rule = OneHot("fill", "zeros", most=2, otherwise=gf.Embedding(8, min_rows=1, missing="fill"))
    table = {"few": ["x", "y", "x"], "many": ["a", "b", "c"]}
    fitted = fit_preprocessing(table, text=rule)
    assert fitted.output_names == ["few = x", "few = y", "many"]
    assert fitted.tables == ((4, 8),)
    assert_array_equal(fitted.transform(table), [[1, 0, 1], [0, 1, 2], [1, 0, 3]])
    rules = {"many": gf.Embedding(8, min_rows=1, missing="fill")}
    alone = fit_preprocessing(table, rules, text=OneHot("fill", "zeros"))
    assert alone == fitted
    expected = "OneHot(missing='fill', unknown='zeros', most=2, otherwise=Embedding(size=8, min_rows=1, missing='fill'"
    assert repr(rule).startswith(expected)
    with pytest.raises(gf.DataError, match="column 'many' has more than 2 categories"):
        fit_preprocessing(table, text=OneHot(most=1, otherwise=gf.Embedding(most=2)))
    with pytest.raises(gf.DataError, match="otherwise must accept missing values if and only if this rule does"):
        OneHot("fill", otherwise=gf.Embedding())


@pytest.mark.parametrize(
    ("data", "rules", "message"),
    [
        (np.ones((3, 2)), {}, "all columns are constant"),
        (np.array([[1.0], [np.inf]]), {}, "column '0' holds infinity in row 1"),
        (np.ones((3, 2)), {2: Standardize()}, "unknown column '2'"),
        (
            np.ones((3, 2)),
            {0: "standardize"},
            "rule of column '0' must be an object such as gradflow.data.Standardize()",
        ),
        (np.ones((3, 2)), {0: Standardize}, "got the class Standardize; create an object: Standardize(...)"),
        (np.ones((3, 2)), Standardize(), "numbers=, text= and times= set the rules of all other columns"),
        (np.ones(3), {}, "x must have shape (rows, columns)"),
        (np.ones((0, 2)), {}, "x has no rows or no columns"),
        ([[1, 2], [3]], {}, "x is not a rectangular array"),
        ({"a": np.ones(3), "b": np.ones(2)}, {}, "columns must have shape (rows,), got [(3,), (2,)]"),
        ({"a": np.array(["x", "y"])}, {"a": Standardize()}, "column 'a' holds numbers, but 'x' in row 0"),
        (np.full((2, 1), None), {0: OneHot(missing="fill")}, "column '0' has no value in any row"),
    ],
)
def test_data_that_does_not_fit_is_refused(data: Any, rules: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=re.escape(message)):
        fit_preprocessing(data, rules)


def test_bad_settings_are_refused() -> None:
    for make, message in (
        (lambda: Standardize("drop"), "unknown missing 'drop'"),
        (lambda: OneHot(unknown="drop"), "unknown unknown 'drop'"),
        (lambda: OneHot(most=0), "most must be at least 1"),
        (lambda: OneHot(clip=0), "clip must be"),
        (lambda: OneHot(signs=1), "signs must be"),  # type: ignore[arg-type]
        (lambda: OneHot(otherwise=OneHot()), "otherwise must be a gradflow.Embedding"),  # type: ignore[arg-type]
    ):
        with pytest.raises(gf.DataError, match=message):
            make()
    network = gf.MLP([3, 2])
    with pytest.raises(gf.DataError, match="creates 6 inputs, but the first layer has 3"):
        network.preprocessing = fit_preprocessing(COLUMNS, RULES)
    with pytest.raises(gf.DataError, match=r"must be what gradflow\.data\.fit_preprocessing returns"):
        network.preprocessing = Standardize()  # type: ignore[assignment]


def trained(backend_name: str) -> gf.Sequential:
    preprocessing = fit_preprocessing(COLUMNS, RULES)
    network = gf.MLP([preprocessing.n_out, 8, 1], backend=backend_name)
    network.preprocessing = preprocessing
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam())
    history = trainer.fit(COLUMNS, NUMBERS[:, 1], epochs=2, validation_data=(COLUMNS, NUMBERS[:, 1]))
    assert trainer.evaluate(COLUMNS, NUMBERS[:, 1])["loss"] == history["val_loss"][-1]
    return network


def test_it_is_saved_and_copied_with_the_network(backend_name: str, tmp_path: Path) -> None:
    network = trained(backend_name)
    expected = network.predict(COLUMNS)
    gf.save(network, tmp_path / "model.safetensors")
    for other in (network.copy(), gf.load(tmp_path / "model.safetensors", backend=backend_name)):
        assert other.preprocessing == network.preprocessing
        assert other.predict(COLUMNS).tobytes() == expected.tobytes()
    as_array = np.stack([column.astype(object) for column in COLUMNS.values()], axis=1)
    assert network.predict(as_array).tobytes() == expected.tobytes()
    assert network.predict(COLUMNS | {"more": CITY}).tobytes() == expected.tobytes()
    assert gf.inspect.dead_units(network, COLUMNS)
    assert max(gf.check_gradients(network, "mean_squared_error", COLUMNS, NUMBERS[:, 1]).values()) < 1e-4
    with pytest.raises(gf.DataError, match="columns 'city', 'unit' are missing from x; it has age, income"):
        network.predict({"age": CITY, "income": CITY})
    with pytest.raises(gf.DataError, match=r"x must have shape \(rows, 4\), as the preprocessing expects"):
        network.predict(NUMBERS[:2])


def test_tables_of_pandas_and_pyarrow_are_columns_by_name() -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    preprocessing = fit_preprocessing(COLUMNS, RULES)
    expected = preprocessing.transform(COLUMNS)
    for table in (pandas.DataFrame(COLUMNS), pyarrow.table(COLUMNS)):
        assert fit_preprocessing(table, RULES) == preprocessing
        assert_array_equal(preprocessing.transform(table), expected)


def test_a_file_is_trained_on_and_predicted_from(backend_name: str, tmp_path: Path) -> None:
    lines = [
        "age,city,y",
        *(f"{age!r},{city or ''},{age > 5:d}" for age, city in zip(NUMBERS[:, 0], CITY, strict=True)),
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines).replace("np.float64(", "").replace(")", ""))
    source = gf.data.CSV(tmp_path / "rows.csv", target="y", block_rows=64)
    network = gf.MLP([5, 8, 1], backend=backend_name, seed=1)
    network.preprocessing = fit_preprocessing(source, {"city": OneHot(missing="mark")})
    trainer = gf.Trainer(network, "binary_cross_entropy", gf.Adam(0.01))
    trainer.fit(source, epochs=30, batch_size=16)
    assert trainer.evaluate(source)["accuracy"] > 0.95
    table = {"age": NUMBERS[:, 0], "city": CITY}
    assert np.mean(network.predict_classes(table) == (NUMBERS[:, 0] > 5)) > 0.95
    (tmp_path / "bad.csv").write_text("age,city,y\n1.5,Rome,1\n2.5,Paris,0\n")
    bad = gf.data.CSV(tmp_path / "bad.csv", target="y")
    with pytest.raises(gf.DataError, match=r"bad\.csv, lines 2 to 3: column 'city' holds 'Paris' in line 3"):
        trainer.evaluate(bad)
    with pytest.raises(gf.DataError, match=r"rows\.csv: column 'city' has no value in line \d+"):
        fit_preprocessing(source)


@pytest.mark.gpu
def test_cupy_in_gives_cupy_out() -> None:
    import cupy

    network = gf.MLP([3, 4, 1], backend="cupy")
    network.preprocessing = fit_preprocessing(NUMBERS)
    predictions = network.predict(cupy.asarray(NUMBERS))
    assert isinstance(predictions, cupy.ndarray)
    assert_array_equal(predictions.get(), network.predict(NUMBERS))


@pytest.mark.parametrize(
    "damage",
    [
        {"names": ["a"]},
        {"names": ["a", "a", "b", "c"]},
        {"columns": [{"kind": "other"}]},
        {"columns": [{"kind": "number", "center": 0.0, "scale": -1.0}] * 4},
        {"columns": [{"kind": "number", "center": "0", "scale": 1.0}] * 4},
        {"columns": [{"kind": "category", "categories": ["b", "a"]}] * 4},
        {"columns": [{"kind": "category", "categories": ["b", 1]}] * 4},
        {"columns": 3},
        {"columns": [3]},
    ],
    ids=str,
)
def test_damaged_descriptions_are_refused(damage: dict[str, Any], tmp_path: Path) -> None:
    network = trained("numpy")
    path = tmp_path / "model.safetensors"
    gf.save(network, path)
    assert network.preprocessing is not None
    config = network.preprocessing.config()
    assert Preprocessing.from_config(json.loads(json.dumps(config))) == network.preprocessing
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    model = json.loads(header["__metadata__"]["gradflow"])
    model["network"]["preprocessing"] = config | damage
    model["checksum"] = checksum(network.get_weights(), json.dumps(model["network"]))
    header["__metadata__"]["gradflow"] = json.dumps(model)
    damaged = json.dumps(header).encode()
    path.write_bytes(len(damaged).to_bytes(8, "little") + damaged + content[8 + length :])
    with pytest.raises(gf.FileFormatError, match="the description of the network is damaged"):
        gf.load(path)
