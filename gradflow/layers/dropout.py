"""Inverted dropout (Srivastava et al., 2014): kept elements are scaled up in training; prediction is unaffected."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import fraction
from gradflow.executors import Executor
from gradflow.layers.base import Layer
from gradflow.ops import EPOCH, POSITION, Array, op
from gradflow.random import DROPOUT_STREAM, philox
from gradflow.schedules import Schedule, Scheduled, described, number_or_schedule


@op(shapes="x, y: *shape; clock: 4", writes=("y",), in_place=(("x", "y"),))
def dropout(
    x: Array,
    y: Array,
    clock: Array,
    threshold: int,
    scale: float,
    seed: int,
    stream: int,
    rows_before: int = 0,
    words_before: int = 0,
) -> None:
    """y_i = scale x_i where word i + words_before of Philox for (seed, stream, position - rows_before, epoch) is at
    least threshold, else 0; words_before, a multiple of 4, is the number of elements in the rows before"""
    batch = int(clock[EPOCH]) << 32 | int(clock[POSITION]) - rows_before & 0xFFFFFFFF
    words = philox(x.size, seed=seed, stream=stream, step=batch, first=words_before).reshape(x.shape)
    y[...] = np.where(words >= threshold, scale * x, 0)


@op(shapes="x, y: *shape; clock: 4; rate: 1", writes=("y",), in_place=(("x", "y"),))
def scheduled_dropout(
    x: Array,
    y: Array,
    clock: Array,
    rate: Array,
    seed: int,
    stream: int,
    rows_before: int = 0,
    words_before: int = 0,
) -> None:
    """The same, with scale = 1 / (1 - rate) and threshold = rate 2³², rounded"""
    threshold = min(int(rate[0] * 2**32 + 0.5), 2**32 - 1)
    dropout.reference(x, y, clock, threshold, float(1 / (1 - rate[0])), seed, stream, rows_before, words_before)


class Dropout(Layer):
    """Set each element of x (batch, n) to 0 with probability ``rate``, else to x / (1 - rate), during training.

    The derivative is the same map: dL/dx = dL/dy / (1 - rate) where kept, else 0. The backward pass recomputes the mask
    from (seed, layer, epoch, first row of the batch); it is never stored. Prediction skips the layer.

    Args:
        rate: the probability of dropping an element, at least 0 and below 1; or a schedule of it.
    """

    recorded = True
    elementwise = True
    backward_reads = ()
    training_only = True
    preferred_initializer = None

    fractions = ("rate",)

    def __init__(self, rate: Scheduled) -> None:
        self.rate = number_or_schedule("rate", rate, fraction)

    def config(self) -> dict[str, Any]:
        return {"rate": described(self.rate)}

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._apply(ops, x, y)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        if d_x is not None:
            self._apply(ops, d_y, d_x)

    def _apply(self, ops: Executor, x: Array, y: Array) -> None:
        assert self.attached is not None
        words = {"seed": self.attached.seed, "stream": DROPOUT_STREAM + self.attached.index}
        if isinstance(self.rate, Schedule):
            ops(scheduled_dropout, x, y, ops.clock, ops.value(self.rate), **words)
            return
        threshold = min(round(self.rate * 2**32), 2**32 - 1)
        ops(dropout, x, y, ops.clock, threshold=threshold, scale=1 / (1 - self.rate), **words)
