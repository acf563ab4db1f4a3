"""The quantile loss, for one or several quantiles at once.

References:
    R. Koenker & G. Bassett, "Regression quantiles", *Econometrica* 46 (1978).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.checks import positive_fraction
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.functions import row_weights
from gradflow.losses.base import RegressionLoss, dense_targets, record_losses
from gradflow.ops import Array, op, shape_of_first


def _sizes(arguments: Mapping[str, Any]) -> dict[str, int]:
    return {**shape_of_first(arguments), "n_quantiles": arguments["quantiles"].size}


@op(
    shapes="outputs, d_outputs: rows columns; targets: rows n_targets; row_weight: rows; row_losses: epoch_rows; "
    "clock: 4; quantiles: n_quantiles",
    writes=("d_outputs", "row_losses", "clock"),
    in_place=(("outputs", "d_outputs"),),
    sizes=_sizes,
)
def quantile(
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    clock: Array,
    quantiles: Array,
) -> None:
    """Row loss w mean_j max(q e_j, (q - 1) e_j), e = t - y;  dL/dy_j = w (-q or 1 - q) / (rows n_out) by e's sign"""
    n_quantiles = len(quantiles)
    error = np.repeat(targets, n_quantiles, axis=1) - outputs
    level = np.tile(quantiles, targets.shape[1])
    weight = row_weights(row_weight, len(error), error.dtype)
    record_losses(weight * np.maximum(level * error, (level - 1) * error).mean(axis=1), row_losses, clock)
    slope = np.where(error > 0, -level, np.where(error < 0, 1 - level, 0 * error))
    d_outputs[...] = weight[:, None] * slope / error.size


class QuantileLoss(RegressionLoss):
    """L = mean over rows and outputs of max(q e, (q - 1) e) with e = t - y (Koenker & Bassett, 1978, section 3).

    Outputs then approach the q-quantile of the target given the inputs: the number that the target falls below with
    probability q. dL/dy = -q / (rows n_out) where y < t, (1 - q) / (rows n_out) where y > t, 0 where y = t.

    Several quantiles are learned at once: n_out = n_targets · n_quantiles, starting with all quantiles of the first
    target, so that ``network.predict(x).reshape(len(x), n_targets, n_quantiles)`` separates them. They may cross where
    there is too little data or training, unless the last layer is `Increasing`. Targets (batch, n_targets), or (batch,)
    for one.

    Args:
        quantiles: one or more different numbers in (0, 1).

    Raises:
        DataError: if there is none, or one is outside (0, 1) or occurs twice.
    """

    name = "quantile"
    op = quantile
    predicts_targets = False

    def __init__(self, quantiles: Sequence[float] = (0.5,)) -> None:
        if not isinstance(quantiles, list | tuple) or not quantiles:
            raise DataError(f"quantiles must list numbers between 0 and 1, such as [0.1, 0.5, 0.9], got {quantiles!r}")
        self.quantiles = [positive_fraction(f"quantiles[{index}]", value) for index, value in enumerate(quantiles)]
        if len(set(self.quantiles)) != len(self.quantiles):
            raise DataError(f"each quantile may occur only once, got {quantiles!r}")

    @property
    def outputs_per_target(self) -> int:
        return len(self.quantiles)

    def config(self) -> dict[str, Any]:
        return {"quantiles": self.quantiles}

    def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
        n_targets, rest = divmod(n_out, len(self.quantiles))
        if rest:
            raise DataError(
                f"{len(self.quantiles)} quantiles need a network whose number of outputs is n_targets times "
                f"{len(self.quantiles)}, got {n_out} outputs"
            )
        return dense_targets(y, n_targets, dtype)

    def settings(self, ops: Executor, outputs: Array) -> tuple[Array]:
        return (ops.backend.from_host(np.array(self.quantiles, outputs.dtype)),)
