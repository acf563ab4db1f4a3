"""`Dates`: the rule that expands timestamps into numbers, and the column that it fits."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradflow.checks import known_name, sequence
from gradflow.data.columns import MISSING, Column, refuse_missing
from gradflow.data.frames import is_missing
from gradflow.data.rules import ColumnFit, ColumnRule, Moments
from gradflow.data.where import Where
from gradflow.errors import DataError, shown

_ELAPSED = "elapsed"
_MICROSECONDS = "datetime64[us]"
_DAY = 86_400_000_000
"""Microseconds."""


# -- timestamps -------------------------------------------------------------------------------------------------------


def as_times(name: str, values: np.ndarray, where: Where) -> np.ndarray:
    """Convert a column to datetime64[us]: times with a time zone in UTC, others as they are, missing values as NaT.

    Args:
        name: the name of the column.
        values: datetime64 of any unit; or objects: dates and times of Python, NumPy and pandas, ISO 8601 text, None.
        where: the rows' origin, for error messages.

    Raises:
        DataError: naming the first value that is not a timestamp.
    """
    if values.dtype.kind == "M":
        return _in_microseconds(name, values, where)
    if values.dtype.kind == "f" and np.isnan(values).all():
        return np.full(len(values), "NaT", _MICROSECONDS)
    times: list[datetime.datetime | None] = []
    zones: dict[bool, int] = {}
    for place, value in enumerate(values):
        try:
            time = None if is_missing(value) else as_datetime(value)
        except (ValueError, OverflowError):
            given = value.item() if isinstance(value, np.number) else value
            raise _no_timestamp(name, given, where.row(place)) from None
        if time is not None:
            zones.setdefault(time.tzinfo is not None, place)
            time = time if time.tzinfo is None else time.astimezone(datetime.UTC).replace(tzinfo=None)
        times.append(time)
    if len(zones) > 1:
        raise DataError(
            f"column {name!r} holds a time with a time zone in {where.row(zones[True])} and one without in "
            f"{where.row(zones[False])}; write all of them with a time zone, or none"
        )
    return np.array(times, _MICROSECONDS)


def as_datetime(value: Any) -> datetime.datetime:
    """Convert an object to a time.

    Raises:
        ValueError, OverflowError: if it is not a date, a time, or text of one in ISO 8601.
    """
    if isinstance(value, np.datetime64):
        value = value.astype(_MICROSECONDS).item()
    if isinstance(value, str):
        return datetime.datetime.fromisoformat(value.strip())
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    raise ValueError(value)


def _in_microseconds(name: str, values: np.ndarray, where: Where) -> np.ndarray:
    with np.errstate(all="ignore"):
        times = values.astype(_MICROSECONDS)
        # Finer units are rounded down; coarser ones must come back, or they were too large.
        is_coarser = np.promote_types(values.dtype, _MICROSECONDS) == np.dtype(_MICROSECONDS)
        wrong = (times.astype(values.dtype) != values) & ~np.isnat(values)
    if is_coarser and wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise _no_timestamp(name, str(values[place]), where.row(place))
    return times


def _no_timestamp(name: str, value: Any, row: str) -> DataError:
    return DataError(
        f"column {name!r} holds {shown(value)} in {row}, which is not a timestamp; expected a date or time, or text "
        "such as 2024-01-31 or 2024-01-31T12:30 (ISO 8601). Convert it (pandas.to_datetime); in a CSV file, text= "
        "declares a column of digits to be text, and na_values= what stands for a missing value"
    )


# -- parts ------------------------------------------------------------------------------------------------------------


def _since(times: np.ndarray, unit: str) -> np.ndarray:
    """Return the time since the last beginning of a unit, in microseconds."""
    since: np.ndarray = (times - times.astype(f"datetime64[{unit}]")).astype(np.float64)
    return since


def _day_of(times: np.ndarray, unit: str) -> np.ndarray:
    """Return the day of the year ("Y") or month ("M"), counted from 0, divided by its number of days."""
    units = times.astype(f"datetime64[{unit}]")
    days = (units + 1).astype("datetime64[D]") - units.astype("datetime64[D]")
    fraction: np.ndarray = np.floor(_since(times, unit) / _DAY) / days.astype(np.float64)
    return fraction


_CYCLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "year": lambda times: _day_of(times, "Y"),
    "month": lambda times: times.astype("datetime64[M]").astype(np.int64) % 12 / 12,
    "day": lambda times: _day_of(times, "M"),
    # 1970-01-01, day 0, was a Thursday.
    "weekday": lambda times: (times.astype("datetime64[D]").astype(np.int64) + 3) % 7 / 7,
    "hour": lambda times: _since(times, "D") / _DAY,
    "minute": lambda times: _since(times, "h") / (_DAY / 24),
}
"""The position of a time in each cycle, from 0 up to 1."""


def _known(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the times with 1970 in place of missing ones, and where these are."""
    missing = np.isnat(times)
    return np.where(missing, np.datetime64(0, "us"), times), missing


@dataclass(frozen=True)
class DateColumn(Column):
    """Timestamps, expanded into numbers (`Dates`).

    Attributes:
        parts: those that were not constant in training.
        center: the mean of the elapsed time, in microseconds since 1970.
        scale: its standard deviation; above 0 if "elapsed" is among the parts.
        missing: "refuse"; "fill" sets all inputs of the column to 0; "mark" also adds an input that is 1 where a value
            is missing.
    """

    kind: ClassVar[str] = "date"
    parts: tuple[str, ...]
    center: float = 0.0
    scale: float = 0.0
    missing: str = "refuse"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _checked_parts(self.parts))
        is_scale = self.scale > 0 if _ELAPSED in self.parts else self.scale >= 0
        if not (np.isfinite([self.center, self.scale]).all() and is_scale):
            raise DataError(f"center and scale must be finite, and scale above 0 for elapsed time, got {self!r}")
        known_name("missing", self.missing, MISSING)

    def output_names(self, name: str) -> list[str]:
        """Return a name for each input, such as "sold elapsed", "sold month sin", "sold month cos"."""
        names = []
        for part in self.parts:
            names += [f"{name} {part}"] if part == _ELAPSED else [f"{name} {part} sin", f"{name} {part} cos"]
        return [*names, f"{name} is missing"] if self.missing == "mark" else names

    def transform(self, name: str, values: np.ndarray, where: Where) -> np.ndarray:
        """Return the inputs for a column of timestamps, float64 of shape (rows, inputs)."""
        times, missing = _known(as_times(name, values, where))
        refuse_missing(name, missing, where, self.missing)
        inputs = []
        for part in self.parts:
            if part == _ELAPSED:
                inputs.append((times.astype(np.int64) - self.center) / self.scale)
            else:
                angle = 2 * np.pi * _CYCLES[part](times)
                inputs += [np.sin(angle), np.cos(angle)]
        numbers = [np.where(missing, 0, values_of_part) for values_of_part in inputs]
        numbers += [missing.astype(np.float64)] if self.missing == "mark" else []
        return np.stack(numbers, axis=1) if numbers else np.empty((len(times), 0))


class Dates(ColumnRule):
    """Expand timestamps into numbers: the elapsed time, and positions in cycles such as the week.

    The elapsed time is standardized to mean 0 and standard deviation 1 on the training data. A position p in a cycle,
    from 0 up to 1, becomes two inputs, sin 2πp and cos 2πp, so that its end is as near to its beginning as any other
    two neighbors. A part that is constant in the training data is dropped.

    | part | p |
    | --- | --- |
    | "year" | (day of the year - 1) / days of the year |
    | "month" | (month - 1) / 12 |
    | "day" | (day of the month - 1) / days of the month |
    | "weekday" | days since Monday / 7 |
    | "hour" | time since midnight / 24 hours |
    | "minute" | time since the full hour / 60 minutes |

    Timestamps are those of NumPy, Python, pandas, polars, pyarrow and Parquet, dates, and text in ISO 8601, such as
    2024-01-31, 2024-01-31T12:30:00 or 2024-01-31 12:30+01:00. Those with a time zone are converted to UTC, others are
    taken as they are. All are used to the microsecond, so that their unit makes no difference.

    Args:
        parts: the parts, in the order of the inputs: "elapsed", and those above.
        missing: "refuse" missing values; "fill" with 0 in all inputs, the mean time and the center of the circles; or
            "mark" them in an extra input.
    """

    def __init__(self, parts: Sequence[str] = (_ELAPSED, "month", "weekday", "hour"), missing: str = "refuse") -> None:
        self.parts = _checked_parts(parts)
        if not self.parts:
            raise DataError(f"parts must name at least one part, such as {_ELAPSED!r}")
        self.missing = known_name("missing", missing, MISSING)

    def begin(self) -> ColumnFit:
        return _DatesFit(self)

    def __repr__(self) -> str:
        return f"Dates(parts={self.parts!r}, missing={self.missing!r})"


class _DatesFit(ColumnFit):
    def __init__(self, rule: Dates) -> None:
        self._rule = rule
        self._name, self._rows = "", 0
        self._moments = Moments("refuse")
        self._ranges = {part: (np.inf, -np.inf) for part in rule.parts if part != _ELAPSED}

    def update(self, name: str, values: np.ndarray, where: Where) -> None:
        times, missing = _known(as_times(name, values, where))
        refuse_missing(name, missing, where, self._rule.missing)
        times = times[~missing]
        self._name, self._rows = name, self._rows + len(times)
        self._moments.update(name, times.astype(np.int64).astype(np.float64), where)
        for part, (low, high) in self._ranges.items() if len(times) else ():
            positions = _CYCLES[part](times)
            self._ranges[part] = min(low, float(positions.min())), max(high, float(positions.max()))

    def result(self) -> DateColumn:
        if not self._rows:
            raise DataError(f"column {self._name!r} has no value in any row; omit it from the features")
        moments = self._moments.complete()
        std = moments.std
        varying = {part for part, (low, high) in self._ranges.items() if low < high} | ({_ELAPSED} if std else set())
        parts = tuple(part for part in self._rule.parts if part in varying)
        return DateColumn(parts, moments.mean, std, self._rule.missing)


def _checked_parts(parts: Any) -> tuple[str, ...]:
    names = sequence("parts", parts, "a list of parts of a timestamp, such as ['elapsed', 'weekday']")
    found = tuple(known_name("part of a timestamp", part, [_ELAPSED, *_CYCLES]) for part in names)
    if len(set(found)) < len(found):
        raise DataError(f"parts must be different, got {list(found)}")
    return found
