"""Clipping the gradient by its global norm (Pascanu, Mikolov & Bengio, 2013, algorithm 1).

References:
    R. Pascanu, T. Mikolov & Y. Bengio, "On the difficulty of training recurrent neural networks", ICML (2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.executors import Executor
from gradflow.ops import Array, op
from gradflow.optimizers.base import with_penalties
from gradflow.reductions import chunk_length


def _chunk_sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {"n": arguments["gradients"].size, "rows": arguments["partials"].size}


@op(shapes="parameters, gradients: n; hyper: *any; partials: chunks", writes=("partials",), sizes=_chunk_sizes)
def chunk_squares(
    parameters: Array, gradients: Array, hyper: Array, partials: Array, n_decayed: int, chunk: int
) -> None:
    """partials_c = Σ g² over chunk c of the regularized gradient"""
    g = with_penalties(parameters, gradients, hyper, n_decayed).astype(np.float64)
    partials[...] = np.add.reduceat(g * g, np.arange(0, g.size, chunk))


@op(
    shapes="partials: chunks; gradient_scale: 1",
    writes=("gradient_scale",),
    sizes=lambda arguments: {"rows": 1, "columns": arguments["partials"].size},
)
def clip_scale(partials: Array, gradient_scale: Array, clip_norm: float) -> None:
    """gradient_scale = min(1, clip_norm / norm), norm = √(Σ partials)"""
    norm = np.sqrt(partials.sum())
    gradient_scale[0] = clip_norm / norm if norm > clip_norm else 1


class GradientClipping:
    """Scales the whole gradient, including penalties, by min(1, clip_norm / ‖gradient‖₂)."""

    def __init__(self, backend: ReferenceBackend, n_parameters: int, clip_norm: float) -> None:
        self._clip_norm = clip_norm
        self._chunk = chunk_length(n_parameters)
        self._partials = backend.empty(-(-n_parameters // self._chunk), np.float64)

    def apply(
        self,
        ops: Executor,
        parameters: Array,
        gradients: Array,
        hyper: Array,
        gradient_scale: Array,
        n_decayed: int,
    ) -> None:
        """Write the factor by which the optimizer multiplies the gradient."""
        ops(chunk_squares, parameters, gradients, hyper, self._partials, n_decayed, self._chunk)
        ops(clip_scale, self._partials, gradient_scale, self._clip_norm)
