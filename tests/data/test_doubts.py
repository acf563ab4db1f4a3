"""Text columns that are probably meant to be something else are refused or warned about, unless a rule or their type
confirms them."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest

import gradflow as gf
from gradflow.data import OneHot, fit_preprocessing

NUMBERS = np.random.default_rng(0).normal(size=100).round(3)


def column(*others: object) -> list[object]:
    return [*others, *NUMBERS[len(others) :].tolist()]


@pytest.mark.parametrize("stray", ["NA", "?", "-", "unknown"])
def test_text_among_numbers_is_refused(stray: str) -> None:
    texts = [str(value) for value in column(1.5, stray)]
    message = f"column 'a' holds text, but 99 of 100 values are numbers; the first exception is {stray!r} in row 1."
    for values in (column(1.5, stray), texts, pd.Series(texts), pl.Series(texts), pd.Series(texts, dtype="string")):
        with pytest.raises(gf.DataError, match=re.escape(message)):
            fit_preprocessing({"a": values})
    with pytest.raises(gf.DataError, match=re.escape(message.replace("'a'", "'0'"))):
        fit_preprocessing([[value] for value in column(1.5, stray)])


def test_categories_that_are_declared_are_accepted() -> None:
    texts = [str(value) for value in column(1.5, "x")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values, rules in (
            (texts, {"a": OneHot()}),
            (pd.Series(texts, dtype="category"), {}),
            (pl.Series(texts, dtype=pl.Categorical), {}),
        ):
            assert fit_preprocessing({"a": values}, rules).n_out == len(set(texts))


def test_text_that_is_mostly_numbers_is_warned_of() -> None:
    values = ["1", "2", "3"] * 20 + ["A"] * 20
    with pytest.warns(gf.DataWarning, match="60 of 80 values are numbers; the first exception is 'A' in row") as seen:
        assert fit_preprocessing({"code": values}).n_out == 4
    assert seen[0].filename == __file__
    for few in (["1", "2", "A"], ["1"] * 20 + ["A"] * 20, ["1", "2"] * 20):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit_preprocessing({"code": few})


def test_text_that_differs_in_most_rows_is_warned_of() -> None:
    names = [f"customer {row}" for row in range(60)]
    with pytest.warns(gf.DataWarning, match="column 'name' has 60 different texts in 60 rows") as seen:
        fit_preprocessing({"name": names})
    assert seen[0].filename == __file__
    with pytest.warns(gf.DataWarning, match="column 'price' has 100 different texts"):
        fit_preprocessing({"price": [f"{value} CHF" for value in np.arange(100)]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_preprocessing({"name": names * 2})
        fit_preprocessing({"name": names}, {"name": OneHot()})
        fit_preprocessing({"name": names[:10]})
