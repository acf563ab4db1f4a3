"""Facts about columns, and what they suggest; files of any kind, opened and loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradflow as gf
from gradflow.data.any_file import column_names
from gradflow.data.loaded import Loaded, joined_rows
from gradflow.data.profiles import ColumnProfile
from gradflow.data.suggestions import doubtful_text, suggest_number_format, suggest_target
from gradflow.data.table import Table


def profile_of(tmp_path: Path, *values: str, name: str = "column") -> ColumnProfile:
    path = tmp_path / "one.csv"
    path.write_text("\n".join([f"{name},other", *(f"{value},1" for value in values)]))
    return gf.data.profile(gf.data.open_file(path, target=None))[name]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["", "1", "2", "2.5", "-3", "a", "b", "2024-01-31"]), min_size=1, max_size=30))
def test_a_profile_counts_what_the_column_holds(tmp_path_factory: Any, values: list[str]) -> None:
    column = profile_of(tmp_path_factory.mktemp("profile"), *values)
    present = [value for value in values if value]
    assert (column.rows, column.missing) == (len(values), len(values) - len(present))
    assert column.first_missing == (f"line {values.index('') + 2}" if "" in values else "")
    assert column.distinct == len(set(present))
    numbers = {"1", "2", "2.5", "-3"}
    if present and not set(present) - {"2024-01-31"}:
        assert column.kind == "times"
    elif set(present) <= numbers:
        assert column.kind == "numbers"
        assert column.are_whole == (bool(present) and "2.5" not in present)
    else:
        assert column.kind == "text"
        assert column.numbers_in_text == sum(value in numbers for value in present)
    if column.kind != "times":
        assert column.counts is not None
        assert sum(column.counts.values()) == len(present)
        assert list(column.counts) == sorted(column.counts)


def test_many_values_are_no_longer_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.data.profiles.MOST_COUNTED", 10)
    monkeypatch.setattr("gradflow.data.profiles.MOST_DISTINCT", 20)
    assert profile_of(tmp_path, *map(str, range(11))).counts is None
    assert profile_of(tmp_path, *(f"{row}.5" for row in range(11))).distinct is None
    assert profile_of(tmp_path, *map(str, range(11)), "3").distinct is None
    assert profile_of(tmp_path, *(f"x{row}" for row in range(11)), "x3").distinct == 11
    assert profile_of(tmp_path, *map(str, range(20))).distinct == 20
    assert profile_of(tmp_path, *map(str, range(21))).distinct is None
    assert profile_of(tmp_path, *(f"x{row}" for row in range(21))).is_mostly_distinct


@pytest.mark.parametrize(
    ("name", "values", "rule", "reason"),
    [
        ("a", ["1", "2.5", "7"], "Standardize(missing='refuse')", "numbers"),
        ("a", ["1", "", "7"], "Standardize(missing='mark')", "numbers, 1 missing"),
        ("a", ["x", "y", "x"], "OneHot(missing='refuse', unknown='zeros', most=1000)", "2 categories"),
        ("a", ["x", "y", ""], "OneHot(missing='mark', unknown='zeros', most=1000)", "2 categories, 1 missing"),
        ("a", ["x", "", "x"], "OneHot(missing='mark', unknown='zeros', most=1000)", "1 category, 1 missing"),
        ("a", ["2024-01-31", "2024-02-01"], "Dates(parts=('elapsed', 'month', 'weekday', 'hour'), missing='refuse')",
         "timestamps"),
        ("a", [f"c{row % 60}" for row in range(200)], "Embedding(size=None, min_rows=2, missing='refuse', most=100000)",
         "60 categories"),
        ("a", ["", ""], "None", "no values"),
        ("a", ["3", "3"], "None", "a single value"),
        ("a", ["4", "5", "6"], "None", "counts the rows"),
        ("a", [f"c{row}" for row in range(30)], "None", "text that differs in most rows"),
        ("user_id", [str(row * row) for row in range(30)], "None", "an identifier, different in each row"),
        ("userId", [f"u{row}" for row in range(30)], "None", "an identifier, different in each row"),
        ("city_id", [str(row * row) for row in range(30)] * 2, "Standardize(missing='refuse')", "numbers"),
        ("humid", [str(row * row) for row in range(30)], "Standardize(missing='refuse')", "numbers"),
        ("id", [f"{row}.5" for row in range(0, 60, 2)], "Standardize(missing='refuse')", "numbers"),
    ],
)  # fmt: skip
def test_the_rule_of_a_column(tmp_path: Path, name: str, values: list[str], rule: str, reason: str) -> None:
    suggestion = gf.data.suggest_rule(profile_of(tmp_path, *values, name=name))
    assert (repr(suggestion.rule), suggestion.reason) == (rule, reason)


def test_the_task_is_found_in_the_target(tmp_path: Path) -> None:
    def task(*values: str) -> str:
        return gf.data.suggest_task([profile_of(tmp_path, *values)])

    assert task("yes", "no") == "classification"
    assert task(*(["0", "1"] * 2)) == "classification"
    assert task(*(map(str, range(5))), *(["0"] * 20)) == "classification"
    assert task(*(map(str, range(8)))) == "regression"
    assert task("0.5", "1") == "regression"
    booleans = dataclasses.replace(profile_of(tmp_path, "1", "0"), are_booleans=True, distinct=2)
    assert gf.data.suggest_task([booleans]) == "classification"
    assert gf.data.suggest_task([booleans, booleans]) == "regression"
    with pytest.raises(gf.DataError, match="at least one column"):
        gf.data.suggest_task([])


def test_a_target_is_proposed_only_if_its_name_says_so() -> None:
    assert suggest_target(["a", "Label"]) == "Label"
    assert suggest_target(["y", "label"]) is None
    assert suggest_target(["a", "b"]) is None


def test_text_that_was_meant_to_be_numbers_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n" + "".join(f"{row},5;{row if row else 'x'}\n" for row in range(20)))
    found = doubtful_text(gf.data.profile(gf.data.open_file(tmp_path / "t.csv", target=None)))
    assert found == {
        "a": "numbers with a decimal comma; read them with decimal=','",
        "b": "numbers, but for 1 of 20 values",
    }


@pytest.mark.parametrize(
    ("delimiter", "texts", "decimal", "thousands"),
    [
        (";", ["1,5", "2,25", "3"], ",", "."),
        (";", ["1,234", "5,678"], ",", "."),
        (";", ["1.234,5", "17,25"], ",", "."),
        ("\t", ["1,234", "5,678", "910"], ".", ","),
        ("\t", ["1,234.50", "12,345,678"], ".", ","),
        ("\t", ["1,5", "1,234"], ",", "."),
        ("\t", ["1.5", "2"], ".", None),
        ("\t", ["1,5", "Oslo", "Rome"], ".", None),
        ("\t", ["12.5 %", "13 %"], ".", None),
    ],
)
def test_the_way_that_numbers_are_written_is_found(
    delimiter: str, texts: list[str], decimal: str, thousands: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"a{delimiter}b\n" + "".join(f"{text}{delimiter}1\n" for text in texts * 10))
    columns = gf.data.profile(gf.data.open_file(path, target=None))
    found = suggest_number_format(columns.values(), delimiter)
    assert (found.decimal, found.thousands) == (decimal, thousands)


def test_dates_of_other_countries_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n" + "".join(f"{row % 12 + 1:02}/31/2024,{row + 1}.1.24,1/2/x\n" for row in range(30)))
    columns = gf.data.profile(gf.data.open_file(path, target=None))
    reasons = [gf.data.suggest_rule(columns[name]).reason for name in "ab"]
    assert reasons == [
        "12 categories; dates are understood if written as 2024-12-31",
        "text that differs in most rows; dates are understood if written as 2024-12-31",
    ]
    assert columns["c"].other_dates == 0


def test_numbers_with_a_sign_are_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n" + "".join(f"{row} %,$1.{row},{row}m\n" for row in range(30)))
    found = doubtful_text(gf.data.profile(gf.data.open_file(path, target=None)))
    assert found == dict.fromkeys("ab", "numbers with a sign such as % or $; write them without it")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_in_the_header(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f'\n"a,;|\t,;|\t,;|\t\n"{delimiter}b{delimiter}c\n1{delimiter}2{delimiter}3\n')
    assert column_names(path) == ["a,;|\t,;|\t,;|\t\n", "b", "c"]
    source = gf.data.open_file(path, target="c")
    assert source.features == ("a,;|\t,;|\t,;|\t\n", "b")
    assert len(source) == 1


def test_a_file_that_is_missing_is_named_with_similar_ones(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("a\n1\n")
    with pytest.raises(
        FileNotFoundError, match=r"there is no file '.*custmers.csv'\. Did you mean '.*customers.csv'\?"
    ):
        gf.data.open_file(tmp_path / "custmers.csv", target=None)


def test_options_of_csv_have_no_meaning_for_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"a": [1, 2]}), tmp_path / "t.parquet")
    (tmp_path / "t.data").write_bytes((tmp_path / "t.parquet").read_bytes())
    assert isinstance(gf.data.open_file(tmp_path / "t.data", target=None), gf.data.Parquet)
    assert column_names(tmp_path / "t.parquet") == column_names(tmp_path) == ["a"]
    assert isinstance(gf.data.open_file(tmp_path / "t.parquet", target=None, text=["a"]), gf.data.Parquet)
    with pytest.raises(gf.DataError, match=r"is no text file, so delimiter= has no meaning"):
        gf.data.open_file(tmp_path / "t.parquet", target=None, delimiter=";")


def test_loaded_rows_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,w,y\n" + "".join(f"{row / 2},{'xyz'[row % 3]},{row % 4},{row % 2}\n" for row in range(50)))
    file = gf.data.CSV(path, target="y", features=["b", "a"], sample_weight="w", block_rows=7)
    whole = Loaded(gf.data.CSV(path, target=None, block_rows=7))
    loaded = whole.with_columns(target="y", features=["b", "a"], sample_weight="w")
    assert len(loaded) == 50
    for one, other in zip(file.blocks(), loaded.blocks(), strict=True):
        assert isinstance(one.x, Table)
        assert isinstance(other.x, Table)
        assert one.x.names == other.x.names
        for values, others in zip(one.x.columns, other.x.columns, strict=True):
            np.testing.assert_array_equal(values, others)
        np.testing.assert_array_equal(one.y, other.y)
        assert one.y.dtype == other.y.dtype
        np.testing.assert_array_equal(one.sample_weight, other.sample_weight)
        assert one.where.row(0) == other.where.row(0)
    for parts in zip(*(source.split(stratify=True, seed=3) for source in (file, loaded)), strict=True):
        rows = [joined_rows(part) for part in parts]  # type: ignore[arg-type]
        np.testing.assert_array_equal(rows[0][1], rows[1][1])
    by_group = [len(part) for part in loaded.split(group="w")]
    assert by_group == [len(part) for part in file.split(group="w")]
    with pytest.raises(gf.DataError, match="unknown column 'c'"):
        loaded.split(group="c")
    with pytest.raises(gf.DataError, match="unknown column 'z'"):
        whole.with_columns(target="z", features=None, sample_weight=None)
    with pytest.raises(gf.DataError, match="no rows with named columns"):
        Loaded(gf.data.Batches([(np.ones((2, 2)), np.ones(2))]))
