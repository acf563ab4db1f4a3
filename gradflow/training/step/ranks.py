"""A step that several ranks make together: each computes its rows of the batch, and their gradients are added."""

from __future__ import annotations

from typing import Any

from gradflow.distributed import World
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.layers.dropout import dropout, scheduled_dropout
from gradflow.layers.stack import with_inner
from gradflow.ops import Array, Op
from gradflow.optimizers.accumulation import accumulate
from gradflow.precision import Adapted
from gradflow.training.step.objective import Objective


def check_ranks(objective: Objective, world: World, *, batch_size: int, parts: int) -> None:
    """Raise for what several ranks cannot do together.

    Raises:
        DataError: naming the layer, metric or setting.
    """
    if world.size == 1:
        return
    remedy = f"train it by one process, or with GRADFLOW_DISTRIBUTED=0 by each of the {world.size} ranks for itself"
    if objective.layer_statistics:
        raise DataError("layer_statistics are not supported with several ranks: each sees only its rows; omit it")
    if not world.share_all(-(-batch_size // parts)):
        raise DataError(
            f"{world.size} ranks share each batch in fours of rows, so batch_size must be at least "
            f"{parts * (4 * world.size - 3)}, got {batch_size}; pass a larger one, or launch fewer ranks"
        )
    for layer in with_inner(objective.network.layers):
        if layer.trainable and layer.least_batch_size > 1:
            raise DataError(
                f"{layer!r} normalizes with the rows of a batch, of which each of several ranks sees only its own; use "
                f"LayerNorm, freeze the layer, or {remedy}"
            )
    for metric in objective.metrics:
        if not metric.statistics.adds_up():
            raise DataError(
                f"metric {metric.name!r}: {metric.statistics.__name__} does not say how to put the statistics of "
                "several ranks together; define merged(parts)"
            )


def of_rows(ops: Executor, rows: range) -> Executor:
    """Return an executor for some rows of a batch: they get the dropout masks of the whole batch. Layers may have
    several rows for each of them (`gradflow.layers.EachMember`)."""

    def change(op: Op, arguments: dict[str, Any]) -> tuple[Op, dict[str, Any]]:
        if op in (dropout, scheduled_dropout):
            words = arguments["x"].size // len(rows)
            arguments |= {"rows_before": rows.start, "words_before": rows.start * words}
        return op, arguments

    return Adapted(ops, change) if rows.start else ops


def record_fraction(ops: Executor, gradients: Array, fraction: float) -> None:
    """Record gradients *= fraction."""
    ops(accumulate, gradients, gradients, gradients, fraction, kept=0)
