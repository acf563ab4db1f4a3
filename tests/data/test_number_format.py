"""Numbers in text files as other countries write them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow.data.number_format import NumberFormat
from gradflow.data.table import is_number, number_in

FORMATS = [
    NumberFormat(decimal, thousands)
    for decimal in (".", ",")
    for thousands in (None, ",", ".", " ", "'", "’", "\u00a0")
    if decimal != thousands
]


@given(number=st.decimals(-(10**9), 10**9, places=3), written=st.sampled_from(FORMATS))
def test_every_number_is_read_as_it_was_written(number: float, written: NumberFormat) -> None:
    text = f"{number:,.3f}".replace(",", written.thousands or "").replace(".", "D")
    text = f"{number:,.3f}".translate(str.maketrans({",": written.thousands or "", ".": written.decimal}))
    assert number_in(written.plain(text)) == float(number)
    assert number_in(written.plain(f" {text} ")) == float(number)


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("text", ["", "12", "-3", "1e5", "NA", "Oslo", "inf"])
def test_texts_without_separators_stay(text: str, written: NumberFormat) -> None:
    assert written.plain(text) == text


@pytest.mark.parametrize(
    ("text", "decimal", "thousands"),
    [
        ("1.5", ",", None), ("1,5", ".", None), ("1,5", ".", ","), ("12,34,567", ".", ","), ("1,2345", ".", ","),
        ("1234,567", ".", ","), (",123", ".", ","), ("1.234.5", ",", "."), ("1,5,6", ",", "."), ("1.5", ",", "."),
        ("1 23", ".", " "), ("1..5", ".", ","),
    ],
)  # fmt: skip
def test_other_separators_make_no_number(text: str, decimal: str, thousands: str | None) -> None:
    assert not is_number(NumberFormat(decimal, thousands).plain(text))


def test_a_file_is_read_with_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(
            [["a", "b", "y"], ["1.234,5", "x", "1"], ["NA", "1,5", "2"], ["-2", "", "3"]]
        )
    source = gf.data.open_file(path, target="y", decimal=",", thousands=".")
    (block,) = source.blocks()
    assert not isinstance(block.x, np.ndarray)
    np.testing.assert_array_equal(block.x.columns[0], [1234.5, np.nan, -2])
    assert block.x.columns[1].tolist() == ["x", "1,5", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decimal": ";"}, "decimal must be"),
        ({"thousands": "1"}, "thousands must be"),
        ({"decimal": ",", "thousands": ","}, "must be different characters"),
    ],
)
def test_wrong_characters(arguments: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,2\n")
    with pytest.raises(gf.DataError, match=message):
        gf.data.CSV(tmp_path / "t.csv", target="y", **arguments)
