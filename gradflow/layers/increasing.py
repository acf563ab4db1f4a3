"""Outputs that increase, such as quantiles, which must not cross.

References:
    C. Dugas, Y. Bengio, F. Bélisle, C. Nadeau & R. Garcia, "Incorporating second-order functional knowledge for better
        option pricing", NIPS (2001).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradflow.checks import positive_integer
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.functions import sigmoid, softplus
from gradflow.layers.base import Layer
from gradflow.ops import Array, op


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, y_columns = arguments["x"].shape
    return {"rows": rows, "columns": y_columns // arguments["size"], "y_columns": y_columns}


def _grouped(x: Array, size: int) -> tuple[int, int, int]:
    """Return the shape with an axis for the groups of columns; -1 would not do for no rows."""
    return len(x), x.shape[1] // size, size


@op(shapes="x, y: rows y_columns", writes=("y",), sizes=_sizes)
def increasing_forward(x: Array, y: Array, size: int) -> None:
    """y_ij = x_ij in the first of each group of columns, as many as size, and y_i,j-1 + softplus(x_ij) in the others"""
    steps = softplus(x).reshape(_grouped(x, size))
    steps[:, :, 0] = x[:, ::size]
    y[...] = steps.cumsum(axis=2, dtype=y.dtype).reshape(y.shape)


@op(shapes="x, d_y, d_x: rows y_columns", writes=("d_x",), sizes=_sizes)
def increasing_backward(x: Array, d_y: Array, d_x: Array, size: int) -> None:
    """dL/dx_ij = s_ij Σ_k dL/dy_ik over the columns k from j to the last of the group; s is sigmoid(x), and 1 in the
    first column"""
    sums = d_y.reshape(_grouped(x, size))[:, :, ::-1].cumsum(axis=2, dtype=d_x.dtype)[:, :, ::-1]
    slopes = sigmoid(x).reshape(sums.shape)
    slopes[:, :, 0] = 1
    d_x[...] = (slopes * sums).reshape(d_x.shape)


class Increasing(Layer):
    """Make neighboring outputs increase, for x and y of shape (batch, groups · size), such as quantiles of a target.

        y_1 = x_1,   y_j = y_j-1 + softplus(x_j)                  within each group of columns,

    so that no output is below the one before it, and predictions of several quantiles cannot cross. It is the last
    layer of a network for `QuantileLoss`, whose quantiles then are in ascending order; inside of an `EachMember` it is
    the last of the stack, and the mean of the members increases too. Standardized targets keep the order.

    The derivatives are dL/dx_1 = Σ_k dL/dy_k and dL/dx_j = sigmoid(x_j) Σ_k≥j dL/dy_k.

    Args:
        size: the number of columns in a group: that of the quantiles.
    """

    recorded = True
    backward_reads = ("x",)
    preferred_initializer = None

    def __init__(self, size: int) -> None:
        self.size = positive_integer("size", size)

    def config(self) -> dict[str, Any]:
        return {"size": self.size}

    def output_width(self, n_in: int) -> int:
        if n_in % self.size:
            raise DataError(f"{self!r} needs groups of {self.size} columns, got {n_in} columns")
        return n_in

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        ops(increasing_forward, x, y, size=self.size)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        if d_x is not None:
            ops(increasing_backward, x, d_y, d_x, size=self.size)
