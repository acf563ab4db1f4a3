"""A learned scale for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import positive_integer
from gradflow.executors import Executor
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.ops import Array, op


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, x_columns = arguments["x"].shape
    columns = len(arguments["scale" if "scale" in arguments else "d_scale"])
    y_columns = arguments["y" if "y" in arguments else "d_y"].shape[1]
    return {"rows": rows, "x_columns": x_columns, "y_columns": y_columns, "columns": columns}


@op(shapes="x: rows x_columns; scale, shift: columns; y: rows y_columns", writes=("y",), sizes=_sizes)
def scale_columns(x: Array, scale: Array, shift: Array | None, y: Array) -> None:
    """y_ij = scale_j x_ij + shift_j in the first columns"""
    scaled = x[:, : len(scale)] * scale
    y[:, : len(scale)] = scaled if shift is None else scaled + shift


@op(
    shapes="x: rows x_columns; d_y: rows y_columns; d_scale, d_shift: columns",
    writes=("d_scale", "d_shift"),
    sizes=_sizes,
)
def scale_gradients(x: Array, d_y: Array, d_scale: Array, d_shift: Array | None) -> None:
    """dL/dscale_j = Σ_i x_ij dL/dy_ij, dL/dshift_j = Σ_i dL/dy_ij"""
    gradient = d_y[:, : len(d_scale)].astype(np.float64)
    d_scale[...] = (x[:, : len(d_scale)] * gradient).sum(axis=0)
    if d_shift is not None:
        d_shift[...] = gradient.sum(axis=0)


class Scale(Layer):
    """y_ij = scale_j x_ij, for x and y of shape (batch, n_in).

    In front of the first dense layer, it learns which inputs matter: trained at several times the rate of the weights,
    it shrinks the others (the "scaling layer" of RealMLP: Holzmüller, Grinsztajn & Steinwart, 2024, arXiv:2407.04491).

    Args:
        n_in: the number of inputs and outputs.

    Parameters: ``scale`` (n_in,), initially 1; weight decay and penalties apply to it, as in RealMLP.
    """

    recorded = True
    backward_reads = ("x",)
    preferred_initializer = None

    scale: Array
    d_scale: Array

    def __init__(self, n_in: int) -> None:
        self.n_in = positive_integer("n_in", n_in)

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in}

    def parameters(self) -> dict[str, ParameterSpec]:
        return {"scale": ParameterSpec((self.n_in,), decayed=True, initializer=1.0)}

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        ops(scale_columns, x, self.scale, None, y)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        ops(scale_gradients, x, d_y, self.d_scale, None)
        if d_x is not None:
            ops(scale_columns, d_y, self.scale, None, d_x)
