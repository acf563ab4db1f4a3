"""CSV files as found in practice: missing-value markers, Excel's marks, gzip, and files in other formats."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest

import gradflow as gf
from gradflow.data import CSV, OneHot, Standardize, fit_preprocessing
from gradflow.data.table import Table

RNG = np.random.default_rng(0)
NUMBERS = [f"{value:.3f}" for value in RNG.normal(size=300)]


def refused(message: str) -> Any:
    return pytest.raises(gf.DataError, match=re.escape(message))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "rows.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def with_field(field: str, name: str = "a") -> str:
    """Return 300 rows of numbers, with this field in line 9."""
    fields = [*NUMBERS[:7], field, *NUMBERS[8:]]
    return f"{name},b,y\n" + "".join(f"{value},{row},{row % 2}\n" for row, value in enumerate(fields))


def columns_of(path: Path, **arguments: Any) -> dict[str, list[Any]]:
    block = CSV(path, target="y", **arguments).sample()
    assert isinstance(block.x, Table)
    return {name: column.tolist() for name, column in zip(block.x.names, block.x.columns, strict=True)}


@pytest.mark.parametrize(
    "marker", ["NA", "?", "NULL", "N/A", "n/a", "null", "None", "-", "", "  ", "NaN", "NAN", "#N/A", "<NA>", " NA "]
)
def test_usual_markers_are_missing_numbers(marker: str, written: Callable[[str], Path]) -> None:
    csv = CSV(written(with_field(marker)), target="y")
    preprocessing = fit_preprocessing(csv, numbers=Standardize("mark"))
    assert preprocessing.output_names == ["a", "b", "a is missing", "b is missing"]
    with refused("column 'a' has no value in line 9"):
        fit_preprocessing(csv)


def test_na_values_say_what_is_missing(written: Callable[[str], Path]) -> None:
    path = written(with_field("unknown"))
    assert fit_preprocessing(CSV(path, target="y", na_values="unknown"), numbers=Standardize("fill")).n_out == 2
    assert fit_preprocessing(CSV(path, target="y", na_values=["-9", "unknown"]), numbers=Standardize("fill")).n_out == 2
    with refused("column 'a' holds text, but 299 of 300 values are numbers; the first exception is 'NA' in line 9"):
        fit_preprocessing(CSV(written(with_field("NA")), target="y", na_values=()))


@pytest.mark.parametrize("na_values", [-999, "-999", ["-999.0", "unknown"], [np.float64(-999)]])
def test_numbers_may_stand_for_missing_values(na_values: Any, written: Callable[[str], Path]) -> None:
    path = written("a,t,y\n1,u,0\n-999,-999,1\n-999.00,-999.0,1\n,unknown,1\n")
    numbers = columns_of(path, na_values=na_values)["a"]
    np.testing.assert_array_equal(numbers, [1, np.nan, np.nan, np.nan])
    assert columns_of(path, na_values=())["a"][1] == -999


def test_na_values_are_texts_and_numbers(written: Callable[[str], Path]) -> None:
    for wrong in ({"a": "NA"}, [None], [["NA"]]):
        with refused("na_values must be a list of strings and numbers"):
            CSV(written("a,y\n1,0\n"), target="y", na_values=wrong)


def test_a_category_may_be_named_like_a_marker(written: Callable[[str], Path]) -> None:
    path = written("country,y\nNA,1\nDE,0\n,1\nNone,0\n")
    for na_values in (None, ()):
        assert columns_of(path, na_values=na_values) == {"country": ["NA", "DE", None, "None"]}
    assert columns_of(path, na_values=["NA", "None"]) == {"country": [None, "DE", None, None]}


@pytest.mark.parametrize("field", ["1,5", "12_7", "x", "1.5kg"])
def test_one_stray_value_does_not_make_categories_of_numbers(field: str, written: Callable[[str], Path]) -> None:
    path = written(with_field(f'"{field}"'))
    message = f"column 'a' holds text, but 299 of 300 values are numbers; the first exception is '{field}' in line 9"
    with refused(f"{path}: {message}"):
        fit_preprocessing(CSV(path, target="y"))
    with refused(f"column 'a' holds numbers, but '{field}' in line 9; correct it, or pass None or NaN"):
        fit_preprocessing(CSV(path, target="y"), {"a": Standardize()})
    with refused(f"column 'a' holds text, such as '{field}' in line 9, but a network needs numbers"):
        gf.Trainer(gf.MLP([2, 1]), "binary_cross_entropy", "adam").fit(CSV(path, target="y"), epochs=1)
    for csv, rules in ((CSV(path, target="y", text="a"), {}), (CSV(path, target="y"), {"a": OneHot()})):
        assert fit_preprocessing(csv, rules).n_out == 1 + len({*NUMBERS[:7], field, *NUMBERS[8:]})


def test_a_stray_value_far_down_is_named_with_its_remedies(written: Callable[[str], Path]) -> None:
    path = written("a,y\n" + "1.5,0\n" * 5000 + "NA,0\nx,1\n")
    with refused("line 5003: column 'a' holds numbers further up, but 'x' here; correct it, or add it to"):
        fit_preprocessing(CSV(path, target="y"), numbers=Standardize("fill"))


def test_text_in_one_of_several_targets_is_named_with_its_line(written: Callable[[str], Path]) -> None:
    with refused("the target column 'y' holds text, such as 'cat' in line 3, but several targets must be numbers"):
        CSV(written("a,z,y\n1,5,0\n2,5,cat\n"), target=["z", "y"]).sample()


@pytest.mark.parametrize("argument", ["target", "features", "text"])
def test_one_name_is_a_name_and_not_its_letters(argument: str, written: Callable[[str], Path]) -> None:
    path = written("zip,a,b,y\n8001,1,2,0\n3011,3,4,1\n")
    csv = CSV(path, **{"target": "y", "features": "zip", "text": "zip"} | ({"target": "y"}))
    assert csv.features == ("zip",)
    assert csv.target == ("y",)
    assert fit_preprocessing(csv).output_names == ["zip = 3011", "zip = 8001"]
    names: dict[str, Any] = {"target": "y", argument: "ab"}
    with refused("unknown column 'ab'"):
        CSV(path, **names)
    for wrong in (3, [3], {"a": "b"}):
        with refused(f"{argument}"):
            CSV(path, **names | {argument: wrong})


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        ("a,y\n1,0\n".encode("utf-8-sig"), {}),
        ("a,y\n1,0\n".encode("utf-8-sig"), {"encoding": "utf-8-sig"}),
        ("a,y\n1,0\n".encode("utf-16"), {"encoding": "utf-16"}),
        (b'"a","y"\r\n"1","0"\r\n', {}),
        (gzip.compress(b"a,y\n1,0\n", mtime=0), {}),
        (gzip.compress("a,y\n1,0\n".encode("utf-8-sig"), mtime=0), {}),
        (b"a;y\n1;0\n", {"delimiter": ";"}),
    ],
)
def test_files_from_elsewhere_are_read(content: bytes, arguments: Any, written: Callable[[bytes], Path]) -> None:
    assert columns_of(written(content), **arguments) == {"a": [1.0]}
    assert len(CSV(written(content), target="y", **arguments)) == 1


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (b"a;y\n1;0\n", {}, "the header line contains no ',', but ';'; pass delimiter=';'"),
        (b"a\ty\n1\t0\n", {}, "pass delimiter='\\t'"),
        (b"a,y\n", {"delimiter": ", "}, "delimiter must be a single character, such as ',' or '\\t', got ', '"),
        (b"a,y\n1,0\n", {"encoding": "nope"}, "unknown encoding: nope; common ones are 'utf-8', 'utf-16' and 'cp1252'"),
        (b"a,y\n1,0\n", {"encoding": "base64"}, "'base64' is not a text encoding"),
        (b"a,y\n1,0\n", {"encoding": None}, "encoding must be a string, got None"),
        (
            "a,y\n1,0\n".encode("utf-16"),
            {},
            "text in UTF-16, as Excel's \"Unicode text\" is; pass encoding='utf-16'",
        ),
        ("é,y\n1,0\n".encode("cp1252"), {}, "line 1: not valid utf-8: invalid continuation byte; pass"),
        (b"a,y\n1,0\n", {"encoding": "utf-16"}, "not valid utf-16"),
        (gzip.compress(b"a,y\n\xff,0\n", mtime=0), {}, "line 2: not valid utf-8: invalid start byte"),
        (b"PK\x03\x04 and more", {}, "is a zip archive or an Excel workbook; unpack it, or save the sheet as CSV"),
        (
            "a,y\n1,0\n".encode("utf-16-le"),
            {},
            "contains zero bytes, which text does not; if it is UTF-16, pass encoding=",
        ),
        (b"PAR1 and more", {}, "is a Parquet file; read it with gradflow.data.Parquet"),
        (b"ARROW1\0\0 and more", {}, "is an Arrow file; read it with gradflow.data.Arrow"),
        (gzip.compress(b"PAR1 and more", mtime=0), {}, "is a Parquet file; read it with gradflow.data.Parquet"),
        (gzip.compress(bz2.compress(b"a,y\n1,0\n"), mtime=0), {}, "is compressed twice; unpack it once"),
        (lzma.compress(b"a.csv".ljust(257, b"\0") + b"ustar\0"), {}, "is a tar archive; unpack it"),
        (b"a.csv".ljust(257, b"\0") + b"ustar\0", {}, "is a tar archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c and more", {}, "is a 7z archive; unpack it"),
        (b"\x04\x22\x4d\x18 and more", {}, "is compressed with lz4; unpack it, or compress it with gzip"),
        (gzip.compress("a,y\n1,0\n".encode("utf-16"), mtime=0), {}, "is text in UTF-16, as Excel's"),
        (b",a,y\n0,1,0\n", {}, "column 1 has no name. Is it the number of the row, or a delimiter at the end"),
        (b"a,y,\n1,0,\n", {}, "column 3 has no name. Is it the number of the row, or a delimiter at the end"),
        (b"a,y\n1,0,\n", {}, "line 2: expected 2 fields, as in the first line, got 3, the last of them empty"),
        (b"a,a,y\n1,0,0\n", {}, "has two columns named 'a'; rename one of them"),
    ],
)
def test_files_of_another_kind_say_what_they_are(
    content: bytes, arguments: Any, message: str, written: Callable[[bytes], Path]
) -> None:
    with refused(message):
        CSV(written(content), target="y", **arguments)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda content: pyarrow.Codec("zstd").compress(content, asbytes=True),
}
compressions = pytest.mark.parametrize("kind", COMPRESSIONS)
ROWS = "".join(f"{value},{row % 2}\n" for row, value in enumerate(NUMBERS)).encode()


def open_files() -> list[str]:
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]


@compressions
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_compressed_files_are_read_whatever_their_names(
    kind: str, encoding: str, written: Callable[[bytes], Path]
) -> None:
    compress = COMPRESSIONS[kind]
    parts = "a,y\n1,0\n".encode(encoding), "\n2,1\n".encode(encoding.removesuffix("-sig"))[2 * (encoding == "utf-16") :]
    path = written(compress(parts[0]) + compress(parts[1]))  # such files can be concatenated
    assert columns_of(path, encoding=encoding) == {"a": [1.0, 2.0]}
    assert len(CSV(path, target="y", encoding=encoding)) == 2


def test_a_column_may_be_called_as_bzip2_begins(written: Callable[[str], Path]) -> None:
    assert columns_of(written("BZh9,y\n1,0\n")) == {"BZh9": [1.0]}
    with refused("rows.csv is empty"):
        CSV(written(bz2.compress(b"")), target="y")


@compressions
def test_compressed_files_are_pickled(kind: str, written: Callable[[bytes], Path]) -> None:
    csv = CSV(written(COMPRESSIONS[kind](b"a,y\n1,0\n")), target="y")
    assert pickle.loads(pickle.dumps(csv)).sample().y.tolist() == csv.sample().y.tolist() == [0]


def test_zstd_may_begin_with_an_empty_frame(written: Callable[[bytes], Path]) -> None:
    """As the parallel compressor pzstd writes."""
    path = written(b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + COMPRESSIONS["zstd"](b"a,y\n1,0\n"))
    assert columns_of(path) == {"a": [1.0]}


@compressions
def test_damaged_compressed_files_are_named(kind: str, written: Callable[[bytes], Path]) -> None:
    content = COMPRESSIONS[kind](b"a,y\n" + ROWS)
    middle = len(content) // 2
    zeros = content[:middle] + bytes(30) + content[middle + 30 :]
    for incomplete in (content[:middle], content[:-1], content[:12]):
        with refused(f"rows.csv is damaged or incomplete: its {kind} data cannot be read: "):
            len(CSV(written(incomplete), target="y"))
    with refused("rows.csv"):  # gzip may decode damaged bytes to text, and find the wrong checksum only at the end
        len(CSV(written(zeros), target="y"))


@compressions
def test_text_of_another_encoding_is_named_in_compressed_files(kind: str, written: Callable[[bytes], Path]) -> None:
    with refused("line 2: not valid utf-8: invalid start byte"):
        CSV(written(COMPRESSIONS[kind](b"a,y\n\xff,0\n")), target="y")


@compressions
def test_a_file_that_disappears_is_not_called_damaged(kind: str, written: Callable[[bytes], Path]) -> None:
    path = written(COMPRESSIONS[kind](b"a,y\n" + ROWS))
    csv = CSV(path, target="y")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        csv.sample()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize("kind", [*COMPRESSIONS, "text"])
def test_files_are_closed_when_reading_ends_early(kind: str, written: Callable[[bytes], Path]) -> None:
    path = written(COMPRESSIONS.get(kind, bytes)(b"a,y\n" + ROWS))
    csv = CSV(path, target="y", block_rows=10)
    assert str(path) not in open_files()
    blocks = csv.blocks()
    next(blocks)
    assert str(path) in open_files()
    blocks.close()
    assert str(path) not in open_files()


def test_zstd_needs_pyarrow(written: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(COMPRESSIONS["zstd"](b"a,y\n1,0\n"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with refused("rows.csv is compressed with zstd, which needs pyarrow; install: pip install"):
        CSV(path, target="y")


def test_columns_without_a_name_can_be_left_out(written: Callable[[str], Path]) -> None:
    assert columns_of(written(",a,y\n0,1,0\n"), features=["a"]) == {"a": [1.0]}


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with refused("is a folder; pass a single file"):
        CSV(tmp_path, target="y")
    with pytest.raises(FileNotFoundError):
        CSV(tmp_path / "none.csv", target="y")


def test_it_prints_its_constructor_call(written: Callable[[str], Path]) -> None:
    path = written("a,y\n1,0\n")
    assert repr(CSV(path, target="y")) == f"CSV({str(path)!r}, target=('y',), features=('a',))"
    assert str(CSV(path, target="y")) == str(path)
