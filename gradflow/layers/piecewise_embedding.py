"""Embeddings of numbers by the bin that they fall into, without jumps (Gorishniy, Rubachev & Babenko, 2022).

References:
    Y. Gorishniy, I. Rubachev & A. Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS
        (2022), arXiv:2203.05556.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.checks import boolean, positive_integer, sequence
from gradflow.errors import DataError, shown
from gradflow.executors import Executor
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.layers.by_column import (
    column_dense_backward,
    column_dense_forward,
    column_dense_parameter_gradients,
    pass_others,
    pass_others_back,
)
from gradflow.ops import Array, op
from gradflow.random import RandomNumbers


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, x_columns = arguments["x"].shape
    numbers, bins = arguments["starts"].shape
    return {"rows": rows, "x_columns": x_columns, "numbers": numbers, "bins": bins, "columns": bins}


@op(shapes="x: rows x_columns; starts, slopes: numbers bins; z: rows numbers bins", writes=("z",), sizes=_sizes)
def piecewise_forward(x: Array, starts: Array, slopes: Array, z: Array) -> None:
    """z_ijt = (x_ij - start_jt) slope_jt, clipped to [0, 1], but not at the outer ends of the first and the last bin"""
    place = (x[:, : len(starts), None] - starts) * slopes
    has_below, has_above = _limits(slopes)
    z[...] = np.where((place < 0) & has_below, 0, np.where((place > 1) & has_above, 1, place))


@op(
    shapes="x: rows x_columns; starts, slopes: numbers bins; d_z: rows numbers bins; d_x: rows x_columns",
    writes=("d_x",),
    sizes=_sizes,
)
def piecewise_backward(x: Array, starts: Array, slopes: Array, d_z: Array, d_x: Array) -> None:
    """dL/dx_ij += Σ_t slope_jt dL/dz_ijt over the bins t that are not clipped"""
    place = (x[:, : len(starts), None] - starts) * slopes
    has_below, has_above = _limits(slopes)
    is_clipped = ((place <= 0) & has_below) | ((place >= 1) & has_above)
    d_x[:, : len(starts)] += (np.where(is_clipped, 0, slopes) * d_z).sum(axis=2)


def _limits(slopes: Array) -> tuple[np.ndarray, np.ndarray]:
    """Return masks of the bins with a lower limit, all but the first, and with an upper one, all but the last."""
    has_above = np.zeros(slopes.shape, np.bool_)
    has_above[:, :-1] = slopes[:, 1:] != 0
    return np.arange(slopes.shape[1]) > 0, has_above


def quantile_bins(x: Any, bins: int = 48) -> list[list[float]]:
    """Return the edges of bins that hold about as many rows each, for `PiecewiseLinearEmbedding`.

    Edges that coincide, as where many rows have the same number, are merged, so a column may have fewer bins.

    Args:
        x: inputs of the training rows, (rows, columns), such as ``preprocessing.transform(x)[:, :columns]``: the
            numbers to embed, finite. No validation or test rows.
        bins: the largest number of bins of a column.

    Returns:
        For each column its edges, from its smallest number to its largest.

    Raises:
        DataError: if x is no matrix of finite numbers, or a column is constant.
    """
    bins = positive_integer("bins", bins)
    try:
        array = np.asarray(x)
    except ValueError:
        raise DataError(f"x must be a matrix of numbers (rows, columns), got {shown(x)}") from None
    if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.size:
        raise DataError(f"x must be a matrix of numbers (rows, columns), got {shown(x)}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise DataError("x holds NaN or infinity; pass the inputs of the network: preprocessing.transform(x)")
    edges = [np.unique(column).tolist() for column in np.quantile(array, np.linspace(0, 1, bins + 1), axis=0).T]
    for place, column in enumerate(edges):
        if len(column) < 2:
            raise DataError(f"column {place} of x is constant, so it has no bins; leave it out")
    return edges


class PiecewiseLinearEmbedding(Layer):
    """Embed numbers by the bin that they fall into, without jumps, for x of shape (batch, n_in).

    Each of the first columns of x, one for each list of bins, becomes ``size`` numbers. y has shape (batch, n_out):
    first their embeddings, column by column, then the other columns of x, unchanged. The embedding of a number x_ij is

        z weight_jᵀ + bias_j,   z_t = (x_ij - edge_t) / (edge_t+1 - edge_t), clipped to [0, 1]:

    1 in the bins below x_ij, the fraction of its own bin that is below it, and 0 in those above (Gorishniy et al.,
    2022, equation 1). Beyond the outer edges the first and the last bin go on, not clipped. Each column has weights of
    its own.

    The bins are settings, not parameters: `quantile_bins` takes them from the training rows, and files and copies of
    the network hold them. A `Preprocessing` puts numbers before all other inputs.

    Args:
        n_in: the number of inputs.
        bins: for each column to embed the edges of its bins, increasing; at least two.
        size: the size of an embedding.
        relu: True for max(0, ·) of the embedding.

    Attributes:
        columns: the number of embedded columns.
        n_out: the number of outputs.

    Parameters: ``weight`` (columns, size, bins) and ``bias`` (columns, size), initially U(±1 / √bins), with the largest
    number of bins of a column. Weight decay and penalties apply to the weight.

    Raises:
        DataError: for edges that do not increase, or more lists than inputs.
    """

    recorded = True
    set_by_forward = ("_encoded",)
    preferred_initializer = None

    weight: Array
    d_weight: Array
    bias: Array
    d_bias: Array

    def __init__(self, n_in: int, bins: Sequence[Sequence[float]], *, size: int = 16, relu: bool = False) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.bins = _checked_bins(bins, self.n_in)
        self.size = positive_integer("size", size)
        self.relu = boolean("relu", relu)
        self.columns = len(self.bins)
        self.n_out = self.columns * (self.size - 1) + self.n_in
        self._encoded: Array | None = None

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "bins": [list(edges) for edges in self.bins], "size": self.size, "relu": self.relu}

    def __repr__(self) -> str:
        # All edges would fill pages.
        bins = f"<{self.columns} columns of up to {self._features} bins>"
        return f"{type(self).__name__}(n_in={self.n_in}, bins={bins}, size={self.size}, relu={self.relu})"

    def output_width(self, n_in: int) -> int:
        return self.n_out

    @property
    def _features(self) -> int:
        return max(map(len, self.bins)) - 1

    def parameters(self) -> dict[str, ParameterSpec]:
        def of_features(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
            limit = 1 / math.sqrt(self._features)
            return random.uniform(-limit, limit, shape)

        outputs = (self.columns, self.size)
        return {
            "weight": ParameterSpec((*outputs, self._features), decayed=True, initializer=of_features),
            "bias": ParameterSpec(outputs, decayed=False, initializer=of_features),
        }

    def encoding(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the start of each bin and the inverse of its width, float64 (columns, bins); 0 in place of bins that a
        column does not have."""
        starts, slopes = np.zeros((2, self.columns, self._features))
        for column, edges in enumerate(self.bins):
            starts[column, : len(edges) - 1] = edges[:-1]
            slopes[column, : len(edges) - 1] = 1 / np.diff(edges)
        return starts, slopes

    def _bins_on(self, ops: Executor, dtype: np.dtype) -> tuple[Array, Array]:
        real = np.float64 if dtype == np.float64 else np.float32
        starts, slopes = (ops.backend.from_host(array.astype(real)) for array in self.encoding())
        return starts, slopes

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._encoded = ops.backend.empty((len(x), self.columns, self._features), x.dtype)
        self._embed(ops, x, y, self._encoded)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        self._embed(ops, x, y, ops.backend.empty((len(x), self.columns, self._features), x.dtype))

    def _embed(self, ops: Executor, x: Array, y: Array, z: Array) -> None:
        ops(piecewise_forward, x, *self._bins_on(ops, x.dtype), z)
        ops(column_dense_forward, z, self.weight, self.bias, y, step=self.size, is_rectified=self.relu)
        pass_others(ops, x, y, self.columns, self.size)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._encoded is not None
        z, rectified = self._encoded, y if self.relu else None
        ops(column_dense_parameter_gradients, z, d_y, rectified, self.d_weight, self.d_bias, step=self.size)
        if d_x is not None:
            d_z = ops.backend.empty(z.shape, x.dtype)
            ops(column_dense_backward, d_y, rectified, self.weight, d_z, step=self.size)
            pass_others_back(ops, d_y, d_x, self.columns, self.size)
            ops(piecewise_backward, x, *self._bins_on(ops, x.dtype), d_z, d_x)


def _checked_bins(bins: Any, n_in: int) -> tuple[tuple[float, ...], ...]:
    found = []
    for column, given in enumerate(sequence("bins", bins, "a list of edges for each column, as from quantile_bins")):
        try:
            edges = np.asarray(given, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"bins[{column}] must be a list of numbers, got {shown(given)}") from None
        with np.errstate(all="ignore"):
            is_sound = edges.ndim == 1 and len(edges) > 1 and (np.diff(edges) >= np.finfo(np.float32).tiny).all()
        if not is_sound or not np.isfinite(edges).all():
            raise DataError(
                f"bins[{column}] must be at least two finite edges that increase, got {shown(given)}; "
                "quantile_bins finds them"
            )
        found.append(tuple(edges.tolist()))
    if not 0 < len(found) <= n_in:
        raise DataError(f"n_in = {n_in} inputs need the bins of from 1 to {n_in} columns, got {len(found)}")
    return tuple(found)
