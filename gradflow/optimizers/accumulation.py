"""Gradient accumulation over the parts of a batch."""

from __future__ import annotations

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.executors import Executor
from gradflow.ops import Array, op


@op(
    shapes="gradients, total, out: n",
    writes=("out",),
    in_place=(("gradients", "out"), ("total", "out")),
)
def accumulate(gradients: Array, total: Array, out: Array, share: float, kept: int) -> None:
    """out = share g + kept total, with share the part's fraction of the rows; with kept = 0 the total is not read"""
    part = gradients.dtype.type(share) * gradients
    out[...] = part + total if kept else part


class GradientAccumulation:
    """The gradient of a batch, summed over its parts: each part's mean gradient is weighted by its fraction of rows."""

    def __init__(self, backend: ReferenceBackend, n_parameters: int, dtype: np.dtype) -> None:
        self._total = backend.zeros(n_parameters, dtype)

    def add(self, ops: Executor, gradients: Array, share: float, *, is_first: bool, is_last: bool) -> None:
        """Add the gradient of a part; after the last, ``gradients`` contains that of the batch."""
        out = gradients if is_last else self._total
        ops(accumulate, gradients, self._total, out, share, kept=int(not is_first))
