"""Rows held out for validation: which ones, from every kind of source, and training on both parts."""

from __future__ import annotations

import copy
import csv as csv_module
import datetime
import pickle
import re
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow.data.columns import NumberColumn
from gradflow.data.sources import Block, Source
from gradflow.data.streams import Stream
from gradflow.data.where import Where

ROWS = 230
RNG = np.random.default_rng(0)
X = np.column_stack([np.arange(ROWS), RNG.normal(size=(ROWS, 2))])
Y = RNG.integers(0, 3, ROWS)
GROUPS = [f"patient {number}" for number in RNG.integers(0, 25, ROWS)]
DAYS = RNG.integers(0, 60, ROWS)
TIMES = [datetime.datetime(2024, 1, 1) + datetime.timedelta(days=int(day)) for day in DAYS]
TABLE = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": Y, "group": GROUPS, "time": TIMES})
FEATURES = ["a", "b", "c"]


def parquet(folder: Path, block_rows: int = 50) -> Source:
    table = pyarrow.Table.from_pandas(TABLE)
    (folder / "parquet").mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table[:150], folder / "parquet" / "1.parquet", row_group_size=60)
    pyarrow.parquet.write_table(table[150:], folder / "parquet" / "2.parquet", row_group_size=60)
    return gf.data.Parquet(folder / "parquet", target="y", features=FEATURES, block_rows=block_rows)


def arrow(folder: Path, block_rows: int = 50) -> Source:
    table = pyarrow.Table.from_pandas(TABLE)
    with pyarrow.ipc.new_file(folder / "rows.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=60)
    return gf.data.Arrow(folder / "rows.arrow", features=FEATURES, target="y", block_rows=block_rows)


def csv(folder: Path, block_rows: int = 50) -> Source:
    TABLE.to_csv(folder / "rows.csv", index=False)
    return gf.data.CSV(folder / "rows.csv", target="y", features=FEATURES, block_rows=block_rows)


def iterable(folder: Path, block_rows: int = 50) -> Source:
    starts = range(0, ROWS, 27)
    parts = [(TABLE[start : start + 27].drop(columns="y"), Y[start : start + 27]) for start in starts]
    return gf.data.Batches(lambda: iter(parts), block_rows=block_rows)


def arrays(folder: Path, block_rows: int = 50) -> Source:
    return gf.data.Arrays(TABLE.drop(columns="y"), Y)


KINDS = {make.__name__: make for make in (parquet, arrow, csv, iterable, arrays)}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
WAYS: dict[str, dict[str, Any]] = {
    "at random": {},
    "by seed": {"seed": 2**64 - 1, "validation_fraction": 0.33},
    "stratified": {"stratify": True},
    "stratified by a column": {"stratify": "group", "validation_fraction": 0.5},
    "by group": {"group": "group"},
    "by time": {"time": "time"},
    "by values": {"group": RNG.integers(0, 9, ROWS)},
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def rows_of(source: Source) -> list[int]:
    blocks = [block.x for block in source.blocks()]
    return [int(row) for x in blocks for row in (x[:, 0] if isinstance(x, np.ndarray) else x.columns[0])]


def expected_rows(way: dict[str, Any]) -> tuple[list[int], list[int]]:
    (training, _), (validation, _) = gf.data.split(TABLE, Y, **way)
    return training["a"].astype(int).tolist(), validation["a"].astype(int).tolist()


def refused(message: str) -> Any:
    return pytest.raises(gf.DataError, match=re.escape(message))


# -- which rows -------------------------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.floats(1e-9, 1, exclude_max=True), st.integers(0, 2**64 - 1))
def test_the_number_of_rows_is_exact(rows: int, fraction: float, seed: int) -> None:
    x = np.arange(rows)
    (training, _), (validation, _) = gf.data.split(x, x, validation_fraction=fraction, seed=seed)
    assert abs(len(validation) - fraction * rows) <= 0.5 + 1e-9 * rows or len(validation) in (1, rows - 1)
    assert np.sort(np.concatenate([training, validation])).tolist() == x.tolist()
    assert 0 < len(validation) < rows
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    again = gf.data.split(x, x, validation_fraction=fraction, seed=seed)[1][0]
    assert again.tolist() == validation.tolist()


def test_seeds_choose_other_rows_and_all_rows_are_chosen_alike() -> None:
    x = np.arange(50)
    chosen = [gf.data.split(x, x, seed=seed)[1][0] for seed in range(400)]
    assert len({tuple(rows) for rows in chosen}) == 400
    counts = np.bincount(np.concatenate(chosen), minlength=50)
    assert counts.min() > 50
    assert counts.max() < 110  # 80 expected, with a standard deviation of 8


@given(
    st.lists(st.integers(2, 40), min_size=1, max_size=12),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)
def test_classes_are_held_out_in_proportion(sizes: list[int], fraction: float, seed: int, random: Any) -> None:
    labels = [f"class {number}" for number, size in enumerate(sizes) for _ in range(size)]
    random.shuffle(labels)
    rows = len(labels)
    training, validation = gf.data.split(labels, labels, stratify=True, validation_fraction=fraction, seed=seed)
    held_out = len(validation[0])
    assert abs(held_out - fraction * rows) <= 0.5 + 1e-9 or held_out in (1, rows - 1)
    counts = [validation[1].count(f"class {number}") for number in range(len(sizes))]
    for size, count in zip(sizes, counts, strict=True):
        assert abs(count - held_out * size / rows) < 1
    rounded_down = [held_out * size // rows for size in sizes]
    assert counts.count(0) == max(0, rounded_down.count(0) - (held_out - sum(rounded_down)))
    assert sorted(training[1] + validation[1]) == sorted(labels)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
)
def test_groups_stay_together_and_come_near_the_fraction(sizes: list[int], fraction: float, seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    RNG.shuffle(groups)
    rows = len(groups)
    (training, _), (validation, _) = gf.data.split(
        groups, groups, group=groups, validation_fraction=fraction, seed=seed
    )
    assert 0 < len(validation) < rows
    assert not set(training) & set(validation)
    assert len(training) + len(validation) == rows
    wanted = min(max(int(fraction * rows + 0.5), 1), rows - 1)
    held_out = set(validation.tolist())
    error = abs(len(validation) - wanted)
    for inside in held_out:
        for outside in set(range(len(sizes))) - held_out:
            assert abs(len(validation) - sizes[inside] + sizes[outside] - wanted) >= error
    smallest = min(size for number, size in enumerate(sizes) if number not in held_out)
    if len(sizes) - len(held_out) > 1 and len(validation) < wanted:
        assert abs(len(validation) + smallest - wanted) >= error


@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_the_latest_rows_are_held_out(times: list[int], fraction: float) -> None:
    if len(set(times)) == 1:
        with refused("column 'time' has the same time in all rows; there must be at least 2 times"):
            gf.data.split(times, times, time=times)
        return
    (training, _), (validation, _) = gf.data.split(times, times, time=times, validation_fraction=fraction)
    assert max(training) < min(validation)
    assert sorted(training + validation) == sorted(times)
    wanted = min(max(int(fraction * len(times) + 0.5), 1), len(times) - 1)
    cuts = [sum(time >= first for time in times) for first in sorted(set(times))[1:]]
    assert abs(len(validation) - wanted) == min(abs(cut - wanted) for cut in cuts)


@pytest.mark.parametrize(
    "times",
    [
        np.array(["2024-03-01", "2023-05-05", "2024-01-01", "2024-02-29"], "datetime64[D]"),
        pandas.Series(pandas.to_datetime(["2024-03-01", "2023-05-05", "2024-01-01", "2024-02-29"], utc=True)),
        polars.Series([datetime.date(*day) for day in ((2024, 3, 1), (2023, 5, 5), (2024, 1, 1), (2024, 2, 29))]),
        ["2024-03-01", "2023-05-05T12:00", "2024-01-01 00:00:00.5", "20240229"],
        ["2024-03-01T00:30+05:00", "2023-05-05T12:00Z", "2024-01-01T00:00Z", "2024-02-29T19:29Z"],
        [5.5, -1, 3, 5],
        pyarrow.array([5, 1, 2, 3], pyarrow.timestamp("ns")),
    ],
    ids=["numpy", "pandas", "polars", "text", "time zones", "numbers", "pyarrow"],
)  # fmt: skip
def test_times_of_all_kinds_are_compared(times: Any) -> None:
    x = np.arange(4)
    for fraction, expected in ((0.25, [0]), (0.5, [0, 3]), (0.75, [0, 2, 3])):
        assert gf.data.split(x, x, time=times, validation_fraction=fraction)[1][0].tolist() == expected


# -- sources ----------------------------------------------------------------------------------------------------------


@kinds
@ways
def test_every_source_is_split_alike_however_it_is_read(
    make: Callable[..., Source], way: dict[str, Any], tmp_path: Path
) -> None:
    training, validation = expected_rows(way)
    assert sorted(training + validation) == list(range(ROWS))
    for block_rows in (7, 50, 1000):
        parts = make(tmp_path, block_rows).split(**way)
        assert [rows_of(part) for part in parts] == [training, validation]
        assert [len(part) for part in parts] == [len(training), len(validation)]


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=8).filter(lambda pieces: sum(pieces) > 1),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 3),
)
def test_any_cut_into_pieces_gives_the_same_rows(
    pieces: list[int], block_rows: int, batch_size: int, skipped: int
) -> None:
    x = np.arange(sum(pieces))
    parts = np.split(x[:, None], np.cumsum(pieces)[:-1])
    source = gf.data.Batches([(part, part[:, 0]) for part in parts], block_rows=block_rows)
    for part, (rows, _) in zip(source.split(seed=7), gf.data.split(x, x, seed=7), strict=True):
        alone = gf.data.Batches([(rows[:, None], rows)], block_rows=block_rows)
        first = min(skipped * batch_size, (len(rows) - 1) // batch_size * batch_size)
        given: dict[str, Any] = {
            "rows": len(rows),
            "batch_size": batch_size,
            "first": first,
            "seed": 3,
            "epochs": [0, 1],
        }
        batches, expected = (
            [block_y.tolist() for _, block_y in of.batches(lambda block: (block.x, block.y), **given)]
            for of in (part, alone)
        )
        assert batches == expected


@kinds
@pytest.mark.parametrize("seed", [None, 4])
def test_an_epoch_has_each_row_of_its_part_once(make: Callable[..., Source], seed: int | None, tmp_path: Path) -> None:
    training, _ = make(tmp_path).split(stratify=True)

    def convert(block: Block) -> tuple[np.ndarray, ...]:
        assert not isinstance(block.x, np.ndarray)
        return block.x[: len(block)].columns[0], block.y

    given: dict[str, Any] = {"rows": len(training), "batch_size": 32, "seed": seed}
    batches = list(training.batches(convert, first=0, epochs=[1, 2], **given))
    rows, y = (np.concatenate(parts).astype(int) for parts in zip(*batches, strict=True))
    expected = expected_rows({"stratify": True})[0]
    epochs = np.split(rows, 2)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == expected
    assert (epochs[0].tolist() == epochs[1].tolist() == expected) == (seed is None)
    np.testing.assert_array_equal(y, Y[rows])
    later = list(training.batches(convert, first=64, epochs=[1], **given))
    assert np.concatenate([batch[0] for batch in later]).tolist() == epochs[0][64:].tolist()


def trained(x: Any, y: Any = None, **arguments: Any) -> tuple[bytes, list[float]]:
    network = gf.MLP([3, 8, 3], seed=2)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01))
    history = trainer.fit(x, y, **{"epochs": 2, "batch_size": 16} | arguments)
    return network.backend.to_host(network.parameters).tobytes(), history["loss"]


def same_rows(folder: Path, kind: str, rows: list[int]) -> Source:
    """Return a source of the same kind that holds only these rows, with the row groups as far as they are left."""
    table, groups = (
        TABLE.iloc[rows].drop(columns=["group", "time"]),
        np.searchsorted([60, 120, 150, 210], rows, "right"),
    )
    if kind == "csv":
        table.to_csv(folder / "same.csv", index=False)
        return gf.data.CSV(folder / "same.csv", target="y", block_rows=50)
    if kind == "arrow":
        groups = np.array(rows) // 60
        schema = pyarrow.Schema.from_pandas(table, preserve_index=False)
        with pyarrow.ipc.new_file(folder / "same.arrow", schema) as file:
            for group in np.unique(groups):
                file.write_table(pyarrow.Table.from_pandas(table[groups == group], schema))
        return gf.data.Arrow(folder / "same.arrow", target="y", block_rows=50)
    if kind == "parquet":
        schema = pyarrow.Schema.from_pandas(table, preserve_index=False)
        with pyarrow.parquet.ParquetWriter(folder / "same.parquet", schema) as file:
            for group in np.unique(groups):
                file.write_table(pyarrow.Table.from_pandas(table[groups == group], schema))
        return gf.data.Parquet(folder / "same.parquet", target="y", block_rows=50)
    if kind == "iterable":
        return gf.data.Batches([(table[FEATURES], table["y"])], block_rows=50)
    return gf.data.Arrays(table[FEATURES], table["y"])


@pytest.mark.parametrize("kind", KINDS)
def test_training_gives_the_bits_of_a_source_with_these_rows_alone(kind: str, tmp_path: Path) -> None:
    source = KINDS[kind](tmp_path)
    if kind in ("iterable", "arrays"):
        table = TABLE[FEATURES]
        source = gf.data.Batches([(table, Y)], block_rows=50) if kind == "iterable" else gf.data.Arrays(table, Y)
    way = {"group": TABLE["group"]}
    training, validation = source.split(**way)
    rows = expected_rows(way)
    alone = same_rows(tmp_path, kind, rows[0])
    held_out = TABLE.iloc[rows[1]]
    expected = trained(alone, validation_data=(held_out[FEATURES], held_out["y"]))
    assert trained(training, validation_data=validation) == expected
    if kind == "arrays":
        (x, y), pair = gf.data.split(table, Y, **way)
        assert trained(x, y, validation_data=pair) == expected


def without_times(make: Callable[..., Source], folder: Path) -> Source:
    table = TABLE.drop(columns=["y", "time"])
    if make is arrays:
        return gf.data.Arrays(table, Y)
    if make is iterable:
        return gf.data.Batches([(table[:99], Y[:99]), (table[99:], Y[99:])], block_rows=50)
    return make(folder)


@kinds
def test_a_run_on_a_part_resumes_bit_for_bit(make: Callable[..., Source], tmp_path: Path) -> None:
    class Stop(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(**arguments: Any) -> bytes:
        training, validation = without_times(make, tmp_path).split(stratify="group", seed=3, validation_fraction=0.5)
        preprocessing = gf.data.fit_preprocessing(training)
        network = gf.MLP([preprocessing.n_out, 8, 3], seed=2)
        network.preprocessing = preprocessing
        trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01))
        trainer.fit(
            training, validation_data=validation, epochs=3, batch_size=16, checkpoint=gf.Checkpoint(every_steps=7),
            **arguments
        )  # fmt: skip
        return network.state.tobytes()

    whole = fit(output=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(output=tmp_path / "run", callbacks=[Stop()])
    assert fit(resume=tmp_path / "run") == whole


@kinds
def test_preprocessing_sees_the_training_rows_only(make: Callable[..., Source], tmp_path: Path) -> None:
    training, _ = without_times(make, tmp_path).split(time=TIMES)
    rows, _ = expected_rows({"time": "time"})
    fitted = gf.data.fit_preprocessing(training)
    table = TABLE.iloc[rows][list(fitted.names)]
    assert fitted.output_names == gf.data.fit_preprocessing(table).output_names
    for name, column in zip(fitted.names, fitted.columns, strict=True):
        if isinstance(column, NumberColumn):
            assert column.center == pytest.approx(table[name].mean(), rel=1e-12)


@kinds
def test_parts_are_predicted_and_evaluated(make: Callable[..., Source], tmp_path: Path) -> None:
    _, validation = make(tmp_path).split(stratify=True)
    (_, (x, y)) = gf.data.split(TABLE[FEATURES], Y, stratify=True)
    network = gf.MLP([3, 8, 3], seed=2)
    network.feature_names = FEATURES
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", metrics=["f1", "roc_auc", "log_loss"])
    assert trainer.evaluate(validation) == trainer.evaluate(x, y)
    np.testing.assert_allclose(network.predict(validation), network.predict(x), rtol=1e-5, atol=1e-6)


@kinds
def test_a_part_can_be_split_again(make: Callable[..., Source], tmp_path: Path) -> None:
    rest, test = make(tmp_path).split(group="group")
    training, validation = rest.split(validation_fraction=0.25, stratify=True, seed=1)
    (x, y), (held_out, _) = gf.data.split(TABLE, Y, group="group")
    parts = gf.data.split(x, y, validation_fraction=0.25, stratify=True, seed=1)
    assert [rows_of(part) for part in (training, validation)] == [part[0]["a"].tolist() for part in parts]
    assert rows_of(test) == held_out["a"].tolist()
    by_time = rest.split(time=x["time"])[1]
    assert rows_of(by_time) == gf.data.split(x, y, time="time")[1][0]["a"].tolist()


@pytest.mark.parametrize("make", [parquet, arrow, csv, arrays])
def test_parts_are_pickled_and_copied(make: Callable[..., Source], tmp_path: Path) -> None:
    part = make(tmp_path).split()[1]
    for same in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        assert rows_of(same) == rows_of(part)


def test_a_stream_of_ones_own_can_be_split() -> None:
    class Reordering(Stream):
        reorders = True

        def __len__(self) -> int:
            return ROWS

        def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
            starts = list(range(0, ROWS, 50))
            for start in starts if seed is None else starts[::-1]:
                rows = range(start, min(start + 50, ROWS))
                yield Block(X[start : rows.stop], Y[start : rows.stop], Where(rows), first=start)

    class Plain(Reordering):
        reorders = False

        def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
            assert seed is None, "its blocks may then have no numbers"
            return super().read(seed=None, epoch=epoch)

    expected = expected_rows({})
    for kind in (Reordering, Plain):
        training, validation = kind(50).split()
        assert (rows_of(training), rows_of(validation)) == expected
        batches = training.batches(
            lambda block: (np.asarray(block.x), block.y), rows=len(training), batch_size=64, first=0, seed=1, epochs=[0]
        )
        x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        assert sorted(x[:, 0].astype(int).tolist()) == expected[0]
        np.testing.assert_array_equal(y, Y[x[:, 0].astype(int)])

    class Unnumbered(Plain):
        reorders = True

        def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
            yield Block(X, Y, Where(range(ROWS)))

    with pytest.raises(gf.GradflowError, match="Unnumbered reorders its rows, so each block needs the number of"):
        rows_of(Unnumbered(50).split()[0])

    class Bare(Source):
        def __len__(self) -> int:
            return ROWS

    with pytest.raises(gf.GradflowError, match="Bare cannot be split; a subclass of gradflow"):
        Bare().split()


def test_weights_go_with_their_rows(tmp_path: Path) -> None:
    weight = RNG.integers(1, 4, ROWS).astype(float)
    TABLE[[*FEATURES, "y"]].assign(weight=weight).to_csv(tmp_path / "rows.csv", index=False)
    sources = (
        gf.data.CSV(tmp_path / "rows.csv", target="y", sample_weight="weight"),
        gf.data.Arrays(TABLE[FEATURES], Y, weight),
        gf.data.Batches([(TABLE[FEATURES], Y, weight)]),
    )
    (x, y, of_training), (_, _, of_validation) = gf.data.split(TABLE[FEATURES], Y, weight, stratify=True)
    expected = trained(x, y, sample_weight=of_training, shuffle=False, class_weight="balanced")
    for source in sources:
        training, validation = source.split(stratify=True)
        assert trained(training, shuffle=False, class_weight="balanced") == expected
        weights = [block.sample_weight for block in validation.blocks() if block.sample_weight is not None]
        np.testing.assert_array_equal(np.concatenate(weights), of_validation)


def test_errors_name_the_line_of_the_file(tmp_path: Path) -> None:
    with open(tmp_path / "rows.csv", "w", newline="") as file:
        csv_module.writer(file).writerows([["a", "y"], *([row, row % 2] for row in range(20)), ["", 0]])
    source = gf.data.CSV(tmp_path / "rows.csv", target="y")
    parts = source.split(time=np.arange(21), validation_fraction=0.1)
    with refused("the first (NaN) in line 22, column 'a'"):
        gf.MLP([1, 1]).predict(parts[1])
    assert repr(parts[1]) == f"2 of 21 rows of {source!r}"


# -- in memory --------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize(
    "convert", [lambda table: table, polars.from_pandas, pyarrow.Table.from_pandas, lambda table: table.to_dict("list"),
                lambda table: polars.from_pandas(table).lazy()],
    ids=["pandas", "polars", "pyarrow", "dict", "lazy"],
)  # fmt: skip
def test_tables_keep_their_type(convert: Callable[[Any], Any], way: dict[str, Any]) -> None:
    table = convert(TABLE)
    parts = gf.data.split(table, polars.Series(Y), **way)
    for (x, y), rows in zip(parts, expected_rows(way), strict=True):
        assert type(x) is type(table.collect() if isinstance(table, polars.LazyFrame) else table)
        assert pandas.DataFrame(x.to_pandas() if hasattr(x, "to_pandas") else x)["a"].astype(int).tolist() == rows
        assert isinstance(y, polars.Series)
        assert y.to_list() == Y[rows].tolist()


def test_columns_keep_their_type() -> None:
    for y in (Y.tolist(), pandas.Series(Y), pyarrow.array(Y), pyarrow.chunked_array([Y[:99], Y[99:]])):
        (_, training), (_, validation) = gf.data.split(X, y, stratify=True)
        assert type(training) is type(validation) is type(y)
        assert [*map(int, map(str, validation))] == Y[expected_rows({"stratify": True})[1]].tolist()


def test_rows_are_taken_from_any_array() -> None:
    class Wrapped:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            return self.array

    records = np.rec.fromarrays(X.T, names="a,b,c")
    expected = expected_rows({"stratify": True})
    for x, y in ((Wrapped(X), Wrapped(Y)), (records, Y)):
        parts = gf.data.split(x, y, stratify=True)
        rows = [part["a"] if part.dtype.names else part[:, 0] for part, _ in parts]
        assert [of_part.astype(int).tolist() for of_part in rows] == list(expected)
    for wrong, message in (
        (scipy.sparse.csr_matrix(X), "x is a sparse matrix, but a network needs a dense one: pass x.toarray()"),
        (3, "x must be an array or a table with one item for each row, got"),
        (None, "x is missing: expected an array, got None"),
    ):
        with refused(message):
            gf.data.split(wrong, Y)


# -- Trainer.fit(validation_fraction=...) -----------------------------------------------------------------------------


def fitted(
    x: Any, y: Any = None, loss: str = "softmax_cross_entropy", **arguments: Any
) -> tuple[bytes, dict[str, Any]]:
    network = gf.MLP([3, 8, 3 if loss == "softmax_cross_entropy" else 1], seed=2)
    trainer = gf.Trainer(network, loss, gf.Adam(0.01), standardize_targets=loss == "mean_squared_error")
    history = trainer.fit(x, y, **{"epochs": 2, "batch_size": 16} | arguments)
    return network.state.tobytes(), {name: history[name] for name in history}


@pytest.mark.parametrize(
    ("loss", "y", "is_stratified"),
    [
        ("softmax_cross_entropy", Y, True),
        ("softmax_cross_entropy", np.eye(3)[Y], False),
        ("binary_cross_entropy", Y % 2, True),
        ("binary_cross_entropy", (Y % 2.0)[:, None], True),
        ("binary_cross_entropy", Y / 2, False),
        ("mean_squared_error", Y, False),
    ],
)
def test_a_fit_holds_out_a_fraction(loss: str, y: np.ndarray, is_stratified: bool, tmp_path: Path) -> None:
    weight = np.arange(ROWS) % 3 + 1.0
    arguments = {"validation_fraction": 0.3, "seed": 2, "stratify": is_stratified}
    (x, of_x, w), pair = gf.data.split(X, y, weight, **arguments)
    expected = fitted(x, of_x, loss, sample_weight=w, validation_data=pair)
    assert fitted(X, y, loss, sample_weight=weight, validation_fraction=0.3) == expected
    for name, array in (("x", X), ("y", y), ("weight", weight)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y", "weight")]
    assert fitted(mapped[0], mapped[1], loss, sample_weight=mapped[2], validation_fraction=0.3) == expected
    assert fitted(gf.data.Arrays(X, y, weight), None, loss, validation_fraction=0.3) == expected
    batches = gf.data.Batches([(X[:99], y[:99]), (X[99:], y[99:])], block_rows=50)
    training, validation = batches.split(**arguments)
    expected = fitted(training, None, loss, validation_data=validation)
    assert fitted(batches, None, loss, validation_fraction=0.3) == expected


def test_class_names_are_held_out_in_proportion(tmp_path: Path) -> None:
    names = np.array(["low", "mid", "top"], object)[Y]
    TABLE[FEATURES].assign(y=names).to_csv(tmp_path / "rows.csv", index=False)
    source = gf.data.CSV(tmp_path / "rows.csv", target="y")
    (x, y), pair = gf.data.split(X, Y, seed=2, stratify=True)
    expected = fitted(x, y, validation_data=pair)
    for targets in (names, names.tolist(), pandas.Series(names), Y + 5):
        assert fitted(X, targets, validation_fraction=0.2) == expected
    assert rows_of(source.split(seed=2, stratify=True)[1]) == pair[0][:, 0].astype(int).tolist()
    network = gf.MLP([3, 8, 3], seed=2)
    history = gf.Trainer(network, "softmax_cross_entropy", "adam").fit(source, epochs=1, validation_fraction=0.2)
    assert network.classes == ("low", "mid", "top")
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    assert history["val_loss"] == [trainer.evaluate(source.split(seed=2, stratify=True)[1])["loss"]]


def test_a_second_fit_holds_out_the_same_rows() -> None:
    network = gf.MLP([3, 8, 3], seed=2)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.SGD(0.0001))
    held_out = gf.data.split(X, Y, seed=2, validation_fraction=0.25, stratify=True)[1]
    for _ in range(2):
        history = trainer.fit(X, Y, epochs=1, validation_fraction=0.25)
        assert history["val_loss"] == [trainer.evaluate(*held_out)["loss"]]


@pytest.mark.gpu
def test_arrays_on_the_gpu_are_split_there() -> None:
    import cupy

    x, y = cupy.asarray(X), cupy.asarray(Y)
    for way in ({}, {"stratify": True}, {"group": Y}):
        for part, expected in zip(gf.data.split(x, y, **way), gf.data.split(X, Y, **way), strict=True):
            for array, on_host in zip(part, expected, strict=True):
                assert isinstance(array, cupy.ndarray)
                np.testing.assert_array_equal(array.get(), on_host)

    def fitted(*data: Any) -> list[float]:
        network = gf.MLP([3, 8, 3], seed=2, backend="cupy")
        trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
        return trainer.fit(*data, epochs=1, validation_fraction=0.2)["val_loss"]

    assert fitted(x, y) == fitted(X, Y)


def test_held_out_fractions_are_repeated_and_resumed(tmp_path: Path) -> None:
    class Stop(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"validation_fraction": 0.25, "checkpoint": gf.Checkpoint(every_epochs=1)}
    whole = fitted(X, Y, output=tmp_path / "whole", **arguments)
    assert gf.repeat(tmp_path / "whole", X, Y).is_same
    with refused("this is not the data of the run"):
        gf.repeat(tmp_path / "whole", X[::-1], Y[::-1])
    with pytest.raises(KeyboardInterrupt):
        fitted(X, Y, output=tmp_path / "run", callbacks=[Stop()], **arguments)
    with refused("the run to resume is a different one: settings.validation_fraction was 0.25, but is 0.2"):
        fitted(X, Y, resume=tmp_path / "run", validation_fraction=0.2)
    assert fitted(X, Y, resume=tmp_path / "run", **arguments) == whole


def test_fractions_that_cannot_be_held_out_are_refused() -> None:
    for fraction in (0, 1, -0.1, "half", True):
        with refused("validation_fraction must be"):
            fitted(X, Y, validation_fraction=fraction)
    with refused("validation_fraction holds out rows of x, and validation_data are others; pass one of them"):
        fitted(X, Y, validation_fraction=0.1, validation_data=(X, Y))
    with refused("column 'y' has the value 2 only once, in row 0, but each class must be in both parts"):
        fitted(X, [2, *(Y[1:] % 2)], validation_fraction=0.1)
    with refused("all must have the same number of rows, but their numbers are: x 230, y 229"):
        fitted(X, Y[1:], validation_fraction=0.1)
    bad = X.copy()
    for row in gf.data.split(X, Y, seed=2, stratify=True)[0][0][-1:, 0].astype(int):
        bad[row, 1] = np.nan
        with refused(f"x holds values that are not finite, the first (NaN) in row {row}, column 1"):
            fitted(bad, Y, validation_fraction=0.2)


# -- bad input --------------------------------------------------------------------------------------------------------


@kinds
def test_what_cannot_be_split_is_refused(make: Callable[..., Source], tmp_path: Path) -> None:
    source = make(tmp_path)
    gaps = [None, *GROUPS[1:]]
    for arguments, message in (
        ({"validation_fraction": 0}, "validation_fraction must be above 0 and below 1, got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be above 0 and below 1, got 1.0"),
        ({"validation_fraction": "a fifth"}, "validation_fraction must be a number above 0 and below 1, got 'a fifth'"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"stratify": True, "group": "group"}, "rows are split by one of stratify, group and time, but stratify and"),
        ({"group": "groups"}, "unknown column 'groups'. Did you mean 'group'?"),
        ({"time": True}, "time must be the name of a column, or one value for each row, got True"),
        ({"stratify": 3}, "stratify must be True, the name of a column, or one value for each row, got 3"),
        ({"group": GROUPS[1:]}, "group must have one value for each of the 230 rows, got shape (229,)"),
        ({"group": gaps}, "column 'group' has no value in row 0; fill it in, or remove the row, to split by it"),
        ({"time": [float("nan"), *DAYS[1:]]}, "column 'time' has no value in row 0"),
        ({"time": [pandas.NaT, *TIMES[1:]]}, "column 'time' has no value in row 0"),
        ({"group": ["all"] * ROWS}, "column 'group' has the same value in all rows; there must be at least 2"),
        ({"stratify": [7, *Y[1:]]}, "column 'stratify' has the value 7 only once, in row 0, but each class must be in"),
        ({"time": "group"}, "column 'group' holds 'patient"),
        ({"time": ["2024-01-01T00:00Z", *TIMES[1:]]}, "column 'time' holds a time with a time zone in row 0 and one"),
    ):  # fmt: skip
        with refused(message):
            source.split(**arguments)


def test_targets_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    csv(tmp_path)
    for target, message in (
        (["y", "c"], "rows.csv: stratify=True needs one target, but the targets are y, c; name a column instead"),
        (None, "rows.csv: stratify=True needs one target, but the targets are none"),
        ("c", "rows.csv: column 'c' has the value"),
    ):
        with refused(message):
            gf.data.CSV(tmp_path / "rows.csv", target=target, features=["a"]).split(stratify=True)
    for source in (gf.data.Arrays(X, np.eye(3)[Y]), gf.data.Batches([(X, np.eye(3)[Y])])):
        with refused("stratify=True needs one target, but the targets have shape (230, 3)"):
            source.split(stratify=True)
        with refused("x has no column 'a', but is an array; pass one value for each row instead"):
            source.split(group="a")
    with refused("x is a source, whose rows stay where they are: training, validation = x.split(...)"):
        gf.data.split(gf.data.Arrays(X, Y), None)
    with refused("all must have the same number of rows, but their numbers are: x 230, y 229"):
        gf.data.split(X, Y[1:])
    with refused("there must be at least 2 rows, one for each part, got 1"):
        gf.data.split(X[:1], Y[:1])
    with refused("holds values that cannot be compared: unhashable type: 'dict'"):
        gf.data.split(X[:2], Y[:2], group=[{"a": 1}, {"a": 2}])


def test_missing_and_bad_values_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,y,g,t,n\n1,0,u,2024-01-01,1\n2,1,v,2024-01-02,2\n3,1,,01/02/2024,\n")
    source = gf.data.CSV(tmp_path / "rows.csv", target="y", features="a")
    with refused("rows.csv: column 'g' has no value in line 4"):
        source.split(group="g")
    with refused("rows.csv: column 'n' has no value in line 4"):
        source.split(time="n")
    with refused(
        "rows.csv: column 't' holds '01/02/2024' in line 4, which is not a timestamp; expected a date or time"
    ):
        source.split(time="t")


def test_all_times_or_none_have_a_time_zone(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,y,t\n1,0,2024-01-01\n2,1,2024-01-02T00:00Z\n")
    for rows, message in ((1, "holds times in some rows, and times with a time zone in others"), (2, "in line 3 and")):
        with refused("rows.csv: column 't' holds ") as caught:
            gf.data.CSV(tmp_path / "rows.csv", target="y", block_rows=rows).split(time="t")
        assert message in str(caught.value)


def test_data_that_change_between_passes_are_refused(tmp_path: Path) -> None:
    once = iter([(X, Y)])
    with refused("the iterable yielded no rows"):
        gf.data.Batches(lambda: once).split(stratify=True)
    source = csv(tmp_path)
    training, _ = source.split(group="group")
    TABLE[:-1].to_csv(tmp_path / "rows.csv", index=False)
    with refused("rows.csv ended after 229 rows, before the 230 that were counted before training"):
        rows_of(training)
    with refused("rows.csv ended after 229 rows, before the 230 that were counted"):
        source.split(group="group")
    pandas.concat([TABLE, TABLE[:1]]).to_csv(tmp_path / "rows.csv", index=False)
    with refused("rows.csv gives more rows than the 230 that were counted"):
        trained(training)


@pytest.mark.parametrize("make", [parquet, arrow])
def test_files_that_change_between_passes_are_refused(make: Callable[..., Source], tmp_path: Path) -> None:
    source = make(tmp_path)
    training, _ = source.split()
    for rows in (ROWS - 1, 10):
        table = pyarrow.Table.from_pandas(TABLE)[:rows]
        if make is parquet:
            pyarrow.parquet.write_table(table, tmp_path / "parquet" / "1.parquet", row_group_size=70)
        else:
            with pyarrow.ipc.new_file(tmp_path / "rows.arrow", table.schema) as file:
                file.write_table(table, max_chunksize=70)
        for part in (source, training):
            with refused("1.parquet" if make is parquet else "rows.arrow"):
                rows_of(part)
