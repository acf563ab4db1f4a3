"""Timestamps as nodes of ONNX: the parts of `gradflow.data.Dates` from microseconds since 1970, in integers."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gradflow.data.dates import DateColumn
from gradflow.export.onnx_graph import OnnxGraph

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_DAYS_OF_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MISSING_TIME = np.iinfo(np.int64).min
"""The integer that NumPy stores for NaT."""


def add_dates(graph: OnnxGraph, column: DateColumn, x: str) -> list[str]:
    """Return the inputs of the network for timestamps x, int64 of shape (batch, 1)."""
    missing = graph("Equal", x, graph.constant(MISSING_TIME, np.int64))
    if column.missing == "refuse":
        graph.refuse(missing)
    times = graph("Where", missing, graph.constant(0, np.int64), x)
    calendar, zero = _Calendar(graph, times), graph.constant(0, np.float64)
    numbers = []
    for part in column.parts:
        if part == "elapsed":
            shifted = graph("Sub", graph.cast(times, np.float64), graph.constant(column.center, np.float64))
            numbers.append(graph("Div", shifted, graph.constant(column.scale, np.float64)))
        else:
            angle = graph("Mul", getattr(calendar, part), graph.constant(2 * np.pi, np.float64))
            numbers += [graph("Sin", angle), graph("Cos", angle)]
    parts = [graph("Where", missing, zero, number) for number in numbers]
    return [*parts, graph.cast(missing, np.float64)] if column.missing == "mark" else parts


class _Calendar:
    """The position of times in each cycle, from 0 up to 1, under the name of the part.

    The date is found in years that begin in March, where the leap day is the last one. These repeat after 400 years,
    which have 146,097 days: H. Hinnant, "chrono-compatible low-level date algorithms" (2021).
    """

    def __init__(self, graph: OnnxGraph, times: str) -> None:
        self._graph, self._times = graph, times

    def _do(self, operator: str, value: str, number: int) -> str:
        return self._graph(operator, value, self._graph.constant(number, np.int64))

    def _floor(self, value: str, number: int) -> str:
        """Return the quotient, rounded down."""
        return self._do("Div", self._graph("Sub", value, self._do("Mod", value, number)), number)

    def _ratio(self, value: str, of: str | int) -> str:
        graph = self._graph
        whole = graph.constant(of, np.float64) if isinstance(of, int) else graph.cast(of, np.float64)
        return graph("Div", graph.cast(value, np.float64), whole)

    @cached_property
    def _day(self) -> str:
        return self._floor(self._times, _DAY)

    @cached_property
    def _day_of_400_years(self) -> str:
        # From 0000-03-01 to 1970-01-01 there are 719,468 days.
        return self._do("Mod", self._do("Add", self._day, 719_468), 146_097)

    @cached_property
    def _year_of_400(self) -> str:
        """The year, from 0, that began in March."""
        day = self._day_of_400_years
        without_leap_days = self._graph("Sub", day, self._do("Div", day, 1_460))
        without_leap_days = self._graph("Add", without_leap_days, self._do("Div", day, 36_524))
        return self._do("Div", self._graph("Sub", without_leap_days, self._do("Div", day, 146_096)), 365)

    @cached_property
    def _day_since_march(self) -> str:
        year = self._year_of_400
        days = self._graph("Add", self._do("Mul", year, 365), self._do("Div", year, 4))
        return self._graph("Sub", self._day_of_400_years, self._graph("Sub", days, self._do("Div", year, 100)))

    @cached_property
    def _month_since_march(self) -> str:
        return self._do("Div", self._do("Add", self._do("Mul", self._day_since_march, 5), 2), 153)

    @cached_property
    def _month(self) -> str:
        return self._do("Mod", self._do("Add", self._month_since_march, 2), 12)

    @cached_property
    def _leap_day(self) -> str:
        """1 in a leap year, else 0."""
        graph = self._graph
        begins_after = graph.cast(self._do("Less", self._month, 2), np.int64)
        year = self._do("Mod", graph("Add", self._year_of_400, begins_after), 400)
        is_fourth, is_hundredth, is_first = (
            self._do("Equal", self._do("Mod", year, number), 0) for number in (4, 100, 400)
        )
        is_leap = graph("Or", graph("And", is_fourth, graph("Not", is_hundredth)), is_first)
        return graph.cast(is_leap, np.int64)

    @property
    def year(self) -> str:
        graph, since_march = self._graph, self._day_since_march
        # January and February are the last 59 or 60 days of a year that begins in March, from day 306 on.
        early = self._do("Sub", since_march, 306)
        late = graph("Add", self._do("Add", since_march, 59), self._leap_day)
        day = graph("Where", self._do("Less", self._month, 2), early, late)
        return self._ratio(day, self._do("Add", self._leap_day, 365))

    @property
    def month(self) -> str:
        return self._ratio(self._month, 12)

    @property
    def day(self) -> str:
        graph, month = self._graph, self._month_since_march
        before = self._do("Div", self._do("Add", self._do("Mul", month, 153), 2), 5)
        is_february = graph.cast(self._do("Equal", self._month, 1), np.int64)
        days = graph("Gather", graph.constant(_DAYS_OF_MONTHS, np.int64), self._month, axis=0)
        days = graph("Add", days, graph("Mul", is_february, self._leap_day))
        return self._ratio(graph("Sub", self._day_since_march, before), days)

    @property
    def weekday(self) -> str:
        return self._ratio(self._do("Mod", self._do("Add", self._day, 3), 7), 7)

    @property
    def hour(self) -> str:
        return self._ratio(self._do("Mod", self._times, _DAY), _DAY)

    @property
    def minute(self) -> str:
        return self._ratio(self._do("Mod", self._times, _HOUR), _HOUR)
