"""Batch normalization (Ioffe & Szegedy, 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive, positive_integer, positive_share
from gradflow.executors import Executor
from gradflow.layers.base import BufferSpec, Layer, ParameterSpec
from gradflow.ops import Array, op


@op(
    shapes="x, y: rows columns; gamma, beta, mean, variance: columns",
    writes=("y",),
    in_place=(("x", "y"),),
)
def normalize_columns(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, y: Array, epsilon: float
) -> None:
    """y_ij = gamma_j (x_ij - mean_j) / √(variance_j + epsilon) + beta_j"""
    y[...] = (x - mean) * (gamma / np.sqrt(variance + epsilon)) + beta


@op(
    shapes="x, y: rows columns; gamma, beta, mean, variance, running_mean, running_variance: columns",
    writes=("mean", "variance", "running_mean", "running_variance", "y"),
    in_place=(("x", "y"),),
)
def batch_norm_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    variance: Array,
    running_mean: Array,
    running_variance: Array,
    y: Array,
    momentum: float,
    epsilon: float,
) -> None:
    """`normalize_columns` with the mean and variance of this batch of at least two rows, and an update of the running
    ones: running = (1 - momentum) running + momentum batch, where the batch's variance is rows / (rows - 1) variance"""
    center = x.mean(axis=0, dtype=np.float64)
    spread = np.square(x - center).mean(axis=0)
    unbiased = spread * (len(x) / (len(x) - 1))
    mean[...], variance[...] = center, spread
    running_mean[...] = (1 - momentum) * running_mean.astype(np.float64) + momentum * center
    running_variance[...] = (1 - momentum) * running_variance.astype(np.float64) + momentum * unbiased
    normalize_columns.reference(x, gamma, beta, mean, variance, y, epsilon)


@op(
    shapes="x, d_y, d_x: rows columns; gamma, mean, variance, d_gamma, d_beta: columns",
    writes=("d_gamma", "d_beta", "d_x"),
    in_place=(("d_y", "d_x"),),
)
def batch_norm_backward(
    x: Array,
    gamma: Array,
    mean: Array,
    variance: Array,
    d_y: Array,
    d_gamma: Array,
    d_beta: Array,
    d_x: Array | None,
    epsilon: float,
    share: float,
) -> None:
    """With n_ij = (x_ij - mean_j) / √(variance_j + epsilon):

    dL/dgamma_j = Σ_i n_ij dL/dy_ij, dL/dbeta_j = Σ_i dL/dy_ij,
    dL/dx_ij = gamma_j / √(variance_j + epsilon) (dL/dy_ij - share (dL/dbeta_j + n_ij dL/dgamma_j)), with
    share = 1 / rows if mean and variance are those of this batch, and 0 if they are fixed"""
    inverse = 1 / np.sqrt(variance + epsilon)
    normalized = (x - mean) * inverse
    d_gamma[...] = (d_y * normalized).sum(axis=0, dtype=np.float64)
    d_beta[...] = d_y.sum(axis=0, dtype=np.float64)
    if d_x is not None:
        d_x[...] = gamma * inverse * (d_y - share * (d_beta + normalized * d_gamma))


class BatchNorm(Layer):
    """y_ij = gamma_j (x_ij - mean_j) / √(variance_j + epsilon) + beta_j, for x and y of shape (batch, n_in).

    During training, mean and variance are those of each column in the batch: algorithm 1 of Ioffe & Szegedy (2015),
    with the variance divided by the number of rows, and epsilon inside the square root. Running statistics follow them,

        running = (1 - momentum) running + momentum now,

    where the running variance uses the unbiased estimate, divided by rows - 1 (their algorithm 2). PyTorch does the
    same; Keras calls 1 - momentum momentum. At prediction the running statistics replace those of the batch. They are
    buffers: ``running_mean`` starts at 0 and ``running_variance`` at 1; both are saved with the weights, but not
    trained.

    A single row has no variance. A batch of one row, which can occur at the end of an epoch, is therefore normalized
    with the running statistics, as at prediction, and does not update them. Training with ``batch_size=1`` raises an
    error. A frozen layer (``network.frozen``) treats every batch this way. Several ranks that train together normalize
    with the statistics of the whole batch (`gradflow.distributed`).

    The variance is computed in two passes with float64 sums (Chan, Golub & LeVeque, 1983), so that it is accurate even
    if the mean is large compared to the standard deviation. ``beta`` acts as a bias, so ``Dense(..., bias=False)`` is
    sufficient before this layer.

    Args:
        n_in: the number of inputs and outputs.
        momentum: the weight of the new value in the running statistics: above 0, at most 1.
        epsilon: added to the variance: above 0.

    Parameters: ``gamma`` (n_in,), initially 1, and ``beta`` (n_in,), initially 0; neither is subject to weight decay.
    """

    recorded = True
    elementwise = True
    backward_reads = ("x",)
    set_by_forward = ("_statistics",)
    preferred_initializer = None
    least_batch_size = 2

    gamma: Array
    d_gamma: Array
    beta: Array
    d_beta: Array
    running_mean: Array
    running_variance: Array

    def __init__(self, n_in: int, *, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.momentum = positive_share("momentum", momentum)
        self.epsilon = positive("epsilon", epsilon)
        self._statistics: tuple[Array, Array] | None = None

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "momentum": self.momentum, "epsilon": self.epsilon}

    def parameters(self) -> dict[str, ParameterSpec]:
        return {
            "gamma": ParameterSpec((self.n_in,), decayed=False, initializer=1.0),
            "beta": ParameterSpec((self.n_in,), decayed=False, initializer=0.0),
        }

    def buffers(self) -> dict[str, BufferSpec]:
        return {
            "running_mean": BufferSpec((self.n_in,), initial=0.0),
            "running_variance": BufferSpec((self.n_in,), initial=1.0, least=0.0),
        }

    def _keeps_statistics(self, ops: Executor, x: Array) -> bool:
        return (len(x) == 1 and not ops.has_part_of_batch) or not self.trainable

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        if self._keeps_statistics(ops, x):
            self._statistics = self.running_mean, self.running_variance
            self.infer(ops, x, y)
            return
        mean, variance = (ops.backend.empty(self.n_in, x.dtype) for _ in range(2))
        self._statistics = mean, variance
        running = self.running_mean, self.running_variance
        ops(
            batch_norm_forward, x, self.gamma, self.beta, mean, variance, *running, y,
            momentum=self.momentum, epsilon=self.epsilon,
        )  # fmt: skip

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        running = self.running_mean, self.running_variance
        ops(normalize_columns, x, self.gamma, self.beta, *running, y, epsilon=self.epsilon)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._statistics is not None
        ops(
            batch_norm_backward, x, self.gamma, *self._statistics, d_y, self.d_gamma, self.d_beta, d_x,
            epsilon=self.epsilon, share=0.0 if self._keeps_statistics(ops, x) else 1 / len(x),
        )  # fmt: skip
