"""Timestamps: their parts, the same numbers for every source and unit, and what is refused."""

from __future__ import annotations

import calendar
import datetime
import json
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.data import CSV, Arrow, Batches, Dates, Parquet, Preprocessing, fit_preprocessing

PARTS = ("elapsed", "year", "month", "day", "weekday", "hour", "minute")
ROWS = 120
RNG = np.random.default_rng(0)
SECONDS = np.datetime64("2019-02-27T00:00:00") + np.sort(RNG.integers(0, 4 * 365 * 86400, ROWS)).astype(
    "timedelta64[s]"
)
RULES = {"when": Dates(PARTS)}


def positions(time: datetime.datetime) -> dict[str, float]:
    """The formulas of the docstring, by Python's calendar."""
    day = time.timetuple().tm_yday - 1
    hour = time.hour + (time.minute + (time.second + time.microsecond / 1e6) / 60) / 60
    return {
        "year": day / (366 if calendar.isleap(time.year) else 365),
        "month": (time.month - 1) / 12,
        "day": (time.day - 1) / calendar.monthrange(time.year, time.month)[1],
        "weekday": time.weekday() / 7,
        "hour": hour / 24,
        "minute": (time.minute + (time.second + time.microsecond / 1e6) / 60) / 60,
    }


@given(st.lists(st.datetimes(datetime.datetime(1600, 1, 1), datetime.datetime(2200, 1, 1)), min_size=1, max_size=9))
def test_parts_are_those_of_the_calendar(times: list[datetime.datetime]) -> None:
    anchors = [datetime.datetime(1999, 1, 1), datetime.datetime(2001, 12, 30, 23, 59, 58)]
    given = np.array([*anchors, *times], "datetime64[us]")
    fitted = fit_preprocessing({"when": given}, RULES)
    x = fitted.transform({"when": given})
    micros = given.astype(np.int64).astype(np.float64)
    assert_allclose(x[:, 0], (micros - micros.mean()) / micros.std(), rtol=1e-9, atol=1e-9)
    for row, time in enumerate([*anchors, *times]):
        angles = [2 * math.pi * position for position in positions(time).values()]
        expected = [function(angle) for angle in angles for function in (math.sin, math.cos)]
        assert_allclose(x[row, 1:], expected, atol=1e-9)


def test_names_and_constant_parts() -> None:
    fitted = fit_preprocessing({"when": SECONDS, "x": np.arange(ROWS)}, {"when": Dates(missing="mark")})
    names = ["when elapsed", "when month sin", "when month cos", "when weekday sin", "when weekday cos"]
    assert fitted.output_names == ["x", *names, "when hour sin", "when hour cos", "when is missing"]
    assert fitted.timestamps == ["when"]
    days = {"when": SECONDS.astype("datetime64[D]"), "then": np.full(ROWS, SECONDS[0])}
    fitted = fit_preprocessing(days, {"when": Dates(), "then": Dates()})
    assert fitted.output_names == names
    assert fitted.constant_columns == ["then"]


def test_missing_values() -> None:
    when = pd.Series(SECONDS).astype("datetime64[s]")
    when[3] = None
    with pytest.raises(gf.DataError, match="column 'when' has no value in row 3"):
        fit_preprocessing({"when": when}, RULES)
    filled = fit_preprocessing({"when": when}, {"when": Dates(missing="fill")})
    marked = fit_preprocessing({"when": when}, {"when": Dates(missing="mark")})
    assert (filled.transform({"when": when})[3] == 0).all()
    assert_array_equal(marked.transform({"when": when})[:, :-1], filled.transform({"when": when}))
    assert_array_equal(marked.transform({"when": when})[:, -1], np.arange(ROWS) == 3)
    for nothing in (
        [None],
        [float("nan")],
        [pd.NaT],
        [pd.NA],
        np.array(["NaT"], "datetime64[s]"),
        [np.datetime64("NaT")],
    ):
        assert marked.transform({"when": nothing})[0, -1] == 1
    with pytest.raises(gf.DataError, match="column 'when' has no value in any row"):
        fit_preprocessing({"when": [None, None], "x": [1, 2]}, {"when": Dates(missing="mark")})


def as_sources(times: np.ndarray) -> dict[str, Any]:
    """The same times, all after 1970, in every form."""
    objects = times.astype("datetime64[us]").astype(object)
    in_utc = [time.replace(tzinfo=datetime.UTC) for time in objects]
    elsewhere = [time.astimezone(datetime.timezone(datetime.timedelta(hours=5, minutes=30))) for time in in_utc]
    series = pd.Series(times.astype("datetime64[ns]"))
    return {
        **{f"numpy {unit}": times.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")},
        "datetime": list(objects),
        "zoned datetime": elsewhere,
        "objects": np.array(list(objects), object),
        "ISO 8601": [time.isoformat() for time in objects],
        "ISO 8601 with a blank": [str(time) for time in objects],
        "ISO 8601 with a zone": [time.isoformat() for time in elsewhere],
        "ISO 8601 in UTC": [f"{time.isoformat()}Z" for time in objects],
        "pandas": series,
        "pandas zoned": series.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        "pandas objects": series.astype(object),
        "pandas Arrow": series.astype("timestamp[us][pyarrow]"),
        "pandas Arrow zoned": series.dt.tz_localize("UTC").astype("timestamp[ms, tz=Asia/Tokyo][pyarrow]"),
        "polars": pl.Series(list(objects)),
        "polars zoned": pl.Series(in_utc).dt.convert_time_zone("Asia/Tokyo"),
        "pyarrow": pa.array(list(objects), pa.timestamp("ms")),
        "pyarrow zoned": pa.array(in_utc, pa.timestamp("us", tz="Asia/Tokyo")),
        "pyarrow chunks": pa.chunked_array([pa.array(list(objects), pa.timestamp("s"))]),
    }


def test_every_source_and_unit_gives_the_same_numbers() -> None:
    fitted = fit_preprocessing({"when": SECONDS}, RULES)
    expected = fitted.transform({"when": SECONDS})
    for name, column in as_sources(SECONDS).items():
        assert fit_preprocessing({"when": column}, RULES) == fitted, name
        assert_array_equal(fitted.transform({"when": column}), expected, name)
    for frame in (
        pd.DataFrame({"when": SECONDS}),
        pl.DataFrame({"when": list(SECONDS.astype(object))}),
        pa.table({"when": SECONDS}),
    ):
        assert_array_equal(fitted.transform(frame), expected)
    assert_array_equal(fit_preprocessing(SECONDS[:, None], {0: Dates(PARTS)}).transform(SECONDS[:, None]), expected)


def test_dates_are_midnights() -> None:
    days = SECONDS.astype("datetime64[D]")
    expected = fit_preprocessing({"when": days}, RULES).transform({"when": days})
    for column in (
        days.astype(object),
        [str(day) for day in days],
        pa.array(days.astype(object)),
        pa.array(days.astype(object), pa.date64()),
        pl.Series(days.astype(object)),
        pd.Series(days.astype("datetime64[s]")),
    ):
        assert_array_equal(fit_preprocessing({"when": column}, RULES).transform({"when": column}), expected)


def test_times_finer_than_microseconds_are_rounded_down() -> None:
    for nanoseconds in (-1, -999, -1000, 1, 999, 1001):
        time = np.array([nanoseconds, 0, 10**18], "datetime64[ns]")
        rounded = np.array([nanoseconds // 1000, 0, 10**15], "datetime64[us]")
        rule = {"t": Dates(["elapsed", "minute"])}
        assert_array_equal(
            fit_preprocessing({"t": time}, rule).transform({"t": time}),
            fit_preprocessing({"t": rounded}, rule).transform({"t": rounded}),
        )


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["2024-01-31", "yesterday"], "holds 'yesterday' in row 1, which is not a timestamp"),
        (["2024-01-31", "2024-02-30"], "holds '2024-02-30' in row 1, which is not"),
        (["2024-01-31", ""], "holds '' in row 1"),
        ([datetime.date(2024, 1, 1), 5], "holds 5 in row 1"),
        ([datetime.date(2024, 1, 1), datetime.time(5)], "holds datetime.time"),
        (np.array([20240131, 20240201]), "holds 20240131 in row 0, which is not a timestamp"),
        (np.array([1.5, 2]), "holds 1.5 in row 0"),
        (np.array([True, False]), "holds .*True.* in row 0"),
        (pd.Series(pd.to_timedelta(["1 day", "2 days"])), "in row 0, which is not a timestamp"),
        (["2024-01-31T00:00Z", "2024-01-31"], "with a time zone in row 0 and one without in row 1"),
        (np.array(["9999999", "1"], "datetime64[Y]"), "holds '9999999' in row 0"),
        ([b"2024-01-31", b"2024-02-28"], "in row 0, which is not a timestamp"),
    ],
)
def test_what_is_no_timestamp_is_refused(column: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=f"column 'when' .*{message}"):
        fit_preprocessing({"when": column}, RULES)
    fitted = fit_preprocessing({"when": SECONDS[:2]}, RULES)
    with pytest.raises(gf.DataError, match=f"column 'when' .*{message}"):
        fitted.transform({"when": column})


def test_bad_settings_are_refused() -> None:
    for make, message in (
        (lambda: Dates(["moon"]), "unknown part of a timestamp 'moon'"),
        (lambda: Dates([]), "parts must name at least one part"),
        (lambda: Dates("month"), "parts must be a list of parts"),
        (lambda: Dates(["month", "month"]), "parts must be different"),
        (lambda: Dates(missing="drop"), "unknown missing 'drop'"),
    ):
        with pytest.raises(gf.DataError, match=message):
            make()
    config = fit_preprocessing({"when": SECONDS}, RULES).config()
    assert Preprocessing.from_config(json.loads(json.dumps(config))) == fit_preprocessing({"when": SECONDS}, RULES)
    for damage in ({"parts": ["moon"]}, {"scale": 0.0}, {"center": math.nan}, {"missing": "x"}):
        config["columns"] = [config["columns"][0] | damage]
        with pytest.raises(gf.DataError):
            Preprocessing.from_config(config)
        config = fit_preprocessing({"when": SECONDS}, RULES).config()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_streams_have_the_statistics_of_the_whole(sizes: list[int]) -> None:
    x = np.resize(SECONDS, sum(sizes) + 2)[:, None]
    ends = np.cumsum([2, *sizes])[:-1]
    parts = [(part, np.zeros(len(part))) for part in np.split(x, ends)]
    streamed = fit_preprocessing(Batches(lambda: parts), {0: Dates(PARTS)})
    whole = fit_preprocessing(x, {0: Dates(PARTS)})
    assert_allclose(streamed.transform(x), whole.transform(x), rtol=1e-9, atol=1e-9)


def trained(source: Any, backend_name: str, *targets: Any) -> gf.Sequential:
    preprocessing = fit_preprocessing(source, {"when": Dates()})
    network = gf.MLP([preprocessing.n_out, 8, 1], preprocessing=preprocessing, backend=backend_name)
    gf.Trainer(network, "mean_squared_error", "adam").fit(source, *targets, epochs=2, batch_size=32, progress=False)
    return network


def test_files_train_as_tables(backend_name: str, tmp_path: Path) -> None:
    y = (SECONDS.astype("datetime64[D]").astype(int) % 7).astype(float)
    pa.parquet.write_table(pa.table({"when": SECONDS, "y": y}), tmp_path / "rows.parquet")
    table = pa.table({"when": pa.array(SECONDS.astype("datetime64[ms]"), pa.timestamp("ms", tz="UTC")), "y": y})
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    lines = [f"{str(time).replace('T', ' ')},{target}" for time, target in zip(SECONDS, y, strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["when,y", *lines]))
    expected = trained({"when": SECONDS}, backend_name, y)
    for source in (
        Parquet(tmp_path / "rows.parquet", target="y"),
        Arrow(tmp_path / "rows.arrow", target="y"),
        CSV(tmp_path / "rows.csv", target="y"),
    ):
        network = trained(source, backend_name)
        assert network.preprocessing == expected.preprocessing
        assert_array_equal(network.predict(source), network.predict({"when": SECONDS}))
    with pytest.raises(
        gf.DataError, match=r"rows.parquet: column 'when' holds times \(type timestamp\[\w+\]\); the rule"
    ):
        fit_preprocessing(Parquet(tmp_path / "rows.parquet", target="y"))
    with pytest.raises(gf.DataError, match=r"column 'when' of .* has type timestamp"):
        Parquet(tmp_path / "rows.parquet", target="when")


def test_it_is_saved_and_copied_with_the_network(backend_name: str, tmp_path: Path) -> None:
    network = trained({"when": SECONDS}, backend_name, np.arange(ROWS) / ROWS)
    gf.save(network, tmp_path / "model")
    twins = (gf.load(tmp_path / "model", backend=backend_name), network.copy(), pickle.loads(pickle.dumps(network)))
    for twin in twins:
        assert twin.preprocessing == network.preprocessing
        assert twin.predict({"when": SECONDS}).tobytes() == network.predict({"when": SECONDS}).tobytes()
    with pytest.raises(gf.DataError, match=re.escape("column 'when' holds 'x' in row 0, which is not a timestamp")):
        network.predict({"when": ["x"]})
    with pytest.raises(gf.DataError, match="column 'when' is missing from x"):
        network.predict({"then": SECONDS})


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "of Python", "blocks"])
def test_a_rule_for_all_columns_of_times(kind: str) -> None:
    days = SECONDS.astype("datetime64[D]")
    table = pd.DataFrame({"a": np.arange(ROWS), "when": SECONDS, "day": days, "text": days.astype(str)})
    given: Any = {
        "pandas": table,
        "polars": pl.from_pandas(table),
        "pyarrow": pa.Table.from_pandas(table),
        "of Python": table.assign(day=table["day"].dt.date),
        "blocks": Batches(
            lambda: ((table[first : first + 50], np.zeros(len(table[first : first + 50]))) for first in (0, 50, 100))
        ),
    }[kind]
    rules = {"when": Dates(("hour",)), "text": gf.data.OneHot()}
    preprocessing = fit_preprocessing(given, rules, times=Dates(("elapsed",)))
    assert preprocessing.output_names[:4] == ["a", "when hour sin", "when hour cos", "day elapsed"]
    elapsed = SECONDS.astype("datetime64[D]").astype(np.float64)
    expected = (elapsed - elapsed.mean()) / elapsed.std()
    rows = preprocessing.transform(table)
    assert_allclose(rows[:, 3], expected, rtol=1e-5, atol=1e-6)


def test_only_times_are_columns_of_times() -> None:
    for values in (pd.to_timedelta(np.arange(4), "D"), [datetime.time(hour) for hour in range(4)]):
        with pytest.raises(gf.DataError, match=r"'a' holds (times|durations)"):
            fit_preprocessing(pd.DataFrame({"a": values}), times=Dates())
    with pytest.raises(gf.DataError, match="times must be an object such as"):
        fit_preprocessing(pd.DataFrame({"a": SECONDS}), times="dates")  # type: ignore[arg-type]
