"""The dense layer: a matmul and a bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import boolean, positive_integer
from gradflow.executors import Executor
from gradflow.initializers import Initializer, bias_rule, checked_bias_initializer, checked_initializer
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.ops import Array, op


def _gemm_shapes(arguments: Mapping[str, Any]) -> str:
    a = "k m" if arguments["transpose_a"] else "m k"
    b = "n k" if arguments["transpose_b"] else "k n"
    return f"a: {a}; b: {b}; out: m n"


def _gemm_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, columns = arguments["out"].shape
    return {"rows": rows, "columns": columns, "depth": arguments["a"].shape[0 if arguments["transpose_a"] else 1]}


@op(shapes=_gemm_shapes, writes=("out",), sizes=_gemm_sizes)
def gemm(a: Array, b: Array, out: Array, transpose_a: bool = False, transpose_b: bool = False) -> None:
    """out = op(a) op(b), where op transposes a matrix or leaves it"""
    np.matmul(a.T if transpose_a else a, b.T if transpose_b else b, out=out)


@op(shapes="x, y: rows columns; bias: columns", writes=("y",), in_place=(("x", "y"),))
def add_bias(x: Array, bias: Array, y: Array) -> None:
    """y_ij = x_ij + bias_j"""
    np.add(x, bias, out=y)


@op(shapes="x: rows columns; sums: columns", writes=("sums",))
def column_sum(x: Array, sums: Array) -> None:
    """sums_j = sum_i x_ij, kept in float64 until the end"""
    sums[...] = x.sum(axis=0, dtype=np.float64)


class Dense(Layer):
    """y = x weight + bias, for x of shape (batch, n_in) and y of shape (batch, n_out).

    Backward pass, given d_y = dL/dy (Rumelhart, Hinton & Williams, 1986):

        dL/dweight = xᵀ d_y          dL/dbias = Σ over the rows of d_y          dL/dx = d_y weightᵀ

    Args:
        n_in: the number of inputs.
        n_out: the number of outputs.
        bias: True for a bias of shape (n_out,).
        initializer: initializer of the weight, shape (n_in, n_out): a name from `gradflow.initializers`, a number, or a
            function (shape, random). None selects the rule that suits the activation that follows: He's for the ReLU
            family and its smooth relatives, LeCun's for SELU, else Glorot's.
        bias_initializer: initializer of the bias: "zeros", a number, or "fan_in_uniform", U(-a, a) with a = 1 / √n_in.
    """

    recorded = True
    backward_reads = ("x",)

    weight: Array
    d_weight: Array
    bias: Array | None = None
    d_bias: Array

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        initializer: Initializer | None = None,
        bias_initializer: str | float = "zeros",
    ) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.n_out = positive_integer("n_out", n_out)
        self.has_bias = boolean("bias", bias)
        self.initializer = None if initializer is None else checked_initializer(initializer)
        self.bias_initializer = checked_bias_initializer(bias_initializer)

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "n_out": self.n_out, "bias": self.has_bias}

    def output_width(self, n_in: int) -> int:
        return self.n_out

    def parameters(self) -> dict[str, ParameterSpec]:
        specs = {"weight": ParameterSpec((self.n_in, self.n_out), decayed=True, initializer=self.initializer)}
        if self.has_bias:
            initializer = bias_rule(self.bias_initializer, self.n_in)
            specs["bias"] = ParameterSpec((self.n_out,), decayed=False, initializer=initializer)
        return specs

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if self.attached is not None and callable(self.initializer):
            state["initializer"] = None  # no longer needed, and pickle supports only some functions
        return state

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        ops(gemm, x, self.weight, y)
        if self.bias is not None:
            ops(add_bias, y, self.bias, y)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        ops(gemm, x, d_y, self.d_weight, transpose_a=True)
        if self.bias is not None:
            ops(column_sum, d_y, self.d_bias)
        if d_x is not None:
            ops(gemm, d_y, self.weight, d_x, transpose_b=True)
