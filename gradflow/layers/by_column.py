"""The parts that embeddings of numbers share: columns that are passed through, and a dense layer for each column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import integer
from gradflow.executors import Executor
from gradflow.ops import Array, clear, op


def _copy_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    (rows, x_columns), y_columns = arguments["x"].shape, arguments["y"].shape[1]
    return {"rows": rows, "columns": arguments["count"], "x_columns": x_columns, "y_columns": y_columns}


@op(shapes="x: rows x_columns; y: rows y_columns", writes=("y",), sizes=_copy_sizes)
def copy_columns(
    x: Array, y: Array, count: int, x_first: int = 0, x_step: int = 1, y_first: int = 0, y_step: int = 1
) -> None:
    """y_i,(y_first + j y_step) = x_i,(x_first + j x_step) for as many j as count"""
    places = np.arange(count)
    y[:, y_first + y_step * places] = x[:, x_first + x_step * places]


def _dense_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    numbers, outputs, features = arguments["weight" if "weight" in arguments else "d_weight"].shape
    batch, y_columns = arguments["y" if "d_y" not in arguments else "d_y"].shape
    found = {"y_columns": y_columns, "numbers": numbers, "outputs": outputs, "features": features, "columns": features}
    return found | ({"batch": batch, "rows": numbers * outputs} if "d_weight" in arguments else {"rows": batch})


@op(
    shapes="z: rows numbers features; weight: numbers outputs features; bias: numbers outputs; y: rows y_columns",
    writes=("y",),
    sizes=_dense_sizes,
)
def column_dense_forward(z: Array, weight: Array, bias: Array, y: Array, step: int, is_rectified: bool) -> None:
    """y_i,(j step + s) = f(Σ_k weight_jsk z_ijk + bias_js), with f the identity, or max(0, ·) if it is rectified"""
    outputs = np.matmul(z.swapaxes(0, 1), weight.swapaxes(1, 2)).swapaxes(0, 1) + bias
    y[:, _places(weight.shape, step)] = np.maximum(outputs, 0) if is_rectified else outputs


# The dimension is not named `rows`: a row of this op's kernel reads all rows of the batch.
@op(
    shapes="z: batch numbers features; d_y, y: batch y_columns; d_weight: numbers outputs features; "
    "d_bias: numbers outputs",
    writes=("d_weight", "d_bias"),
    sizes=_dense_sizes,
)
def column_dense_parameter_gradients(
    z: Array, d_y: Array, y: Array | None, d_weight: Array, d_bias: Array, step: int
) -> None:
    """dL/dweight_jsk = Σ_i g_i,(j step + s) z_ijk and dL/dbias_js = Σ_i g_i,(j step + s), with g = dL/dy, or 0 where a
    rectified y is not above 0"""
    gradient = _gated(d_y, y)[:, _places(d_weight.shape, step)].astype(np.float64)
    d_weight[...] = np.matmul(gradient.transpose(1, 2, 0), z.astype(np.float64).swapaxes(0, 1))
    d_bias[...] = gradient.sum(axis=0)


@op(
    shapes="d_y, y: rows y_columns; weight: numbers outputs features; d_z: rows numbers features",
    writes=("d_z",),
    sizes=_dense_sizes,
)
def column_dense_backward(d_y: Array, y: Array | None, weight: Array, d_z: Array, step: int) -> None:
    """dL/dz_ijk = Σ_s g_i,(j step + s) weight_jsk, with g = dL/dy, or 0 where a rectified y is not above 0"""
    gradient = _gated(d_y, y)[:, _places(weight.shape, step)]
    d_z[...] = np.matmul(gradient.swapaxes(0, 1), weight).swapaxes(0, 1)


def _places(shape: tuple[int, ...], step: int) -> np.ndarray:
    """Return the columns of y that hold the outputs: of shape (numbers, outputs)."""
    return step * np.arange(shape[0])[:, None] + np.arange(shape[1])


def _gated(d_y: Array, y: Array | None) -> Array:
    return d_y if y is None else np.where(y > 0, d_y, 0)


def checked_columns(columns: int | None, n_in: int) -> int:
    """Return the number of leading columns that are embedded: all if ``columns`` is None."""
    return n_in if columns is None else integer("columns", columns, least=1, most=n_in)


def pass_others(ops: Executor, x: Array, y: Array, columns: int, size: int) -> None:
    """Copy the columns of x after the embedded ones to those of y after their embeddings."""
    if count := x.shape[1] - columns:
        ops(copy_columns, x, y, count=count, x_first=columns, y_first=columns * size)


def pass_others_back(ops: Executor, d_y: Array, d_x: Array, columns: int, size: int, raw: int | None = None) -> None:
    """Write dL/dx for what is passed through, and 0 elsewhere, to which the embeddings then add their part.

    Args:
        ops: the executor.
        d_y: dL/dy.
        d_x: dL/dx.
        columns: the number of embedded columns.
        size: the size of an embedding.
        raw: the place of x itself in its embedding; None if it is not in there.
    """
    ops(clear, d_x)
    if count := d_x.shape[1] - columns:
        ops(copy_columns, d_y, d_x, count=count, x_first=columns * size, y_first=columns)
    if raw is not None:
        ops(copy_columns, d_y, d_x, count=columns, x_first=raw, x_step=size)
