"""The next batch."""

from __future__ import annotations

import numpy as np

from gradflow.backends.numpy_forms.registry import implements
from gradflow.backends.reference import BoundCall
from gradflow.ops import EPOCH, POSITION, Array
from gradflow.random import shuffled_rows


@implements("gather_shuffled_batch")
def _gather_shuffled_batch(
    x: Array,
    targets: Array,
    row_weight: Array | None,
    batch_x: Array,
    batch_targets: Array,
    batch_row_weight: Array | None,
    clock: Array,
    seed: int,
) -> BoundCall:
    def run() -> None:
        first = int(clock[POSITION])
        rows = shuffled_rows(len(x), seed=seed, epoch=int(clock[EPOCH]))[first : first + len(batch_x)]
        # Any mode but "raise" writes straight into the batch; the rows are in range.
        np.take(x, rows, axis=0, out=batch_x, mode="clip")
        np.take(targets, rows, axis=0, out=batch_targets, mode="clip")
        if row_weight is not None:
            np.take(row_weight, rows, out=batch_row_weight, mode="clip")

    return run
