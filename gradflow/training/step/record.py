"""The training step: forward, loss, backward, update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.executors import Executor
from gradflow.layers import Layer, MeanOfMembers
from gradflow.layers.stack import ForwardArrays, record_backward, record_forward, record_inference
from gradflow.losses import Loss
from gradflow.losses.base import weigh_correct
from gradflow.losses.recording import record_loss
from gradflow.metrics import Batch, EpochMetrics
from gradflow.ops import Array
from gradflow.training.data.feed import DataSet
from gradflow.training.step.member_losses import record_member_losses


class Results(NamedTuple):
    """Results of an epoch, on the device.

    Attributes:
        losses: the loss of each row, (rows,).
        correct: the fraction of each row's predictions that are correct, (rows,); zeros for losses without an accuracy.
        metrics: the metrics; None measures none.
    """

    losses: Array
    correct: Array
    metrics: EpochMetrics | None = None

    @classmethod
    def empty(
        cls, backend: ReferenceBackend, rows: int, dtype: np.dtype, metrics: EpochMetrics | None = None
    ) -> Results:
        """Allocate the results of ``rows`` rows."""
        return cls(backend.empty(rows, dtype), backend.zeros(rows, dtype), metrics)


def record_step(
    ops: Executor,
    layers: Sequence[Layer],
    loss: Loss,
    batch: DataSet,
    results: Results,
    update: Callable[[Executor], None] | None = None,
) -> ForwardArrays:
    """Record a training step on a batch: forward, loss, backward, update.

    Args:
        ops: the executor.
        layers: the layers before the loss.
        loss: the loss.
        batch: inputs (batch, n_in), targets and any weights of the rows.
        results: receives the results of the rows, at their positions in the epoch.
        update: records the change of the weights; None leaves it at the gradients.

    Returns:
        The arrays of the forward pass.
    """
    arrays = record_forward(ops, layers, batch.x)
    record_backward(ops, *record_loss_gradient(ops, layers, loss, arrays, batch, results))
    if update is not None:
        update(ops)
    return arrays


def record_loss_gradient(
    ops: Executor, layers: Sequence[Layer], loss: Loss, arrays: ForwardArrays, batch: DataSet, results: Results
) -> tuple[Sequence[Layer], ForwardArrays, Array]:
    """Record results and gradient of the loss of a training step.

    Returns:
        What the backward pass runs through: the layers, their arrays, and the gradient of the last of their outputs.
    """
    outputs, last = arrays.outputs[-1], layers[-1]
    if isinstance(last, MeanOfMembers):
        record_results(ops, loss, outputs, batch, outputs, results)
        d_outputs = record_member_losses(ops, loss, last, arrays.inputs[-1], batch, results.losses)
        return layers[:-1], arrays.without_last(), d_outputs
    d_outputs = ops.backend.empty(outputs.shape, outputs.dtype) if "y" in last.backward_reads else outputs
    record_results(ops, loss, outputs, batch, d_outputs, results)
    return layers, arrays, d_outputs


def record_evaluation(
    ops: Executor,
    layers: Sequence[Layer],
    loss: Loss,
    batch: DataSet,
    results: Results,
    infer: Callable[[Executor, Sequence[Layer], Array], Array] = record_inference,
) -> None:
    """Record the results of a batch in prediction, without dropout; arguments as for `record_step`, and the function
    that records the forward pass."""
    outputs = infer(ops, layers, batch.x)
    record_results(ops, loss, outputs, batch, outputs, results)


def record_results(
    ops: Executor, loss: Loss, outputs: Array, batch: DataSet, d_outputs: Array, results: Results
) -> None:
    """Record metrics and loss of a batch; the loss comes last, since its gradient may overwrite the outputs."""
    targets, row_weight, clock = batch.targets, batch.row_weight, ops.clock
    if results.metrics is not None:
        results.metrics.record(ops, Batch(outputs, targets, row_weight, clock))
    record_loss(ops, loss, outputs, targets, row_weight, d_outputs, results.losses, results.correct, clock)
    if row_weight is not None and loss.has_accuracy:
        ops(weigh_correct, row_weight, results.correct, clock)
