"""Muon for the weight matrices of hidden layers, and AdamW for all other parameters.

References:
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", https://kellerjordan.github.io/posts/muon/
        (2024).
    J. Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982 (2025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np

from gradflow.checks import boolean, fraction, known_name, non_negative, positive
from gradflow.executors import Executor
from gradflow.layers import Dense, Layer
from gradflow.layers.dense import gemm
from gradflow.layers.stack import layer_at, parameters_of
from gradflow.ops import Array, has_diverged, op, record_update
from gradflow.optimizers.adam import AdamW, adamw_range
from gradflow.optimizers.base import OWN, rates_at, regularized
from gradflow.schedules import LearningRate, Scheduled

_MOMENTUM, _NESTEROV = OWN + 6, OWN + 7  # after those of Adam
_LEAST_NORM = 1e-7
_ITERATIONS = 5

ADJUSTMENTS = {
    "original": lambda n_in, n_out: math.sqrt(max(1, n_out / n_in)),
    "match_rms_adamw": lambda n_in, n_out: 0.2 * math.sqrt(max(n_in, n_out)),
}
"""Factors of the step of a weight matrix, by the names in ``torch.optim.Muon``."""


@op(
    shapes="parameters, gradients, first_moment, direction: rows columns; squares: rows; hyper: *any; "
    "gradient_scale: 1; clock: 4",
    writes=("first_moment", "direction", "squares"),
)
def muon_direction(
    parameters: Array,
    gradients: Array,
    first_moment: Array,
    direction: Array,
    squares: Array,
    hyper: Array,
    gradient_scale: Array,
    clock: Array,
) -> None:
    """m = μ m + (1 - μ) g;  d = (1 - μ) g + μ m with Nesterov momentum, else m;  squares_i = Σ_j d_ij²"""
    if has_diverged(clock):
        return
    momentum = float(hyper[_MOMENTUM])
    g = regularized(parameters, gradients, hyper, gradient_scale, len(parameters))
    first_moment[...] = momentum * first_moment + (1 - momentum) * g
    direction[...] = (1 - momentum) * g + momentum * first_moment if hyper[_NESTEROV] else first_moment
    squares[...] = np.square(direction.astype(np.float64)).sum(axis=1)


@op(
    shapes="squares: rows; scale: 1",
    writes=("scale",),
    sizes=lambda arguments: {"rows": 1, "columns": arguments["squares"].size},
)
def muon_scale(squares: Array, scale: Array) -> None:
    """scale = 1 / max(√(Σ squares), 1e-7)"""
    scale[0] = 1 / np.maximum(np.sqrt(squares.sum()), _LEAST_NORM)


@op(shapes="direction: *shape; scale: 1", writes=("direction",))
def muon_normalize(direction: Array, scale: Array) -> None:
    """x = scale d, whose norm is 1"""
    direction *= scale[0]


@op(shapes="gram, square: rows columns", writes=("gram",))
def muon_factor(gram: Array, square: Array) -> None:
    """f = 3.4445 I - 4.7750 A + 2.0315 A², with A = x xᵀ: an iteration of Newton & Schulz is x = f x"""
    gram[...] = -4.7750 * gram + 2.0315 * square + 3.4445 * np.eye(len(gram), dtype=gram.dtype)


@op(shapes="parameters, direction: *shape; hyper: *any; clock: 4", writes=("parameters", "clock"))
def muon_update(parameters: Array, direction: Array, hyper: Array, clock: Array, scale: float, first: int) -> None:
    """w = (1 - rate weight_decay) w - rate scale x, with the factors of parameter `first`"""
    if not has_diverged(clock):
        rate, decay = rates_at(hyper, first)
        parameters *= 1 - rate * decay
        parameters -= rate * scale * direction
        record_update(parameters, clock)


class _Scratch(NamedTuple):
    """Arrays that all matrices of a network use in turn: two of the size of the largest, two of its smaller side
    squared, the sums of squares of its rows, and the scale."""

    directions: tuple[Array, Array]
    grams: tuple[Array, Array]
    squares: Array
    scale: Array


class Muon(AdamW):
    """Muon (Jordan et al., 2024): steps of the weight matrices of hidden layers whose singular values are all about 1.

    With the gradient g of a matrix w, and the momentum m = momentum m + (1 - momentum) g:

        d = (1 - momentum) g + momentum m, or m without Nesterov momentum
        x = d / ‖d‖;  five times x = 3.4445 x - 4.7750 A x + 2.0315 A² x with A = x xᵀ    (Newton & Schulz)
        w = (1 - learning_rate weight_decay) w - learning_rate scale x

    The singular values of x are between about 0.7 and 1.2. The scale is that of ``adjust``. The iterations are computed
    in the dtype of the network, while those of ``torch.optim.Muon`` always are in bfloat16. An iteration takes three
    matmuls, so a step of a layer as wide as the batch is long takes about six times as long as with Adam.

    The matrices are the weights of `Dense` layers, also inside `Residual`, but not that of the last layer, the outputs.
    AdamW trains all other parameters: biases, scales, embeddings, those of normalization, the heads of `MemberDense`.

    Args:
        learning_rate: the step size of the matrices: a number above 0, a schedule, or a function of the time in epochs.
        momentum: the decay rate of m, at least 0 and below 1.
        nesterov: True for Nesterov momentum.
        weight_decay: the decay of weights per step in units of the learning rate, at least 0; or a schedule of it.
        adjust: the scale of a matrix (n_in, n_out): "original" for √max(1, n_out / n_in), or "match_rms_adamw" for
            0.2 √max(n_in, n_out), with which learning rates of AdamW are right for the matrices too (Liu et al., 2025).
        output_layer: True if the weight of the last layer is one of the matrices.
        adamw_factor: the learning rate of AdamW, in units of ``learning_rate``, above 0.
        adamw_decay_factor: the weight decay of AdamW, in units of ``weight_decay``, at least 0.
        beta1, beta2, epsilon: those of AdamW.
        factors: factors of the learning rate by layer or kind of parameter (`Optimizer`).
        decay_factors: factors of the weight decay by the same names.
    """

    name = "muon"
    default_learning_rate = 0.02

    def __init__(
        self,
        learning_rate: LearningRate = 0.02,
        momentum: float = 0.95,
        weight_decay: Scheduled = 0.01,
        *,
        nesterov: bool = True,
        adjust: str = "original",
        output_layer: bool = False,
        adamw_factor: float = 0.05,
        adamw_decay_factor: float = 1.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        factors: Mapping[str, float] | None = None,
        decay_factors: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(
            learning_rate, beta1, beta2, epsilon, weight_decay, factors=factors, decay_factors=decay_factors
        )
        self.momentum = fraction("momentum", momentum)
        self.nesterov = boolean("nesterov", nesterov)
        self.adjust = known_name("adjust", adjust, ADJUSTMENTS)
        self.output_layer = boolean("output_layer", output_layer)
        self.adamw_factor = positive("adamw_factor", adamw_factor)
        self.adamw_decay_factor = non_negative("adamw_decay_factor", adamw_decay_factor)
        self._matrices: dict[int, tuple[int, int]] = {}
        self._ends: list[int] = []
        self._scratch: _Scratch | None = None

    def hyper(self) -> list[float]:
        return [*super().hyper(), self.momentum, float(self.nesterov)]

    def config(self) -> dict[str, Any]:
        names = ("momentum", "nesterov", "adjust", "output_layer", "adamw_factor", "adamw_decay_factor")
        return super().config() | {name: getattr(self, name) for name in names}

    def own_factors(
        self, layers: Sequence[Layer], ranges: Mapping[str, tuple[int, int]]
    ) -> Mapping[str, tuple[float, float]]:
        matrices = self._shapes(layers, ranges)
        others = self.adamw_factor, self.adamw_decay_factor
        return {name: others for name in ranges if name not in matrices}

    def of_network(self, layers: Sequence[Layer], ranges: Mapping[str, tuple[int, int]]) -> Self:
        bound = copy(self)
        bound._matrices = {ranges[name][0]: shape for name, shape in self._shapes(layers, ranges).items()}
        bound._ends = [end for end, *_ in self.segments(layers, ranges)]
        return bound

    def _shapes(self, layers: Sequence[Layer], ranges: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """Return the shapes of the matrices by name."""
        weights = {name: spec.shape for name, spec in parameters_of(layers).items() if spec.decayed}
        if weights and not self.output_layer:
            weights.popitem()
        found = {}
        for name, shape in weights.items():
            if name in ranges and name.endswith(".weight") and isinstance(layer_at(layers, name[:-7]), Dense):
                n_in, n_out = shape
                found[name] = n_in, n_out
        return found

    def step(
        self,
        ops: Executor,
        parameters: Array,
        gradients: Array,
        state: Mapping[str, Array],
        hyper: Array,
        gradient_scale: Array,
        clock: Array,
        n_decayed: int,
    ) -> None:
        """Call the ops of AdamW on the parameters between the matrices, and those of Muon on each matrix."""
        if not self._matrices:
            super().step(ops, parameters, gradients, state, hyper, gradient_scale, clock, n_decayed)
            return
        ends = {begin + n_in * n_out for begin, (n_in, n_out) in self._matrices.items()}
        cuts = sorted({0, parameters.size, n_decayed, *self._ends, *self._matrices, *ends})
        for begin, end in pairwise(cuts):
            w, g, first_moment, second_moment = (
                vector[begin:end] for vector in (parameters, gradients, state["first_moment"], state["second_moment"])
            )
            if begin not in self._matrices:
                rest = hyper, gradient_scale, clock, begin < n_decayed, begin
                ops(adamw_range, w, g, first_moment, second_moment, *rest)
                continue
            shape = self._matrices[begin]
            scratch = self._scratch = self._scratch or self._new_scratch(ops, parameters.dtype)
            x, other = (vector[: w.size].reshape(shape) for vector in scratch.directions)
            squares = scratch.squares[: shape[0]]
            matrices = (vector.reshape(shape) for vector in (w, g, first_moment))
            ops(muon_direction, *matrices, x, squares, hyper, gradient_scale, clock)
            ops(muon_scale, squares, scratch.scale)
            ops(muon_normalize, x, scratch.scale)
            side = min(shape)
            gram, square = (vector[: side * side].reshape(side, side) for vector in scratch.grams)
            direction = _orthogonalized(ops, x, other, gram, square)
            ops(muon_update, w, direction.reshape(-1), hyper, clock, ADJUSTMENTS[self.adjust](*shape), begin)

    def _new_scratch(self, ops: Executor, dtype: np.dtype) -> _Scratch:
        backend, shapes = ops.backend, self._matrices.values()
        largest, side = max(math.prod(shape) for shape in shapes), max(min(shape) for shape in shapes)
        directions, grams = (
            (backend.zeros(size, dtype), backend.zeros(size, dtype)) for size in (largest, side * side)
        )
        squares = backend.zeros(max(rows for rows, _ in shapes), np.float64)
        return _Scratch(directions, grams, squares, backend.zeros(1, dtype))


def _orthogonalized(ops: Executor, x: Array, other: Array, gram: Array, square: Array) -> Array:
    """Record the iterations that begin with x, and return the array of their result, which is x or the other one.

    Args:
        ops: the executor.
        x, other: a matrix of norm 1, and another array of its shape.
        gram, square: arrays for square matrices of its smaller side.
    """
    is_wide = x.shape[0] <= x.shape[1]
    for _ in range(_ITERATIONS):
        ops(gemm, x, x, gram, transpose_a=not is_wide, transpose_b=is_wide)
        ops(gemm, gram, gram, square)
        ops(muon_factor, gram, square)
        ops(gemm, *((gram, x) if is_wide else (x, gram)), other)
        x, other = other, x
    return x
