"""Files and iterables: every row once per epoch, in a known order, with little memory; and refused inputs."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow.data.sources import Block, Converted, Source
from gradflow.data.streams import Stream
from gradflow.data.where import Where
from gradflow.random import shuffle

ROWS = 230
RNG = np.random.default_rng(0)
X = np.column_stack([np.arange(ROWS), RNG.normal(size=(ROWS, 2))])
Y = RNG.integers(0, 3, ROWS)
COLUMNS = {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": Y}


def parquet(folder: Path) -> Source:
    table = pyarrow.table(COLUMNS)
    pyarrow.parquet.write_table(table[:150], folder / "1.parquet", row_group_size=60)
    pyarrow.parquet.write_table(table[150:], folder / "2.parquet", row_group_size=60)
    return gf.data.Parquet(folder, target="y", block_rows=50)


def arrow(folder: Path) -> Source:
    table = pyarrow.table(COLUMNS)
    with pyarrow.ipc.new_file(folder / "rows.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=60)
    return gf.data.Arrow(folder / "rows.arrow", features=["a", "b", "c"], target="y", block_rows=50)


def csv(folder: Path) -> Source:
    lines = [",".join(map(repr, row)) for row in zip(*(column.tolist() for column in COLUMNS.values()), strict=True)]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,y", *lines]) + "\n")
    return gf.data.CSV(folder / "rows.csv", target="y", block_rows=50)


def iterable(folder: Path) -> Source:
    return gf.data.Batches(lambda: zip(np.array_split(X, 9), np.array_split(Y, 9), strict=True), block_rows=50)


KINDS = {make.__name__: make for make in (parquet, arrow, csv, iterable)}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def as_they_are(block: Block) -> Converted:
    return block.x if isinstance(block.x, np.ndarray) else block.x.matrix(), block.y


def epoch_of(source: Source, **arguments: Any) -> list[Converted]:
    settings: dict[str, Any] = {"rows": len(source), "batch_size": 32, "first": 0, "seed": None}
    return list(source.batches(as_they_are, epochs=[arguments.pop("epoch", 0)], **settings | arguments))


def joined(batches: list[Converted]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


@kinds
def test_rows_come_in_their_order(make: Callable[[Path], Source], tmp_path: Path) -> None:
    source = make(tmp_path)
    assert len(source) == ROWS
    batches = epoch_of(source)
    assert [len(x) for x, _ in batches] == [32] * 7 + [6]
    x, y = joined(batches)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    assert y.dtype == np.int64


@kinds
@pytest.mark.parametrize("batch_size", [1, 32, 50, 77, ROWS])
def test_each_row_comes_once_and_stays_in_its_block(
    make: Callable[[Path], Source], batch_size: int, tmp_path: Path
) -> None:
    source = make(tmp_path)
    x, y = joined(epoch_of(source, seed=3, epoch=1, batch_size=batch_size))
    rows = x[:, 0].astype(int)
    np.testing.assert_array_equal(np.sort(rows), np.arange(ROWS))
    np.testing.assert_array_equal(x, X[rows])
    np.testing.assert_array_equal(y, Y[rows])
    assert (np.diff(rows) != 1).sum() > ROWS / 2
    if make in (csv, iterable):
        for number, start in enumerate(range(0, ROWS, 50)):
            block = np.arange(start, min(start + 50, ROWS))
            order = shuffle(np.arange(len(block)), len(block), seed=3, epoch=1 | (number + 1) << 32)
            np.testing.assert_array_equal(rows[start : start + 50], block[order])
    again = joined(epoch_of(source, seed=3, epoch=1))[0]
    np.testing.assert_array_equal(again, x)
    for other in ({"seed": 4, "epoch": 1}, {"seed": 3, "epoch": 2}):
        assert not np.array_equal(joined(epoch_of(source, **other))[0], x)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 3),
    st.booleans(),
)
def test_any_cut_into_pieces_blocks_and_batches_gives_the_same_rows(
    pieces: list[int], block_rows: int, batch_size: int, skipped: int, shuffled: bool
) -> None:
    total = sum(pieces)
    x = np.arange(total)[:, None]
    ends = np.cumsum(pieces)[:-1]
    source = gf.data.Batches(list(zip(np.split(x, ends), np.split(x[:, 0], ends), strict=True)), block_rows=block_rows)
    expected = []
    for number, start in enumerate(range(0, total, block_rows)):
        block = np.arange(start, min(start + block_rows, total))
        order = shuffle(np.arange(len(block)), len(block), seed=5, epoch=2 | (number + 1) << 32)
        expected.extend(block[order] if shuffled else block)
    first = min(skipped * batch_size, (total - 1) // batch_size * batch_size)
    rows = total - total % batch_size or total
    for last in {rows, total} - {first}:
        if first < last:
            batches = epoch_of(
                source, batch_size=batch_size, rows=last, first=first, seed=5 if shuffled else None, epoch=2
            )
            assert all(len(batch) == batch_size for batch, _ in batches[:-1])
            assert joined(batches)[1].tolist() == expected[first:last]


def test_row_groups_change_places(tmp_path: Path) -> None:
    rows = joined(epoch_of(parquet(tmp_path), seed=3, epoch=1))[0][:, 0].astype(int)
    starts = [0, 60, 120, 150, 210, ROWS]
    order = shuffle(np.arange(5), 5, seed=3, epoch=1)
    assert not np.array_equal(order, np.arange(5))
    read = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in order])
    for number, start in enumerate(range(0, ROWS, 50)):
        block = read[start : start + 50]
        chosen = shuffle(np.arange(len(block)), len(block), seed=3, epoch=1 | (number + 1) << 32)
        np.testing.assert_array_equal(rows[start : start + 50], block[chosen])


@kinds
@pytest.mark.parametrize("first", [32, 96, 192])
@pytest.mark.parametrize("seed", [None, 8])
def test_an_epoch_continues_where_it_stopped(
    make: Callable[[Path], Source], first: int, seed: int | None, tmp_path: Path
) -> None:
    source = make(tmp_path)
    whole = epoch_of(source, seed=seed)
    rest = epoch_of(source, seed=seed, first=first)
    for expected, got in zip(whole[first // 32 :], rest, strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


@kinds
@pytest.mark.parametrize("rows", [ROWS, 160, 90])
def test_one_epoch_follows_the_other(make: Callable[[Path], Source], rows: int, tmp_path: Path) -> None:
    """This also holds if the last block, or more than that, is dropped."""
    source = make(tmp_path)
    together = list(
        source.batches(as_they_are, rows=rows, batch_size=30, first=60, seed=8, epochs=(epoch for epoch in (3, 4, 5)))
    )
    apart = [
        epoch_of(source, rows=rows, batch_size=30, first=60 if epoch == 3 else 0, seed=8, epoch=epoch)
        for epoch in (3, 4, 5)
    ]
    for expected, got in zip([batch for epoch in apart for batch in epoch], together, strict=True):
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


def test_the_first_block_of_an_epoch_is_read_while_the_last_one_is_processed() -> None:
    begun: list[int] = []
    next_is_begun = threading.Event()

    def epochs() -> Iterator[int]:
        for epoch in range(2):
            begun.append(epoch)
            if epoch == 1:
                next_is_begun.set()
            yield epoch

    source = gf.data.Batches([(X, Y)])
    batches = source.batches(as_they_are, rows=ROWS, batch_size=10, first=0, seed=1, epochs=epochs())
    next(batches)
    assert next_is_begun.wait(120)
    assert begun == [0, 1]
    batches.close()


@kinds
def test_networks_train_on_it(make: Callable[[Path], Source], tmp_path: Path, backend_name: str) -> None:
    source = make(tmp_path)

    def trained(*data: Any, validation_data: Any) -> tuple[bytes, list[float]]:
        network = gf.MLP([3, 8, 3], seed=2, backend=backend_name)
        trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.001))
        history = trainer.fit(*data, epochs=2, shuffle=False, validation_data=validation_data, drop_last=True)
        assert trainer.evaluate(*data)["loss"] == history["val_loss"][-1]
        return network.backend.to_host(network.parameters).tobytes(), history["val_loss"]

    assert trained(source, validation_data=source) == trained(X, Y, validation_data=(X, Y))


@kinds
def test_networks_predict_from_it(make: Callable[[Path], Source], tmp_path: Path, backend_name: str) -> None:
    source = make(tmp_path)
    network = gf.MLP([3, 8, 3], seed=2, backend=backend_name)
    gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.001)).fit(source, epochs=1)
    for method in (network.predict, network.logits):
        outputs = method(source)
        assert outputs.shape == (ROWS, 3)
        np.testing.assert_allclose(outputs, method(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(network.predict_classes(source), network.predict_classes(X))
    blocks = [network.predict(block) for block in source.blocks()]
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), network.predict(source))
    classes = [network.predict_classes(block) for block in source.blocks()]
    np.testing.assert_array_equal(np.concatenate(classes), network.predict_classes(X))


def test_predictions_need_no_targets(tmp_path: Path) -> None:
    parquet(tmp_path), arrow(tmp_path), csv(tmp_path)
    network = gf.MLP([3, 8, 3], seed=2)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.001))
    trainer.fit(gf.data.CSV(tmp_path / "rows.csv", target="y"), epochs=1)
    expected = network.predict(X)
    (tmp_path / "x.csv").write_text("c,b,a\n" + "\n".join(",".join(map(repr, row[::-1])) for row in X.tolist()))
    for source in (
        gf.data.CSV(tmp_path / "rows.csv", target=None),
        gf.data.CSV(tmp_path / "x.csv", target=()),
        gf.data.Parquet(tmp_path, target=None),
        gf.data.Arrow(tmp_path, features=["c", "a", "b"], target=None),
        gf.data.Batches([(X[:100], None), (X[100:], None)]),
        gf.data.Batches([(X[:0], None), (X[:100], None), (X[:0], None), (X[100:], None), (X[:0], None)]),
        gf.data.Arrays(X, None),
    ):
        np.testing.assert_allclose(network.predict(source), expected, rtol=1e-5)
        for refuse in (
            lambda source=source: trainer.evaluate(source),
            lambda source=source: trainer.fit(source, epochs=1),
            lambda source=source: gf.Trainer(
                gf.MLP([3, 3]), "mean_squared_error", "adam", standardize_targets=True
            ).fit(source, epochs=1),
        ):
            with refused("x is a source without targets, which is enough to predict but not to train"):
                refuse()


def test_faults_in_a_source_to_predict_are_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n" + "1,2\n" * 5 + "1,\n")
    source = gf.data.CSV(tmp_path / "rows.csv", target=None)
    with refused(
        "rows.csv, lines 2 to 7: x holds values that are not finite, the first (NaN) in line 7, column 'b'; remove"
    ):
        gf.MLP([2, 1]).predict(source)
    with refused("rows.csv, lines 2 to 7: x holds values that are not finite, the first (NaN) in line 7, column 'b'"):
        gf.MLP([2, 1]).predict(source.sample())
    with refused("x is a source, which is read block by block, but rows in memory are needed here: pass next(x."):
        gf.check_gradients(gf.MLP([2, 1]), "mean_squared_error", source, np.zeros(6))


def test_empty_blocks_of_a_stream_are_skipped() -> None:
    class WithEmptyBlocks(Stream):
        def __len__(self) -> int:
            return ROWS

        def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
            for start, stop in ((0, 0), (0, 99), (99, 99), (99, ROWS), (ROWS, ROWS)):
                yield Block(X[start:stop], Y[start:stop], Where(range(start, stop)))

    class Empty(WithEmptyBlocks):
        def read(self, *, seed: int | None, epoch: int) -> Generator[Block, None, None]:
            yield Block(X[:0], Y[:0], Where(()))

    network = gf.MLP([3, 8, 3], seed=2)
    source = WithEmptyBlocks(50)
    np.testing.assert_allclose(network.predict(source), network.predict(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(joined(epoch_of(source))[0], X)
    with refused("x has no rows; at least 1 is needed"):
        network.predict(Empty(50))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("make", [parquet, arrow, csv])
def test_files_are_closed_when_reading_ends_early(make: Callable[[Path], Source], tmp_path: Path) -> None:
    def is_open() -> bool:
        links = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
        mapped = Path("/proc/self/maps").read_text()
        return any(link.startswith(str(tmp_path)) for link in links) or str(tmp_path) in mapped

    source = make(tmp_path)
    for part in (source, source.split()[0]):
        assert not is_open()
        blocks = part.blocks()
        next(blocks)
        assert is_open()
        blocks.close()
        assert not is_open()


METRICS = ["accuracy", "balanced_accuracy", "f1", "precision", "recall", "roc_auc", "log_loss", "top_2_accuracy"]


@kinds
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_evaluation_gives_the_bits_of_the_rows_in_memory(
    make: Callable[[Path], Source], class_weight: str | None, tmp_path: Path, backend_name: str
) -> None:
    source, table = make(tmp_path), {name: COLUMNS[name] for name in "abc"}
    data = X if make is iterable else table
    preprocessing = gf.data.fit_preprocessing(data)
    for loss, y, metrics in (
        ("softmax_cross_entropy", Y, METRICS),
        ("mean_squared_error", Y, ["mean_absolute_error", "root_mean_squared_error", "r2"]),
    ):
        network = gf.MLP([3, 8, 3 if metrics is METRICS else 1], seed=2, backend=backend_name)
        network.preprocessing = preprocessing
        trainer = gf.Trainer(network, loss, "adam", metrics=metrics)
        given = {"class_weight": class_weight if metrics is METRICS else None}
        assert trainer.evaluate(source, **given) == trainer.evaluate(data, y, **given)


def test_several_targets_and_missing_values(tmp_path: Path) -> None:
    table = pyarrow.table({"u": [1, None, 3], "s": ["x", None, "z"], "t": [True, False, None], "v": [1.5, 2.5, 3.5]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    source = gf.data.Parquet(tmp_path / "rows.parquet", target=["v", "u"])
    block = source.sample()
    assert not isinstance(block.x, np.ndarray)
    assert block.x.names == ("s", "t")
    assert block.x.columns[0].tolist() == ["x", None, "z"]
    np.testing.assert_array_equal(block.x.columns[1], [1, 0, np.nan])
    np.testing.assert_array_equal(block.y, [[1.5, 1], [2.5, np.nan], [3.5, 3]])
    (tmp_path / "rows.csv").write_text('u,s,v\n1,"a, b",2\n,,3\n')
    block = gf.data.CSV(tmp_path / "rows.csv", target="v").sample()
    assert not isinstance(block.x, np.ndarray)
    assert block.x.columns[1].tolist() == ["a, b", None]
    np.testing.assert_array_equal(block.x.columns[0], [1, np.nan])


def fit(source: Source, **arguments: Any) -> None:
    gf.Trainer(gf.MLP([3, 4, 3]), "softmax_cross_entropy", gf.Adam()).fit(source, epochs=2, **arguments)


def refused(message: str) -> Any:
    return pytest.raises(gf.DataError, match=re.escape(message))


def test_a_nan_deep_in_a_file_is_named(tmp_path: Path) -> None:
    x = np.zeros(7_100_000, np.float32)
    x[7_000_000] = np.nan
    pyarrow.parquet.write_table(pyarrow.table({"x": x, "y": np.zeros_like(x)}), tmp_path / "1.parquet")
    trainer = gf.Trainer(gf.MLP([1, 1]), "mean_squared_error", gf.Adam())
    with refused(
        f"{tmp_path}/1.parquet, rows 6946816 to 7012351: x holds values that are not finite, the first (NaN) in row "
        "7000000, column 'x'"
    ):
        trainer.fit(gf.data.Parquet(tmp_path / "1.parquet", target="y"), epochs=1, batch_size=65536, shuffle=False)
    trainer = gf.Trainer(gf.MLP([1, 1]), "mean_squared_error", gf.Adam())
    with refused("rows 6946816 to 7012351: y holds NaN or infinity in row 7000000"):
        trainer.evaluate(gf.data.Parquet(tmp_path / "1.parquet", features=["y"], target="x"))


def test_a_nan_in_a_mapped_file_is_named(tmp_path: Path) -> None:
    x, y = np.zeros((50_000, 3), np.float32), np.zeros(50_000, np.int64)
    x[49_000, 2] = np.nan
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped_x, mapped_y = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))
    trainer = gf.Trainer(gf.MLP([3, 3]), "softmax_cross_entropy", gf.Adam())
    with refused(
        f"{tmp_path}/x.npy and {tmp_path}/y.npy, rows 0 to 49999: x holds values that are not finite, "
        "the first (NaN) in row 49000, column 2"
    ):
        trainer.fit(mapped_x, mapped_y, epochs=1)
    with refused(f"{tmp_path}/x.npy, rows 0 to 999: x holds values that are not finite, the first (NaN) in row 0, "):
        trainer.fit(mapped_x[48_990:][10:], y[:1000], epochs=1)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def written(name: str, **columns: Any) -> Path:
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / name)
        return tmp_path / name

    first = written("1.parquet", a=[1.0, 2.0], y=[0, 1])
    text = written("2.parquet", a=["1", "2"], y=[0, 1])
    short = written("3.parquet", y=[0, 1])
    when = written("4.parquet", a=np.array(["2020-01-01"], "datetime64[s]"), y=[0])
    empty = written("5.parquet", a=np.zeros(0), y=np.zeros(0))
    labels = written("6.parquet", a=[1.0], y=["cat"])
    (tmp_path / "7.parquet").write_bytes(b"PAR1 and nothing else")
    (tmp_path / "folder").mkdir()
    for path, message in (
        ([first, text], f"column 'a' of {text} has type string, but that of {first} holds numbers"),
        ([first, short], f"{short} has no column 'a', which {first} has"),
        (when, f"{when}, rows 0 to 0: column 'a' holds times (type timestamp[ms]); the rule gradflow.data.Dates()"),
        (empty, "5.parquet has no rows"),
        (tmp_path / "7.parquet", "7.parquet is damaged or not a valid Parquet file"),
        (tmp_path / "folder", "folder contains no files ending in .parquet"),
        (labels, "y holds 1 class ('cat'), but the network has 3 outputs, one for each class. Name all classes before"),
    ):
        with refused(message):
            fit(gf.data.Parquet(path, target="y"))
    with refused(f"{text}, rows 0 to 1: column 'a' holds text, such as '1', but a network needs numbers"):
        fit(gf.data.Parquet(text, target="y"))
    with refused("unknown column 'z'"):
        gf.data.Parquet(first, target="z")
    with refused("column 'y' is both a feature and the target"):
        gf.data.Parquet(first, features=["a", "y"], target="y")
    with refused("x must have 3 features, as the network's first layer expects, got 1"):
        fit(gf.data.Parquet(first, target="y"))
    with pytest.raises(FileNotFoundError):
        gf.data.Parquet(tmp_path / "none.parquet", target="y")


def test_dictionaries_are_categories(tmp_path: Path) -> None:
    columns = {"zip": pyarrow.array([8001, 3011, 8001]).dictionary_encode(), "y": [0, 1, 0]}
    table = pyarrow.table(columns)
    with pyarrow.ipc.new_file(tmp_path / "1.arrow", table.schema) as file:
        file.write_table(table)
    frame = pandas.DataFrame({"zip": pandas.Categorical([8001, 3011, 8001]), "y": [0, 1, 0]})
    frame.to_parquet(tmp_path / "1.parquet")
    sources = gf.data.Arrow(tmp_path / "1.arrow", target="y"), gf.data.Parquet(tmp_path / "1.parquet", target="y")
    for data in (*sources, table.select(["zip"])):
        assert gf.data.fit_preprocessing(data).output_names == ["zip = 3011", "zip = 8001"]
    for metadata in (b"no JSON", b"[]", b"{}", b'{"columns": [1]}'):
        damaged = pyarrow.Table.from_pandas(frame).cast(pyarrow.schema({"zip": "int64", "y": "int64"}))
        damaged = damaged.replace_schema_metadata({"pandas": metadata})
        pyarrow.parquet.write_table(damaged, tmp_path / "1.parquet")
        source = gf.data.Parquet(tmp_path / "1.parquet", target="y")
        assert gf.data.fit_preprocessing(source).output_names == ["zip"]


def test_a_damaged_row_group_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    table = pyarrow.table(COLUMNS)
    pyarrow.parquet.write_table(table, path, row_group_size=100, use_dictionary=False, write_page_checksum=True)
    start = pyarrow.parquet.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    with refused(f"{path} cannot be read after row 100"):
        fit(gf.data.Parquet(path, target="y"), shuffle=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c,y\n1,2,3,0\n1,2,0\n", "rows.csv, line 3: expected 4 fields, as in the first line, got 3"),
        ("a,b,c,y\n1,2,3,0\n1,2,3,4,0\n", "rows.csv, line 3: expected 4 fields, as in the first line, got 5"),
        ("a,b,c,y\n", "rows.csv has no rows"),
        ("", "rows.csv is empty; expected a header line"),
        ("a,b,b,y\n1,2,3,0\n", "rows.csv has two columns named 'b'"),
        ("a,b,c,z\n1,2,3,0\n", "unknown column 'y'"),
        ('a,b,c,y\n1,2,3,0\n1,"2,3,0\n', "rows.csv, line 4: unexpected end of data"),
        ("a,b,c,y\n1,2,3,0\n1,,3,0\n", "the first (NaN) in line 3, column 'b'"),
        ("a,b,c,y\n1,2,3,0\n1,x,3,0\n", "column 'b' holds text, such as 'x'"),
        ("a,b,c,y\n1,2,3,x\n", "y holds 1 class ('x'), but the network has 3 outputs"),
        ("a,b,c,y\n1,2,3,x\n1,2,3,\n", "rows.csv, lines 2 to 3: y has no class in line 3"),
        ("a,b,c,y\n1,2,3,0\n1,2,3,7\n", "y holds 2 classes (0, 7), which are not the class numbers 0 to 2"),
        ("a,b,c,y\n" + "1,2,3,0\n" * 5000 + "1,x,3,0\n", "line 5002: column 'b' holds numbers further up"),
        ("a,b,c,y\n" + "1,2,3,0\n" * 5000 + "1,2,3\n", "line 5002: expected 4 fields"),
    ],
)  # fmt: skip
def test_csv_files_that_do_not_fit_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with refused(message):
        fit(gf.data.CSV(tmp_path / "rows.csv", target="y"))


def test_no_rows_are_refused() -> None:
    for refuse in (lambda: gf.data.Arrays(X[:0], Y[:0]), lambda: fit(gf.data.Batches([(X[:0], Y[:0])]))):
        with refused("no rows; at least 1 is needed"):
            refuse()


def test_undecodable_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a,b,c,y\n1,2,3,0\n1,\xff,3,0\n")
    with refused("rows.csv, line 3: not valid utf-8: invalid start byte; pass encoding="):
        gf.data.CSV(tmp_path / "rows.csv", target="y")


def test_iterables_that_do_not_fit_are_refused() -> None:
    class Changing:
        """Returns different batches once training has begun."""

        def __init__(self, *later: tuple[Any, Any]) -> None:
            self.passes, self.later = 0, later

        def __call__(self) -> Iterator[tuple[Any, Any]]:
            self.passes += 1
            yield X[:20], Y[:20]
            yield from self.later if self.passes > 3 else [(X[20:40], Y[20:40])]

    for later, message in (
        ([], "the iterable ended after 20 rows, before the 40 that were counted before training"),
        ([(X[20:41], Y[20:41])], "the iterable gives more rows than the 40 that were counted before training"),
        ([(X[20:40], Y[20:40]), (X[:1], Y[:1])], "the iterable gives more rows than the 40"),
        ([(X[20:40, :2], Y[20:40])], "batch 1 of the iterable, rows 20 to 39: x must have 3 features"),
        ([(X[20:40], Y[20:39])], "x and y of batch 1 of the iterable must have the same number of rows"),
        ([(X[20:40], Y[20:40] + 0.5)], "batch 1 of the iterable, rows 20 to 39: class labels must be integers"),
        (
            [X[20:40]],
            "batch 1 of the iterable must be a pair (x, y), or (x, y, sample_weight), got ndarray",
        ),
        ([(X[20:40] * np.nan, Y[20:40])], "the first (NaN) in row 20, column 0"),
        (
            [(X[20:40], np.eye(3)[Y[20:40]])],
            "batch 1 of the iterable, rows 20 to 39: the rows of y have shape (3,), but those of the first batch ()",
        ),
        ([(X[20:40, 0], Y[20:40])], "batch 1 of the iterable, rows 20 to 39: x must have shape (batch, 3), got (20,)"),
    ):
        with refused(message):
            fit(gf.data.Batches(Changing(*later)))
    with refused("the iterable gives more rows than the 200 that were counted before training, or given as rows="):
        fit(gf.data.Batches([(X[:100], Y[:100]), (X[100:200], Y[100:200]), (X[200:], Y[200:])], rows=200))
    with refused("the iterable ended after 230 rows, before the 500 that were counted"):
        fit(gf.data.Batches([(X, Y)], rows=500))
    with refused("the iterable yielded no rows"):
        fit(gf.data.Batches(list))
    with refused("pass the function that creates it"):
        gf.data.Batches(iter([(X, Y)]))
    with refused("Batches needs a function that returns an iterator, got int"):
        gf.data.Batches(3)  # type: ignore[arg-type]
