"""Residual blocks (He, Zhang, Ren & Sun, 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.executors import Executor
from gradflow.layers.base import Attachment, BufferSpec, Layer, ParameterSpec
from gradflow.layers.dense import Dense
from gradflow.layers.descriptions import describe_layer, layer_from_description
from gradflow.layers.stack import (
    ForwardArrays,
    attach,
    buffers_of,
    check_stack,
    layer_tuple,
    parameters_of,
    record_backward,
    record_forward,
    record_inference,
)
from gradflow.ops import Array, copy, op


@op(shapes="x, y, out: *shape", writes=("out",), in_place=(("x", "out"), ("y", "out")))
def add(x: Array, y: Array, out: Array) -> None:
    """out = x + y"""
    np.add(x, y, out=out)


class Residual(Layer):
    """y = f(x) + x, where f is a stack of layers, for x of shape (batch, n_in) and y of shape (batch, n_out).

    If f changes the width, the shortcut is a matmul: y = f(x) + x projection. These are equations 1 and 2 of He, Zhang,
    Ren & Sun (2016), "Deep residual learning for image recognition"; as in the paper, the projection has no bias. In
    the backward pass,

        dL/dx = d_y + (∂f/∂x)ᵀ d_y          or          dL/dx = d_y projectionᵀ + (∂f/∂x)ᵀ d_y,

    so the gradient reaches x whatever f does to it. There is no activation after the sum: put one after the block, or
    begin f with normalization and activation, as in the same authors' "Identity mappings in deep residual networks"
    (2016).

    Args:
        layers: the layers of f, at least one of them with parameters.

    Attributes:
        layers: the layers of f.
        projection: a `Dense` without bias if n_in and n_out differ, else None.
        arrays: the arrays of the layers of f in the training forward pass that was last recorded or run.

    Parameters are named by position: "2.0.weight" is the weight of the first layer of the block at index 2 of a
    network, and "2.projection.weight", shape (n_in, n_out), that of its shortcut.

    Raises:
        DataError: if the layers do not fit together, or none has parameters.
    """

    recorded = True
    backward_reads = ("x",)
    set_by_forward = ("arrays",)

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layer_tuple(layers)
        self.n_in, self.n_out = check_stack(self.layers)
        self.projection = None if self.n_in == self.n_out else Dense(self.n_in, self.n_out, bias=False)
        self.places = sum(layer.places for layer in self.layers)
        self.least_batch_size = max(layer.least_batch_size for layer in self.layers)
        self.arrays: ForwardArrays | None = None

    def config(self) -> dict[str, Any]:
        return {"layers": [describe_layer(layer) for layer in self.layers]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        return cls([layer_from_description(description) for description in config["layers"]])

    def output_width(self, n_in: int) -> int:
        return self.n_out

    def parameters(self) -> dict[str, ParameterSpec]:
        specs = parameters_of(self.layers)
        if self.projection is not None:
            weight = self.projection.parameters()["weight"]
            specs["projection.weight"] = ParameterSpec(weight.shape, weight.decayed, "glorot_uniform")
        return specs

    def buffers(self) -> dict[str, BufferSpec]:
        return buffers_of(self.layers)

    def attach(self, attachment: Attachment) -> None:
        self.attached = attachment
        attach(self.layers, attachment)
        if self.projection is not None:
            self.projection.attach(attachment.part("projection", attachment.index))

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self.arrays = record_forward(ops, self.layers, x)
        self._add_shortcut(ops, x, self.arrays.outputs[-1], y)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        self._add_shortcut(ops, x, record_inference(ops, self.layers, x), y)

    def _add_shortcut(self, ops: Executor, x: Array, of_stack: Array, y: Array) -> None:
        if self.projection is None:
            ops(add, of_stack, x, y)
        else:
            self.projection.forward(ops, x, y)
            ops(add, of_stack, y, y)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self.arrays is not None
        # The shortcut comes first, since the stack may overwrite d_y.
        if self.projection is not None:
            self.projection.backward(ops, x, y, d_y, d_x)
        elif d_x is not None:
            ops(copy, d_y, d_x)
        of_stack = record_backward(ops, self.layers, self.arrays, d_y, needs_d_input=d_x is not None)
        if d_x is not None:
            ops(add, d_x, of_stack, d_x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}([{', '.join(map(repr, self.layers))}])"
