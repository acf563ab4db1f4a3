"""A fitted preprocessing as nodes of ONNX: the same arithmetic in float64 as `Preprocessing.transform`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradflow.data.columns import (
    LARGEST_SQUARED,
    CategoryColumn,
    ClippedColumn,
    Column,
    EmbeddingColumn,
    NumberColumn,
    QuantileColumn,
)
from gradflow.data.dates import DateColumn
from gradflow.data.normal_quantiles import CENTER, CENTRAL, LEAST_PROBABILITY, TAIL
from gradflow.data.preprocessing import Preprocessing
from gradflow.errors import DataError
from gradflow.export.onnx_dates import add_dates
from gradflow.export.onnx_graph import ML_DOMAIN, OnnxGraph

ONE_TENSOR = "x"
"""The name of the only input of a graph whose columns have no names."""


class Input(NamedTuple):
    """An input of the graph.

    Attributes:
        name: its name.
        dtype: its dtype; object for text.
        width: its number of columns.
    """

    name: str
    dtype: np.dtype
    width: int


def inputs_of(preprocessing: Preprocessing, feature_names: tuple[str, ...] | None) -> list[Input]:
    """Return the inputs of the graph: one tensor if the columns have no names and all hold numbers, else one for each.

    Raises:
        DataError: if a column has an empty name, which ONNX does not allow.
    """
    dtypes = list(map(_dtype, preprocessing.columns))
    if feature_names is None and set(dtypes) == {np.dtype(np.float64)}:
        return [Input(ONE_TENSOR, dtypes[0], len(dtypes))]
    if "" in preprocessing.names:
        raise DataError("a column without a name cannot be an input of an ONNX model; give each column a name")
    return [Input(name, dtype, 1) for name, dtype in zip(preprocessing.names, dtypes, strict=True)]


def _dtype(column: Column) -> np.dtype:
    if isinstance(column, DateColumn):
        return np.dtype(np.int64)
    is_text = isinstance(column, CategoryColumn | EmbeddingColumn) and column.is_text
    return np.dtype(object if is_text else np.float64)


def add_preprocessing(graph: OnnxGraph, preprocessing: Preprocessing, inputs: list[Input]) -> str:
    """Add the nodes that turn the inputs of the graph into those of the network, and return their name."""
    if len(inputs) == len(preprocessing.names):
        values = {entry.name: entry.name for entry in inputs}
    else:
        values = {name: graph.columns(ONE_TENSOR, [place]) for place, name in enumerate(preprocessing.names)}
    columns = dict(zip(preprocessing.names, preprocessing.columns, strict=True))
    numbers = {values[name]: column for name, column in columns.items() if isinstance(column, NumberColumn)}
    parts = _numbers(graph, numbers) if numbers else []
    for kind, add in _PARTS.items():
        for name, column in columns.items():
            if isinstance(column, kind):
                parts += add(graph, column, values[name])
    return graph.cast(graph("Concat", *parts, axis=1), graph.dtype)


def _numbers(graph: OnnxGraph, columns: dict[str, NumberColumn]) -> list[str]:
    """Return the scaled numbers, and the indicators of missing ones."""
    fitted = list(columns.values())
    center, scale = (np.array([getattr(column, key) for column in fitted]) for key in ("center", "scale"))
    may_miss = np.array([column.missing != "refuse" for column in fitted])
    numbers = graph("Concat", *columns, axis=1)
    missing = graph("IsNaN", numbers)
    replaced = graph("And", missing, graph.constant(may_miss, np.bool_))
    filled = graph("Where", replaced, graph.constant(center, np.float64), numbers)
    graph.check_finite(filled)
    parts = []
    if len(varying := np.flatnonzero(scale > 0)):
        shifted = graph("Sub", graph.columns(filled, varying), graph.constant(center[varying], np.float64))
        scaled = graph("Div", shifted, graph.constant(scale[varying], np.float64))
        of_scaled = [fitted[place] for place in varying]
        parts.append(_ranked(graph, of_scaled, graph.columns(filled, varying), _clipped(graph, of_scaled, scaled)))
    if marked := [place for place, column in enumerate(fitted) if column.missing == "mark"]:
        parts.append(graph.cast(graph.columns(missing, marked), np.float64))
    return parts


def _clipped(graph: OnnxGraph, columns: list[NumberColumn], scaled: str) -> str:
    """Return the scaled numbers, those of `ClippedColumn` clipped smoothly."""
    limits = np.array([column.limit if isinstance(column, ClippedColumn) else np.nan for column in columns])
    is_clipped = ~np.isnan(limits)
    if not is_clipped.any():
        return scaled
    clipped = _smoothly_clipped(graph, scaled, graph.constant(np.where(is_clipped, limits, 1), np.float64))
    return graph("Where", graph.constant(is_clipped, np.bool_), clipped, scaled)


def _smoothly_clipped(graph: OnnxGraph, x: str, limit: str) -> str:
    """Add `gradflow.data.columns.smoothly_clipped`."""
    least, most = (graph.constant(bound, np.float64) for bound in (-LARGEST_SQUARED, LARGEST_SQUARED))
    size = graph("Clip", graph("Div", x, limit), least, most)
    root = graph("Sqrt", graph("Add", graph("Mul", size, size), graph.constant(1, np.float64)))
    return graph("Mul", limit, graph("Div", size, root))


def _ranked(graph: OnnxGraph, columns: list[NumberColumn], numbers: str, scaled: str) -> str:
    """Return the scaled numbers, with those of `QuantileColumn` in place of theirs."""
    ranked = {place: column for place, column in enumerate(columns) if isinstance(column, QuantileColumn)}
    if not ranked:
        return scaled
    parts = [_rank(graph, column, graph.columns(numbers, [place])) for place, column in ranked.items()]
    fractions = graph("Concat", *parts, axis=1)
    order = [len(columns) + list(ranked).index(place) if place in ranked else place for place in range(len(columns))]
    return graph.columns(graph("Concat", scaled, _normal_quantile(graph, fractions), axis=1), order)


def _rank(graph: OnnxGraph, column: QuantileColumn, x: str) -> str:
    """Return the fraction of the training data below x (batch, 1), as `QuantileColumn.ranked` finds it."""
    found, least, most = column.knots

    def constant(values: Any) -> str:
        return graph.constant(values, np.float64)

    at_least = graph.cast(graph("GreaterOrEqual", x, constant(found[None, 1:-1])), np.float64)
    place = graph.cast(graph("ReduceSum", at_least, graph.constant([1], np.int64), keepdims=1), np.int64)
    start, width, first, step, middle = (
        graph("Gather", constant(values), place, axis=0)
        for values in (found[:-1], np.diff(found), most[:-1], least[1:] - most[:-1], (least + most)[:-1] / 2)
    )
    within = graph("Sub", graph("Clip", x, constant(found[0]), constant(found[-1])), start)
    between = graph("Add", first, graph("Mul", graph("Div", within, width), step))
    fraction = graph("Where", graph("Equal", x, start), middle, between)
    fraction = graph("Where", graph("GreaterOrEqual", x, constant(found[-1])), constant(1), fraction)
    return graph("Where", graph("LessOrEqual", x, constant(found[0])), constant(0), fraction)


def _normal_quantile(graph: OnnxGraph, p: str) -> str:
    """Add `gradflow.data.normal_quantiles.normal_quantile`."""

    def constant(value: float) -> str:
        return graph.constant(value, np.float64)

    def ratio(polynomials: tuple[Sequence[float], Sequence[float]], x: str) -> str:
        values = []
        for coefficients in polynomials:
            value = constant(0)
            for coefficient in coefficients:
                value = graph("Add", graph("Mul", value, x), constant(coefficient))
            values.append(value)
        return graph("Div", *values)

    p = graph("Clip", p, constant(LEAST_PROBABILITY), constant(1 - LEAST_PROBABILITY))
    q = graph("Sub", p, constant(0.5))
    square = graph("Min", graph("Mul", q, q), constant(CENTRAL**2))
    center = graph("Mul", q, ratio(CENTER, graph("Sub", constant(CENTRAL**2), square)))
    smaller = graph("Min", p, graph("Sub", constant(1), p))
    root = graph("Sqrt", graph("Neg", graph("Log", smaller)))
    tail = graph("Mul", graph("Sign", q), ratio(TAIL, graph("Sub", root, constant(1.6))))
    return graph("Where", graph("LessOrEqual", graph("Abs", q), constant(CENTRAL)), center, tail)


def _place(graph: OnnxGraph, column: CategoryColumn | EmbeddingColumn, x: str) -> str:
    """Return the place of each value among the categories: -1 for others, and their number for a missing value.

    ONNX has no missing text, so the empty text stands for it, unless it is a category.
    """
    n = len(column.categories)
    if column.is_text:
        keys: list[Any] = [*column.categories, *([] if "" in column.categories else [""])]
        numbers = {"keys_strings": keys, "values_int64s": list(range(len(keys))), "default_int64": -1}
        return graph("LabelEncoder", x, domain=ML_DOMAIN, **numbers)
    from onnx import numpy_helper

    encoder = {
        "keys_tensor": numpy_helper.from_array(np.array(column.categories, np.float64), "keys"),
        "values_tensor": numpy_helper.from_array(np.arange(n, dtype=np.float64), "values"),
        "default_tensor": numpy_helper.from_array(np.array([-1.0]), "default"),
    }
    # Minus zero is the same number as zero, and a different key.
    known = graph("LabelEncoder", graph("Add", x, graph.constant(0, np.float64)), domain=ML_DOMAIN, **encoder)
    graph.refuse(graph("IsInf", x))
    place = graph("Where", graph("IsNaN", x), graph.constant(n, np.float64), known)
    return graph.cast(place, np.int64)


def _refuse_place(graph: OnnxGraph, place: str, number: int) -> None:
    graph.refuse(graph("Equal", place, graph.constant(number, np.int64)))


def _one_hot(graph: OnnxGraph, column: CategoryColumn, x: str) -> list[str]:
    n, place = len(column.categories), _place(graph, column, x)
    if column.missing == "refuse":
        _refuse_place(graph, place, n)
    if column.unknown == "refuse":
        _refuse_place(graph, place, -1)
    inputs = np.arange(n - len(column.labels), n + (column.missing == "mark"))
    if not len(inputs):
        return []
    coded = graph.cast(graph("Equal", place, graph.constant(inputs, np.int64)), np.float64)
    if column.has_sign:
        is_first = graph.cast(graph("Equal", place, graph.constant(0, np.int64)), np.float64)
        by_input = graph.constant(np.arange(len(inputs)) == 0, np.float64)
        coded = graph("Sub", coded, graph("Mul", is_first, by_input))
    if column.clip is None:
        return [coded]
    centers, scales = (graph.constant(values, np.float64) for values in (column.centers, column.scales))
    scaled = graph("Div", graph("Sub", coded, centers), scales)
    return [_smoothly_clipped(graph, scaled, graph.constant(column.clip, np.float64))]


def _numbered(graph: OnnxGraph, column: EmbeddingColumn, x: str) -> list[str]:
    place, n = _place(graph, column, x), graph.constant(len(column.categories), np.int64)
    if column.missing == "refuse":
        _refuse_place(graph, place, len(column.categories))
    if column.missing == "fill":
        place = graph("Where", graph("Equal", place, n), graph.constant(-1, np.int64), place)
    return [graph.cast(graph("Add", place, graph.constant(1, np.int64)), np.float64)]


_PARTS: dict[type[Column], Callable[[OnnxGraph, Any, str], list[str]]] = {
    DateColumn: add_dates,
    CategoryColumn: _one_hot,
    EmbeddingColumn: _numbered,
}
"""The functions that add the inputs made of a column, in the order of these inputs."""
