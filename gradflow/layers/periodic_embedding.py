"""Embeddings of numbers by waves of learned frequencies (Gorishniy, Rubachev & Babenko, 2022).

References:
    Y. Gorishniy, I. Rubachev & A. Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS
        (2022), arXiv:2203.05556.
    D. Holzmüller, L. Grinsztajn & I. Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
        data", NeurIPS (2024), arXiv:2407.04491.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.checks import known_name, positive, positive_integer
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.functions import cos_turns, sin_turns
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.layers.by_column import (
    checked_columns,
    column_dense_backward,
    column_dense_forward,
    column_dense_parameter_gradients,
    copy_columns,
    pass_others,
    pass_others_back,
)
from gradflow.ops import Array, op
from gradflow.random import RandomNumbers

FORMS = ("pbld", "plr")
_SHAPES = "x: rows x_columns; frequencies, phases: numbers waves"


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, x_columns = arguments["x"].shape
    numbers, waves = arguments["frequencies"].shape
    size = arguments["z" if "z" in arguments else "d_z"].shape[2]
    found = {"rows": rows, "x_columns": x_columns, "numbers": numbers, "waves": waves, "columns": numbers * waves}
    return found | {"z_columns": numbers * size}


@op(shapes=f"{_SHAPES}; z: rows numbers size", writes=("z",), sizes=_sizes)
def periodic_forward(
    x: Array, frequencies: Array, phases: Array | None, z: Array, sines: bool, turns_per_phase: float
) -> None:
    """z_ijk = cos(2π t_ijk) with t_ijk = frequency_jk x_ij + turns_per_phase phase_jk; if there are sines, as many
    sin(2π t_ijk) follow"""
    turns = _turns(x, frequencies, phases, turns_per_phase)
    z[:, :, _first(frequencies, z, sines) :][:, :, : frequencies.shape[1]] = cos_turns(turns)
    if sines:
        z[:, :, -frequencies.shape[1] :] = sin_turns(turns)


@op(
    shapes=f"{_SHAPES}; d_z: rows numbers size; d_frequencies, d_phases: numbers waves",
    writes=("d_frequencies", "d_phases"),
    sizes=_sizes,
)
def periodic_parameter_gradients(
    x: Array,
    frequencies: Array,
    phases: Array | None,
    d_z: Array,
    d_frequencies: Array,
    d_phases: Array | None,
    sines: bool,
    turns_per_phase: float,
) -> None:
    """dL/dfrequency_jk = Σ_i x_ij s_ijk and dL/dphase_jk = turns_per_phase Σ_i s_ijk, with s = dL/dt =
    2π (cos(2π t) dL/dsine - sin(2π t) dL/dcosine)"""
    slopes = _slopes(x, frequencies, phases, d_z, sines, turns_per_phase)
    d_frequencies[...] = (x[:, : len(frequencies), None] * slopes).sum(axis=0, dtype=np.float64)
    if d_phases is not None:
        d_phases[...] = turns_per_phase * slopes.sum(axis=0, dtype=np.float64)


@op(shapes=f"{_SHAPES}; d_z: rows numbers size; d_x: rows x_columns", writes=("d_x",), sizes=_sizes)
def periodic_backward(
    x: Array,
    frequencies: Array,
    phases: Array | None,
    d_z: Array,
    d_x: Array,
    sines: bool,
    turns_per_phase: float,
) -> None:
    """dL/dx_ij += Σ_k frequency_jk s_ijk, with s = dL/dt = 2π (cos(2π t) dL/dsine - sin(2π t) dL/dcosine)"""
    slopes = _slopes(x, frequencies, phases, d_z, sines, turns_per_phase)
    d_x[:, : len(frequencies)] += (frequencies * slopes).sum(axis=2)


def _first(frequencies: Array, z: Array, sines: bool) -> int:
    """Return the place of the first cosine: the waves are the last features of a column."""
    return int(z.shape[2] - (2 if sines else 1) * frequencies.shape[1])


def _turns(x: Array, frequencies: Array, phases: Array | None, turns_per_phase: float) -> Array:
    turns = frequencies * x[:, : len(frequencies), None]
    return turns if phases is None else turns + turns_per_phase * phases


def _slopes(
    x: Array, frequencies: Array, phases: Array | None, d_z: Array, sines: bool, turns_per_phase: float
) -> Array:
    turns, waves = _turns(x, frequencies, phases, turns_per_phase), frequencies.shape[1]
    d_cosines = d_z[:, :, _first(frequencies, d_z, sines) :][:, :, :waves]
    slopes = -sin_turns(turns) * d_cosines
    return 2 * math.pi * (slopes + cos_turns(turns) * d_z[:, :, -waves:] if sines else slopes)


class PeriodicEmbedding(Layer):
    """Embed numbers by waves of learned frequencies, for x of shape (batch, n_in).

    Each of the first columns of x, as many as ``columns``, becomes ``size`` numbers. y has shape (batch, n_out): first
    their embeddings, column by column, then the other columns of x, unchanged. The embedding of a number x_ij is, in
    the form "pbld" ("periodic, bias, linear, densenet": RealMLP, Holzmüller et al., 2024),

        (z weight_jᵀ + bias_j, x_ij),   z_k = cos(2π frequency_jk x_ij + phase_jk),

    and in the form "plr" ("periodic, linear, ReLU": Gorishniy et al., 2022, section 3.3)

        max(0, z weight_jᵀ + bias_j),   z = (cos(2π frequency_j x_ij), sin(2π frequency_j x_ij)).

    Each column has weights of its own. A `Preprocessing` puts numbers before all other inputs.

    Args:
        n_in: the number of inputs.
        columns: the number of leading columns to embed. None: all.
        form: "pbld" or "plr".
        frequencies: the number of frequencies of a column.
        size: the size of an embedding: at least 2 for "pbld", which includes x itself.
        std: the standard deviation of the initial frequencies. It decides how fine the embedding resolves a number of
            unit size, and is worth tuning, from 0.01 to 10.

    The defaults are those of RealMLP; ``rtdl_num_embeddings`` has 48 frequencies, size 24 and std 0.01 for "plr".

    Attributes:
        n_out: the number of outputs.

    Parameters: ``frequencies`` (columns, frequencies), initially N(0, std²); ``phases`` of that shape for "pbld",
    initially U(-π, π); ``weight`` (columns, outputs, features) and ``bias`` (columns, outputs), initially
    U(±1 / √features), with features the number of waves. Weight decay and penalties apply to frequencies and weights.

    Raises:
        DataError: for an unknown form, a size below 2 for "pbld", or more columns than inputs.
    """

    recorded = True
    set_by_forward = ("_waves",)
    preferred_initializer = None

    frequencies: Array
    d_frequencies: Array
    phases: Array | None = None
    d_phases: Array | None = None
    weight: Array
    d_weight: Array
    bias: Array
    d_bias: Array

    def __init__(
        self,
        n_in: int,
        columns: int | None = None,
        *,
        form: str = "pbld",
        frequencies: int = 16,
        size: int = 4,
        std: float = 0.1,
    ) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.columns = checked_columns(columns, self.n_in)
        self.form = known_name("form", form, FORMS)
        self.n_frequencies = positive_integer("frequencies", frequencies)
        self.size = positive_integer("size", size)
        self.std = positive("std", std)
        if self.form == "pbld" and self.size < 2:
            raise DataError("size must be at least 2 for form='pbld', since x itself is part of an embedding; got 1")
        self.n_out = self.columns * (self.size - 1) + self.n_in
        self._waves: Array | None = None

    def config(self) -> dict[str, Any]:
        return {
            "n_in": self.n_in,
            "columns": self.columns,
            "form": self.form,
            "frequencies": self.n_frequencies,
            "size": self.size,
            "std": self.std,
        }

    def output_width(self, n_in: int) -> int:
        return self.n_out

    @property
    def _features(self) -> int:
        return self.n_frequencies * (2 if self.form == "plr" else 1)

    def parameters(self) -> dict[str, ParameterSpec]:
        def frequencies(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
            return random.normal(self.std, shape)

        def phases(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
            return random.uniform(-math.pi, math.pi, shape)

        def of_features(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
            limit = 1 / math.sqrt(self._features)
            return random.uniform(-limit, limit, shape)

        waves, outputs = (self.columns, self.n_frequencies), self.size - (self.form == "pbld")
        specs = {"frequencies": ParameterSpec(waves, decayed=True, initializer=frequencies)}
        if self.form == "pbld":
            specs["phases"] = ParameterSpec(waves, decayed=False, initializer=phases)
        specs["weight"] = ParameterSpec((self.columns, outputs, self._features), decayed=True, initializer=of_features)
        specs["bias"] = ParameterSpec((self.columns, outputs), decayed=False, initializer=of_features)
        return specs

    @property
    def _settings(self) -> dict[str, Any]:
        return {"sines": self.form == "plr", "turns_per_phase": 1 / (2 * math.pi)}

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._waves = ops.backend.empty((len(x), self.columns, self._features), x.dtype)
        self._embed(ops, x, y, self._waves)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        self._embed(ops, x, y, ops.backend.empty((len(x), self.columns, self._features), x.dtype))

    def _embed(self, ops: Executor, x: Array, y: Array, z: Array) -> None:
        is_rectified = self.form == "plr"
        ops(periodic_forward, x, self.frequencies, self.phases, z, **self._settings)
        ops(column_dense_forward, z, self.weight, self.bias, y, step=self.size, is_rectified=is_rectified)
        if not is_rectified:
            ops(copy_columns, x, y, count=self.columns, y_first=self.size - 1, y_step=self.size)
        pass_others(ops, x, y, self.columns, self.size)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._waves is not None
        rectified, d_z = y if self.form == "plr" else None, ops.backend.empty(self._waves.shape, x.dtype)
        ops(
            column_dense_parameter_gradients, self._waves, d_y, rectified, self.d_weight, self.d_bias, step=self.size
        )  # fmt: skip
        ops(column_dense_backward, d_y, rectified, self.weight, d_z, step=self.size)
        waves = x, self.frequencies, self.phases, d_z
        ops(periodic_parameter_gradients, *waves, self.d_frequencies, self.d_phases, **self._settings)
        if d_x is not None:
            raw = self.size - 1 if self.form == "pbld" else None
            pass_others_back(ops, d_y, d_x, self.columns, self.size, raw)
            ops(periodic_backward, *waves, d_x, **self._settings)
