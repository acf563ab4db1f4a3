"""The loss of an ensemble whose members share weights: the mean of its members' losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradflow.executors import Executor
from gradflow.layers import MeanOfMembers
from gradflow.losses import Loss
from gradflow.losses.base import record_losses
from gradflow.losses.recording import record_loss
from gradflow.ops import NEVER, Array, op
from gradflow.training.data.feed import DataSet


def _words_of_rows(arguments: Mapping[str, Any]) -> dict[str, int]:
    x, repeated = arguments["x"], arguments["repeated"]
    return {"rows": len(x), "row_words": int(x.nbytes) // max(len(x), 1) // 4, "members": repeated.shape[1]}


@op(shapes=lambda arguments: _repeated_shapes(arguments["x"]), writes=("repeated",), sizes=_words_of_rows)
def repeat_rows(x: Array, repeated: Array) -> None:
    """Row r of the batch becomes the row r of each member"""
    repeated[...] = x[:, None]


def _repeated_shapes(x: Array) -> str:
    row = " ".join(f"row_{place}" for place in range(1, x.ndim))
    return f"x: rows {row}; repeated: rows members {row}"


def _rows_of_members(arguments: Mapping[str, Any]) -> dict[str, int]:
    rows, columns = arguments["losses"].shape
    return {"rows": rows, "columns": columns}


@op(
    shapes="losses: rows columns; row_losses: epoch_rows; clock: 4",
    writes=("row_losses", "clock"),
    sizes=_rows_of_members,
)
def mean_member_losses(losses: Array, row_losses: Array, clock: Array) -> None:
    """Row loss mean_m L_im, with the losses L_im of the members"""
    record_losses(losses.mean(axis=1, dtype=np.float64).astype(losses.dtype), row_losses, clock)


def record_member_losses(
    ops: Executor, loss: Loss, mean: MeanOfMembers, outputs: Array, batch: DataSet, row_losses: Array
) -> Array:
    """Record the mean of the members' losses, and return its gradient, which may overwrite the outputs.

    Args:
        ops: the executor.
        loss: the loss of a member.
        mean: the layer that averages the members.
        outputs: the outputs of the members, (batch, members · n_out).
        batch: the batch, with the targets of all members.
        row_losses: receives the mean of each row, at its position in the epoch.
    """
    by_member = mean.by_member(outputs)
    rows, backend = len(by_member), ops.backend
    losses, correct = backend.empty(rows, outputs.dtype), backend.empty(rows, outputs.dtype)
    targets = _repeated(ops, batch.targets, mean.members)
    row_weight = None if batch.row_weight is None else _repeated(ops, batch.row_weight, mean.members)
    d_outputs = backend.empty(by_member.shape, by_member.dtype)
    # A clock of its own, at the beginning of an epoch of these rows. The run's clock is told of losses below.
    clock = backend.from_host(np.array([1, 0, 0, NEVER], np.int64))
    record_loss(ops, loss, by_member, targets, row_weight, d_outputs, losses, correct, clock)
    ops(mean_member_losses, losses.reshape(len(outputs), -1), row_losses, ops.clock)
    return d_outputs.reshape(outputs.shape)


def _repeated(ops: Executor, x: Array, members: int) -> Array:
    repeated = ops.backend.empty((len(x), members, *x.shape[1:]), x.dtype)
    ops(repeat_rows, x, repeated)
    return repeated.reshape(len(x) * members, *x.shape[1:])
