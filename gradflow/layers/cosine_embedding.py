"""Embeddings of numbers by cosines, each with a scale of its own (Gorishniy et al., 2026).

References:
    Y. Gorishniy, A. Kotelnikov, I. Rubachev & A. Babenko, "TabPack", ICML (2026), arXiv:2607.05380.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import integer, positive, positive_integer
from gradflow.executors import Executor
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.layers.by_column import checked_columns, copy_columns, pass_others, pass_others_back
from gradflow.layers.periodic_embedding import periodic_backward, periodic_forward, periodic_parameter_gradients
from gradflow.layers.scale import scale_columns, scale_gradients
from gradflow.ops import Array
from gradflow.random import RandomNumbers

_LARGEST = 3.0
_TURNS: dict[str, Any] = {"sines": False, "turns_per_phase": 1.0}


class CosineEmbedding(Layer):
    """Embed numbers by cosines, each with a scale of its own, for x of shape (batch, n_in).

    Each of the first columns of x, as many as ``columns``, becomes ``size`` numbers. y has shape (batch, n_out): first
    their embeddings, column by column, then the other columns of x, unchanged. The embedding of a number x_ij is

        scale_j ∘ (x_ij, cos(2π (frequency_j1 x_ij + phase_j1)), ...) + shift_j,

    as in TabPack (Gorishniy et al., 2026). Scales and shifts begin at 0, so that training starts without the embedded
    columns and takes in what helps. Biases behind it must not begin at 0 too, or no ReLU is ever active: use
    ``Dense(..., bias_initializer="fan_in_uniform")``, as `MLP` does by itself. A `Preprocessing` puts numbers before
    all other inputs.

    Args:
        n_in: the number of inputs.
        columns: the number of leading columns to embed. None: all.
        size: the size of an embedding, which includes x itself: at least 2.
        std: the scale of the initial frequencies; TabPack draws it from 0.01 to 10 for each member.

    Attributes:
        n_out: the number of outputs.

    Parameters: ``frequencies`` (columns, size - 1), initially std times a number from N(0, 1) without those beyond ±3;
    ``phases`` of that shape, ``scale`` and ``shift`` (columns * size,), initially 0. Weight decay and penalties apply
    to the frequencies.

    Raises:
        DataError: for a size below 2, or more columns than inputs.
    """

    recorded = True
    backward_reads = ("x",)
    set_by_forward = ("_waves",)
    preferred_initializer = None

    frequencies: Array
    d_frequencies: Array
    phases: Array
    d_phases: Array
    scale: Array
    d_scale: Array
    shift: Array
    d_shift: Array

    def __init__(self, n_in: int, columns: int | None = None, *, size: int = 16, std: float = 1.0) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.columns = checked_columns(columns, self.n_in)
        self.size = integer("size", size, least=2, most=2**20)
        self.std = positive("std", std)
        self.n_out = self.columns * (self.size - 1) + self.n_in
        self._waves: Array | None = None

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "columns": self.columns, "size": self.size, "std": self.std}

    def output_width(self, n_in: int) -> int:
        return self.n_out

    def parameters(self) -> dict[str, ParameterSpec]:
        def truncated(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
            drawn, *others = random.normal(1.0, (4, *shape))
            for other in others:  # one in 4e10 is beyond the limit four times
                drawn = np.where(abs(drawn) > _LARGEST, other, drawn)
            kept: np.ndarray = np.clip(drawn, -_LARGEST, _LARGEST)
            return self.std * kept

        waves, features = (self.columns, self.size - 1), (self.columns * self.size,)
        return {
            "frequencies": ParameterSpec(waves, decayed=True, initializer=truncated),
            "phases": ParameterSpec(waves, decayed=False, initializer=0.0),
            "scale": ParameterSpec(features, decayed=False, initializer=0.0),
            "shift": ParameterSpec(features, decayed=False, initializer=0.0),
        }

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._waves = ops.backend.empty((len(x), self.columns * self.size), x.dtype)
        self._embed(ops, x, y, self._waves)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        self._embed(ops, x, y, ops.backend.empty((len(x), self.columns * self.size), x.dtype))

    def _embed(self, ops: Executor, x: Array, y: Array, z: Array) -> None:
        ops(copy_columns, x, z, count=self.columns, y_step=self.size)
        ops(periodic_forward, x, self.frequencies, self.phases, self._by_column(z), **_TURNS)
        ops(scale_columns, z, self.scale, self.shift, y)
        pass_others(ops, x, y, self.columns, self.size)

    def _by_column(self, z: Array) -> Array:
        return z.reshape(len(z), self.columns, self.size)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._waves is not None
        d_z = ops.backend.empty(self._waves.shape, x.dtype)
        ops(scale_gradients, self._waves, d_y, self.d_scale, self.d_shift)
        ops(scale_columns, d_y, self.scale, None, d_z)
        waves = x, self.frequencies, self.phases, self._by_column(d_z)
        ops(periodic_parameter_gradients, *waves, self.d_frequencies, self.d_phases, **_TURNS)
        if d_x is not None:
            pass_others_back(ops, d_y, d_x, self.columns, self.size)
            ops(copy_columns, d_z, d_x, count=self.columns, x_step=self.size)
            ops(periodic_backward, *waves, d_x, **_TURNS)
