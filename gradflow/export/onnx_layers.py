"""The layers of the catalogue as nodes of ONNX.

Activations are computed in float64, and so are sums over the units of a row. The float32 functions of ONNX runtimes
are approximations that lose all digits where an output is near 0: onnxruntime's sigmoid of -16.7 is wrong by half of
its value. Most of these functions do not exist in float64 there, so they are written in terms of exp and log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from gradflow.errors import GradflowError
from gradflow.export.onnx_graph import OnnxGraph
from gradflow.layers import (
    ACTIVATIONS,
    ELU,
    GELU,
    SELU,
    BatchNorm,
    CosineEmbedding,
    Dense,
    EachMember,
    EmbedColumns,
    Identity,
    Increasing,
    Layer,
    LayerNorm,
    LeakyReLU,
    MeanOfMembers,
    MemberDense,
    MemberScale,
    Mish,
    Parametric,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    ReLU,
    Residual,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from gradflow.layers.gelu import NORMAL_TAIL
from gradflow.layers.selu import NEGATIVE_SCALE, POSITIVE_SCALE
from gradflow.ops import SATURATED

Embedding: TypeAlias = PeriodicEmbedding | PiecewiseLinearEmbedding | CosineEmbedding


def add_layers(graph: OnnxGraph, layers: Sequence[Layer], x: str) -> str:
    """Add the nodes of a stack of layers in prediction, and return the name of its output.

    Raises:
        GradflowError: for a layer that does not define `to_onnx`.
    """
    for layer in layers:
        if layer.training_only:
            continue
        # Exact types only: a subclass may compute something else.
        add = EXPORTERS.get(type(layer))
        x = add(graph, layer, x) if add is not None else _own_layer(graph, layer, x)
    return x


def _own_layer(graph: OnnxGraph, layer: Layer, x: str) -> str:
    methods = type(layer).__mro__
    places = {
        name: next((place for place, parent in enumerate(methods) if name in vars(parent)), len(methods))
        for name in ("to_onnx", "forward", "infer")
    }
    if places["to_onnx"] > min(places["forward"], places["infer"]):
        name = type(layer).__name__
        raise GradflowError(
            f"gradflow cannot write the layer {name} to ONNX. Add a method to {name}: def to_onnx(self, graph, x), "
            "which adds the nodes that compute what infer or forward does, and returns the name of the output, for "
            "example: return graph('Mul', x, graph.constant(2.0))"
        )
    output: str = layer.to_onnx(graph, x)  # type: ignore[attr-defined]
    return output


# -- layers with parameters -------------------------------------------------------------------------------------------


def _parameter(graph: OnnxGraph, layer: Layer, name: str) -> str:
    attached = layer.attached
    assert attached is not None
    return graph.constant({**attached.parameters, **attached.buffers}[name])


def _on_host(value: Any) -> np.ndarray:
    array: np.ndarray = value.get() if hasattr(value, "__cuda_array_interface__") else value
    return array


def _dense(graph: OnnxGraph, layer: Dense, x: str) -> str:
    y = graph("MatMul", x, _parameter(graph, layer, "weight"))
    return graph("Add", y, _parameter(graph, layer, "bias")) if layer.has_bias else y


def _batch_norm(graph: OnnxGraph, layer: BatchNorm, x: str) -> str:
    gamma, variance = (_on_host(array) for array in (layer.gamma, layer.running_variance))
    center = graph("Sub", x, _parameter(graph, layer, "running_mean"))
    scaled = graph("Mul", center, graph.constant(gamma / np.sqrt(variance + layer.epsilon)))
    return graph("Add", scaled, _parameter(graph, layer, "beta"))


def _layer_norm(graph: OnnxGraph, layer: LayerNorm, x: str) -> str:
    axis = graph.constant([1], np.int64)
    wide = graph.cast(x, np.float64)
    center = graph("Sub", wide, graph("ReduceMean", wide, axis, keepdims=1))
    variance = graph("ReduceMean", graph("Mul", center, center), axis, keepdims=1)
    spread = graph("Sqrt", graph("Add", variance, _number(graph, layer.epsilon)))
    normalized = graph.cast(graph("Div", center, spread), graph.dtype)
    scaled = graph("Mul", normalized, _parameter(graph, layer, "gamma"))
    return graph("Add", scaled, _parameter(graph, layer, "beta"))


def _residual(graph: OnnxGraph, layer: Residual, x: str) -> str:
    shortcut = x if layer.projection is None else _dense(graph, layer.projection, x)
    return graph("Add", add_layers(graph, layer.layers, x), shortcut)


def _embed_columns(graph: OnnxGraph, layer: EmbedColumns, x: str) -> str:
    passed = layer.n_in - len(layer.tables)
    parts = [graph.columns(x, range(passed))] if passed else []
    for index, (rows, size) in enumerate(layer.tables):
        given = graph.columns(x, [passed + index])
        within = graph("Clip", given, graph.constant(0), graph.constant(rows - 1))
        # Clip of NaN may be NaN, of which a runtime could make any integer.
        known = graph("Where", graph("IsNaN", within), graph.constant(0), within)
        number = graph.cast(known, np.int64)
        graph.refuse(graph("Not", graph("Equal", graph.cast(number, graph.dtype), given)))
        vectors = graph("Gather", _parameter(graph, layer, f"table_{index}"), number, axis=0)
        parts.append(graph("Reshape", vectors, graph.constant([-1, size], np.int64)))
    return graph("Concat", *parts, axis=1)


def _each_column(graph: OnnxGraph, x: str, columns: int) -> str:
    """The first columns, of shape (rows, columns, 1)."""
    return graph("Reshape", graph.columns(x, range(columns)), graph.constant([-1, columns, 1], np.int64))


def _column_dense(graph: OnnxGraph, layer: Layer, z: str) -> str:
    weight = graph("Transpose", _parameter(graph, layer, "weight"), perm=[0, 2, 1])
    products = graph("MatMul", graph("Transpose", z, perm=[1, 0, 2]), weight)
    return graph("Add", graph("Transpose", products, perm=[1, 0, 2]), _parameter(graph, layer, "bias"))


def _with_others(graph: OnnxGraph, layer: Embedding, x: str, embedded: str) -> str:
    """The embeddings as columns, and then the columns of x that are passed through."""
    flat = graph("Reshape", embedded, graph.constant([-1, layer.columns * layer.size], np.int64))
    others = range(layer.columns, layer.n_in)
    return graph("Concat", flat, graph.columns(x, others), axis=1) if others else flat


def _periodic_embedding(graph: OnnxGraph, layer: PeriodicEmbedding, x: str) -> str:
    numbers = _each_column(graph, x, layer.columns)
    turns = graph("Mul", numbers, _parameter(graph, layer, "frequencies"))
    if layer.phases is not None:
        turns = graph("Add", turns, graph.constant(_on_host(layer.phases) / (2 * math.pi)))
    turns = graph.cast(turns, np.float64)
    z = _cos_turns(graph, turns)
    if layer.form == "plr":
        z = graph("Concat", z, _sin_turns(graph, turns), axis=2)
        return _with_others(graph, layer, x, graph("Relu", _column_dense(graph, layer, graph.cast(z, graph.dtype))))
    outputs = _column_dense(graph, layer, graph.cast(z, graph.dtype))
    return _with_others(graph, layer, x, graph("Concat", outputs, numbers, axis=2))


def _each_member(graph: OnnxGraph, layer: EachMember, x: str) -> str:
    axis = graph.constant([1], np.int64)
    scaled = graph("Mul", graph("Unsqueeze", x, axis), _parameter(graph, layer, "scale"))
    y = add_layers(graph, layer.layers, _reshaped(graph, scaled, -1, layer.n_in))
    return _reshaped(graph, y, -1, layer.output_width(layer.n_in))


def _member_scale(graph: OnnxGraph, layer: MemberScale, x: str) -> str:
    by_member = _reshaped(graph, x, -1, layer.members, layer.n_in)
    y = graph("Mul", by_member, _parameter(graph, layer, "scale"))
    y = graph("Add", y, _parameter(graph, layer, "bias")) if layer.has_bias else y
    return _reshaped(graph, y, -1, layer.n_in)


def _member_dense(graph: OnnxGraph, layer: MemberDense, x: str) -> str:
    columns = _reshaped(graph, x, -1, layer.members, layer.n_in, 1)
    y = _reshaped(graph, graph("MatMul", _parameter(graph, layer, "weight"), columns), -1, layer.members, layer.n_out)
    y = graph("Add", y, _parameter(graph, layer, "bias")) if layer.has_bias else y
    return _reshaped(graph, y, -1, layer.n_out)


def _mean_of_members(graph: OnnxGraph, layer: MeanOfMembers, x: str) -> str:
    """The mean of the outputs, or the logits of the mean probabilities, in float64."""
    z = graph.cast(_reshaped(graph, x, 0, layer.members, -1), np.float64)
    if layer.activation == "softmax":
        y = graph("Log", _mean_over_members(graph, _softmax(graph, z, axis=2)))
    elif layer.activation == "sigmoid":
        one, zero = (_mean_over_members(graph, _sigmoid(graph, side)) for side in (z, graph("Neg", z)))
        y = graph("Sub", graph("Log", one), graph("Log", zero))
    else:
        y = _mean_over_members(graph, z)
    return graph.cast(y, graph.dtype)


def _mean_over_members(graph: OnnxGraph, x: str) -> str:
    return graph("ReduceMean", x, graph.constant([1], np.int64), keepdims=0)


def _reshaped(graph: OnnxGraph, x: str, *shape: int) -> str:
    return graph("Reshape", x, graph.constant(list(shape), np.int64))


def _piecewise_linear(graph: OnnxGraph, layer: PiecewiseLinearEmbedding, x: str) -> str:
    starts, slopes = layer.encoding()
    has_above = np.pad(slopes[:, 1:] != 0, ((0, 0), (0, 1)))
    least = np.broadcast_to(np.where(np.arange(slopes.shape[1]) > 0, 0, -np.inf), slopes.shape)
    place = graph("Sub", _each_column(graph, x, layer.columns), graph.constant(starts))
    place = graph("Max", graph("Mul", place, graph.constant(slopes)), graph.constant(least))
    embedded = _column_dense(graph, layer, graph("Min", place, graph.constant(np.where(has_above, 1, np.inf))))
    return _with_others(graph, layer, x, graph("Relu", embedded) if layer.relu else embedded)


def _cosine_embedding(graph: OnnxGraph, layer: CosineEmbedding, x: str) -> str:
    numbers, by_column = _each_column(graph, x, layer.columns), (layer.columns, layer.size)
    turns = graph("Mul", numbers, _parameter(graph, layer, "frequencies"))
    turns = graph("Add", turns, _parameter(graph, layer, "phases"))
    waves = graph.cast(_cos_turns(graph, graph.cast(turns, np.float64)), graph.dtype)
    scale, shift = (_on_host(array).reshape(by_column) for array in (layer.scale, layer.shift))
    scaled = graph("Mul", graph("Concat", numbers, waves, axis=2), graph.constant(scale))
    return _with_others(graph, layer, x, graph("Add", scaled, graph.constant(shift)))


def _parametric(graph: OnnxGraph, layer: Parametric, x: str) -> str:
    alpha = _on_host(layer.alpha)
    activated = add_layers(graph, [ACTIVATIONS[layer.activation]()], x)
    return graph(
        "Add",
        graph("Mul", x, graph.constant(1 - alpha)),
        graph("Mul", activated, graph.constant(alpha)),
    )


def _increasing(graph: OnnxGraph, layer: Increasing, x: str) -> str:
    wide = _reshaped(graph, graph.cast(x, np.float64), 0, -1, layer.size)
    is_first = graph.constant(np.arange(layer.size) == 0, np.bool_)
    steps = graph("Where", is_first, wide, _softplus(graph, wide))
    sums = graph("CumSum", graph.cast(steps, graph.dtype), graph.constant(2, np.int64))
    return _reshaped(graph, sums, 0, -1)


# -- activations ------------------------------------------------------------------------------------------------------


def _number(graph: OnnxGraph, value: float) -> str:
    return graph.constant(value, np.float64)


def _sine(graph: OnnxGraph, turns: str) -> str:
    return graph("Sin", graph("Mul", turns, _number(graph, 2 * math.pi)))


def _cos_turns(graph: OnnxGraph, turns: str) -> str:
    """cos(2π t), as in gradflow/functions.py."""
    rest = graph("Abs", graph("Sub", turns, graph("Round", turns)))
    return _sine(graph, graph("Sub", _number(graph, 0.25), rest))


def _sin_turns(graph: OnnxGraph, turns: str) -> str:
    return _sine(graph, graph("Sub", turns, graph("Round", turns)))


def _in_float64(function: Callable[[OnnxGraph, Any, str], str]) -> Callable[[OnnxGraph, Any, str], str]:
    """Return the exporter of an activation whose function of float64 is given."""

    def add(graph: OnnxGraph, layer: Layer, x: str) -> str:
        if graph.dtype == np.float64:
            return function(graph, layer, x)
        return graph.cast(function(graph, layer, graph.cast(x, np.float64)), graph.dtype)

    return add


def _decay(graph: OnnxGraph, x: str) -> str:
    """exp(-|x|)"""
    return graph("Exp", graph("Neg", graph("Abs", x)))


def _sigmoid(graph: OnnxGraph, x: str) -> str:
    one, small = _number(graph, 1), _decay(graph, x)
    is_negative = graph("Less", x, _number(graph, 0))
    return graph("Div", graph("Where", is_negative, small, one), graph("Add", one, small))


def _expm1(graph: OnnxGraph, x: str) -> str:
    """exp(x) - 1 for x <= 0, as (u - 1) x / log(u) with u = exp(x): rounding u changes both in the same way (Kahan)."""
    one = _number(graph, 1)
    u = graph("Exp", graph("Min", x, _number(graph, 0)))
    less = graph("Sub", u, one)
    accurate = graph("Div", graph("Mul", less, x), graph("Log", u))
    is_far = graph("Less", x, _number(graph, -1))  # nothing cancels there
    is_tiny = graph("Equal", u, one)
    return graph("Where", is_tiny, x, graph("Where", is_far, less, accurate))


def _log1p(graph: OnnxGraph, x: str) -> str:
    """log(1 + x) for x >= 0, as log(u) x / (u - 1) with u = 1 + x, for the same reason."""
    one = _number(graph, 1)
    u = graph("Add", one, x)
    accurate = graph("Div", graph("Mul", graph("Log", u), x), graph("Sub", u, one))
    return graph("Where", graph("Equal", u, one), x, accurate)


def _tanh(graph: OnnxGraph, x: str) -> str:
    """±e / (2 - e) with e = 1 - exp(-2 |x|)"""
    size = graph("Abs", x)
    less = _expm1(graph, graph("Mul", size, _number(graph, -2)))
    positive = graph("Div", graph("Neg", less), graph("Add", less, _number(graph, 2)))
    return graph("Where", graph("Less", x, _number(graph, 0)), graph("Neg", positive), positive)


def _softplus(graph: OnnxGraph, x: str) -> str:
    return graph("Add", graph("Max", x, _number(graph, 0)), _log1p(graph, _decay(graph, x)))


def _times(graph: OnnxGraph, x: str, gate: str) -> str:
    """x gate, and 0 at minus infinity"""
    return graph("Mul", graph("Max", x, _number(graph, -SATURATED)), gate)


def _within(graph: OnnxGraph, x: str) -> str:
    return graph("Max", graph("Min", x, _number(graph, SATURATED)), _number(graph, -SATURATED))


def _exponential(graph: OnnxGraph, x: str, below: float, above: float) -> str:
    negative = graph("Mul", _expm1(graph, x), _number(graph, below))
    positive = x if above == 1 else graph("Mul", x, _number(graph, above))
    return graph("Where", graph("LessOrEqual", x, _number(graph, 0)), negative, positive)


def _normal(graph: OnnxGraph, x: str) -> str:
    """The normal distribution function, as in gradflow/layers/gelu.py."""
    size, rounder = graph("Abs", x), _number(graph, 6442450944.0)
    rounded = graph("Sub", graph("Add", size, rounder), rounder)
    halves = [
        graph("Exp", graph("Div", graph("Mul", one, other), _number(graph, -2)))
        for one, other in (
            (rounded, rounded),
            (graph("Sub", size, rounded), graph("Add", size, rounded)),
        )
    ]
    five = _number(graph, 5)
    scale = graph("Add", size, five)
    position = graph("Div", graph("Sub", size, five), scale)
    tail = _number(graph, NORMAL_TAIL[-1])
    for coefficient in NORMAL_TAIL[-2::-1]:
        tail = graph("Add", graph("Mul", tail, position), _number(graph, coefficient))
    tail = graph("Mul", graph("Div", tail, scale), graph("Mul", *halves))
    is_negative = graph("Less", x, _number(graph, 0))
    return graph("Where", is_negative, tail, graph("Sub", _number(graph, 1), tail))


def _gelu(graph: OnnxGraph, layer: GELU, x: str) -> str:
    z = _within(graph, x)
    if layer.approximate == "none":
        return _times(graph, x, _normal(graph, z))
    cube = graph("Mul", graph("Mul", graph("Mul", _number(graph, 0.044715), z), z), z)
    inner = graph("Mul", graph("Add", z, cube), _number(graph, math.sqrt(8 / math.pi)))
    return _times(graph, x, _sigmoid(graph, inner))


def _softmax(graph: OnnxGraph, x: str, axis: int = 1) -> str:
    along = graph.constant([axis], np.int64)
    exponentials = graph("Exp", graph("Sub", x, graph("ReduceMax", x, along, keepdims=1)))
    return graph("Div", exponentials, graph("ReduceSum", exponentials, along, keepdims=1))


def _leaky_relu(graph: OnnxGraph, layer: LeakyReLU, x: str) -> str:
    is_low = graph("LessOrEqual", x, graph.constant(0))
    return graph("Where", is_low, graph("Mul", x, graph.constant(layer.slope)), x)


EXPORTERS: dict[type[Layer], Callable[[OnnxGraph, Any, str], str]] = {
    Dense: _dense,
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    Residual: _residual,
    EmbedColumns: _embed_columns,
    PeriodicEmbedding: _periodic_embedding,
    EachMember: _each_member,
    MemberScale: _member_scale,
    MemberDense: _member_dense,
    MeanOfMembers: _mean_of_members,
    PiecewiseLinearEmbedding: _piecewise_linear,
    CosineEmbedding: _cosine_embedding,
    Scale: lambda graph, layer, x: graph("Mul", x, _parameter(graph, layer, "scale")),
    Parametric: _parametric,
    Increasing: _increasing,
    Identity: lambda graph, layer, x: x,
    ReLU: lambda graph, layer, x: graph("Relu", x),
    LeakyReLU: _leaky_relu,
    Sigmoid: _in_float64(lambda graph, layer, x: _sigmoid(graph, x)),
    Tanh: _in_float64(lambda graph, layer, x: _tanh(graph, x)),
    Softmax: _in_float64(lambda graph, layer, x: _softmax(graph, x)),
    Softplus: _in_float64(lambda graph, layer, x: _softplus(graph, x)),
    SiLU: _in_float64(lambda graph, layer, x: _times(graph, x, _sigmoid(graph, x))),
    Mish: _in_float64(lambda graph, layer, x: _times(graph, x, _tanh(graph, _softplus(graph, x)))),
    GELU: _in_float64(_gelu),
    ELU: _in_float64(lambda graph, layer, x: _exponential(graph, x, layer.alpha, 1)),
    SELU: _in_float64(lambda graph, layer, x: _exponential(graph, x, NEGATIVE_SCALE, POSITIVE_SCALE)),
}
"""The function that adds the nodes of a layer and returns its output, by the layer's class."""
