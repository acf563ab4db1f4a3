"""Recording the op calls of a loss."""

from __future__ import annotations

from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.losses.base import Loss
from gradflow.ops import Array
from gradflow.sealing import is_of_users, record_sealed


def record_loss(
    ops: Executor,
    loss: Loss,
    outputs: Array,
    targets: Array,
    row_weight: Array | None,
    d_outputs: Array,
    row_losses: Array,
    row_correct: Array,
    clock: Array,
) -> None:
    """Record the op calls of a loss (`Loss.apply`).

    Raises:
        DataError: if a user-defined loss does its own array math, does not write its results, or ignores the row
            weights.
    """
    arguments = outputs, targets, row_weight, d_outputs, row_losses, row_correct, clock
    if not is_of_users(loss.apply):
        loss.apply(ops, *arguments)
        return
    results = {"d_outputs": d_outputs, "row_losses": row_losses}
    if loss.has_accuracy:
        results["row_correct"] = row_correct
    passed = record_sealed(ops, f"{type(loss).__name__}.apply", loss.apply, *arguments, results=results)
    if row_weight is not None and not any(array is row_weight for array in passed):
        raise DataError(
            f"the rows have weights, but loss {loss!r} passes no op its row_weight, so the weights would have no "
            "effect; omit sample_weight and class_weight, or use a loss whose op multiplies by row_weight"
        )
