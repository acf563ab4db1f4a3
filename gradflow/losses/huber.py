"""The Huber loss (Huber, 1964).

References:
    P. J. Huber, "Robust estimation of a location parameter", *Annals of Mathematical Statistics* 35 (1964).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import positive
from gradflow.executors import Executor
from gradflow.functions import row_weights
from gradflow.losses.base import RegressionLoss, record_losses
from gradflow.ops import Array, op


@op(
    shapes="outputs, targets, d_outputs: rows columns; row_weight: rows; row_losses: epoch_rows; clock: 4",
    writes=("d_outputs", "row_losses", "clock"),
    in_place=(("outputs", "d_outputs"),),
)
def huber(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
    delta: float,
) -> None:
    """Row loss w mean_j c_j (e_j - c_j / 2), e = y - t, c = e clipped to ±delta;  dL/dy_j = w c_j / (rows n_out)"""
    error = outputs - targets
    weight = row_weights(row_weight, len(error), error.dtype)
    held = np.clip(error, -delta, delta)
    record_losses(weight * (held * (error - held / 2)).mean(axis=1), row_losses, clock)
    d_outputs[...] = weight[:, None] * held / error.size


class HuberLoss(RegressionLoss):
    """L = mean over rows and outputs of ½ e² where |e| <= delta, else delta (|e| - ½ delta), with e = y - t.

    dL/dy = e / (rows n_out), clipped to ± delta / (rows n_out). It is a squared error near 0 and an
    absolute error far from it. Targets (batch, n_out).

    Args:
        delta: the error at which the one becomes the other, in the units of the targets, above 0.
    """

    name = "huber"
    op = huber

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = positive("delta", delta)

    def config(self) -> dict[str, Any]:
        return {"delta": self.delta}

    def settings(self, ops: Executor, outputs: Array) -> tuple[float]:
        return (self.delta,)
