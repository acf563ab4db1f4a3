"""Layer normalization (Ba, Kiros & Hinton, 2016)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive, positive_integer
from gradflow.executors import Executor
from gradflow.layers.base import Layer, ParameterSpec
from gradflow.ops import Array, op


@op(
    shapes="x, y: rows columns; gamma, beta: columns; mean, inverse_deviation: rows",
    writes=("mean", "inverse_deviation", "y"),
    in_place=(("x", "y"),),
)
def layer_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array | None,
    inverse_deviation: Array | None,
    y: Array,
    epsilon: float,
) -> None:
    """y_ij = gamma_j (x_ij - mean_i) inverse_deviation_i + beta_j, inverse_deviation_i = 1 / √(variance_i + epsilon)"""
    center = x.mean(axis=1, dtype=np.float64)
    variance = np.square(x - center[:, None]).mean(axis=1).astype(x.dtype)
    center, inverse = center.astype(x.dtype), 1 / np.sqrt(variance + epsilon)
    if mean is not None:
        mean[...] = center
    if inverse_deviation is not None:
        inverse_deviation[...] = inverse
    y[...] = (x - center[:, None]) * inverse[:, None] * gamma + beta


@op(
    shapes="x, d_y: rows columns; mean, inverse_deviation: rows; d_gamma, d_beta: columns",
    writes=("d_gamma", "d_beta"),
)
def layer_norm_parameter_gradients(
    x: Array, mean: Array, inverse_deviation: Array, d_y: Array, d_gamma: Array, d_beta: Array
) -> None:
    """dL/dgamma_j = Σ_i n_ij dL/dy_ij and dL/dbeta_j = Σ_i dL/dy_ij, with n_ij = (x_ij - mean_i) inverse_deviation_i"""
    normalized = (x - mean[:, None]) * inverse_deviation[:, None]
    d_gamma[...] = (d_y * normalized).sum(axis=0, dtype=np.float64)
    d_beta[...] = d_y.sum(axis=0, dtype=np.float64)


@op(
    shapes="x, d_y, d_x: rows columns; gamma: columns; mean, inverse_deviation: rows",
    writes=("d_x",),
    in_place=(("d_y", "d_x"),),
)
def layer_norm_backward(x: Array, gamma: Array, mean: Array, inverse_deviation: Array, d_y: Array, d_x: Array) -> None:
    """dL/dx_ij = inverse_deviation_i (g_ij - (Σ_k g_ik + n_ij Σ_k g_ik n_ik) / columns), where g_ij = gamma_j dL/dy_ij
    and n_ij = (x_ij - mean_i) inverse_deviation_i"""
    normalized = (x - mean[:, None]) * inverse_deviation[:, None]
    g = gamma * d_y
    mean_g = g.mean(axis=1, keepdims=True, dtype=np.float64)
    mean_dot = (g * normalized).mean(axis=1, keepdims=True, dtype=np.float64)
    d_x[...] = inverse_deviation[:, None] * (g - (mean_g + normalized * mean_dot))


class LayerNorm(Layer):
    """y_ij = gamma_j (x_ij - mean_i) / √(variance_i + epsilon) + beta_j, for x and y of shape (batch, n_in).

    Mean and variance are those of each row over its n_in columns: equation 3 of Ba, Kiros & Hinton (2016), with the
    gain and bias of their equation 4. The variance is divided by n_in, and epsilon is inside the square root, as in
    PyTorch. Rows are independent, so any batch size works, and prediction computes the same as training.

    The variance is computed in two passes with float64 sums (Chan, Golub & LeVeque, 1983).

    Args:
        n_in: the number of inputs and outputs.
        epsilon: added to the variance: above 0.

    Parameters: ``gamma`` (n_in,), initially 1, and ``beta`` (n_in,), initially 0; neither is subject to weight decay.
    """

    recorded = True
    elementwise = True
    backward_reads = ("x",)
    preferred_initializer = None

    set_by_forward = ("_statistics",)

    gamma: Array
    d_gamma: Array
    beta: Array
    d_beta: Array

    def __init__(self, n_in: int, *, epsilon: float = 1e-5) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.epsilon = positive("epsilon", epsilon)
        self._statistics: tuple[Array, Array] | None = None

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "epsilon": self.epsilon}

    def parameters(self) -> dict[str, ParameterSpec]:
        return {
            "gamma": ParameterSpec((self.n_in,), decayed=False, initializer=1.0),
            "beta": ParameterSpec((self.n_in,), decayed=False, initializer=0.0),
        }

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._statistics = ops.backend.empty(len(x), x.dtype), ops.backend.empty(len(x), x.dtype)
        ops(layer_norm_forward, x, self.gamma, self.beta, *self._statistics, y, epsilon=self.epsilon)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        ops(layer_norm_forward, x, self.gamma, self.beta, None, None, y, epsilon=self.epsilon)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._statistics is not None
        # The parameter gradients come first, since d_x may overwrite d_y.
        ops(layer_norm_parameter_gradients, x, *self._statistics, d_y, self.d_gamma, self.d_beta)
        if d_x is not None:
            ops(layer_norm_backward, x, self.gamma, *self._statistics, d_y, d_x)
