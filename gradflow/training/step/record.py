"""Programs of training and evaluation steps, recorded once for each batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradflow.clock import RunStatus, advance, advance_part
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.layers import Layer
from gradflow.layers.stack import ForwardArrays, record_backward, record_forward, record_inference
from gradflow.losses import Loss
from gradflow.losses.base import weigh_hits
from gradflow.losses.recording import record_loss
from gradflow.metrics import Batch, EpochMetrics, Kind, Task
from gradflow.network import Sequential
from gradflow.ops import Array
from gradflow.program import Recorder
from gradflow.training.data.feed import DataSet, PassData
from gradflow.training.step.epoch import DataPass, RowResults
from gradflow.training.step.layer_statistics import LayerStatistics
from gradflow.training.step.update import Objective, Update

__all__ = [
    "Objective",
    "check_batch_size",
    "evaluation_pass",
    "layers_in_front_of",
    "record_gradients",
    "task_kind",
    "training_pass",
]

_EVALUATION_ROWS = 4096


def layers_in_front_of(loss: Loss, network: Sequential) -> Sequence[Layer]:
    """Return the layers before the loss, without a trailing activation that the loss folds in.

    Raises:
        DataError: if the trailing activation is not the one of the loss.
    """
    if loss.output_activation == "identity":
        return network.layers
    if network.ends_in_activation and network.output_activation != loss.output_activation:
        raise DataError(
            f"loss {loss.name!r} goes with {loss.output_activation} outputs, but the network ends in "
            f"{network.layers[-1]!r}; leave that layer out, the loss brings its own"
        )
    return network.logit_layers


def check_batch_size(network: Sequential, rows: int) -> None:
    """Raise if batches have fewer rows than a layer needs in training.

    Raises:
        DataError: naming the layer.
    """
    for index, layer in enumerate(network.layers):
        if layer.trainable and rows < layer.least_batch_size:
            raise DataError(
                f"layer {index}, {layer!r}, needs batches of at least {layer.least_batch_size} rows in training, got "
                f"{rows}; pass a larger batch_size, and as many rows of data"
            )


def training_pass(
    objective: Objective,
    data: PassData,
    *,
    rows: int,
    batch_size: int,
    shuffle: bool,
    steps_per_launch: int = 1,
    parts: int = 1,
    update: Update | None = None,
) -> DataPass:
    """Return the training pass for epochs over ``rows`` rows of the data.

    Args:
        objective: the objective.
        data: the training data.
        rows: rows per epoch.
        batch_size: rows per step.
        shuffle: True to shuffle each epoch.
        steps_per_launch: number of full batches per GPU launch.
        parts: number of parts in which a full batch is processed, in the same memory; their gradients are added.
        update: the weight update at the end of a step; None creates a fresh one, for one epoch.
    """
    network, backend = objective.network, objective.network.backend
    update = update or Update(objective, epochs=1, steps=-(-rows // batch_size))
    status = network.status
    results = RowResults.empty(backend, rows, network.dtype)
    # Row weights have mean 1 over all rows, not over those of an epoch that leaves some out.
    leaves_out = data.is_weighted and rows < len(data)
    measured = EpochMetrics(objective.metrics, _task(objective, rows), sums_weights=leaves_out)
    part_rows = -(-batch_size // parts)
    # A step on all rows at once needs no shuffle.
    seed = network.seed if shuffle and part_rows < len(data) else None
    batches = data.batches(backend, status, rows=rows, batch_size=batch_size, seed=seed)

    def record_part(recorder: Recorder, rows_of_part: int) -> ForwardArrays:
        batch = batches.next(recorder, rows_of_part)
        ops = update.precision.executor(recorder)
        arrays = record_forward(ops, objective.layers, update.precision.inputs(recorder, batch.x))
        outputs = update.precision.outputs(recorder, arrays.outputs[-1])
        kept = outputs is arrays.outputs[-1] and "y" in objective.layers[-1].backward_reads
        d_outputs = backend.empty(outputs.shape, network.dtype) if kept else outputs
        _apply_loss(recorder, objective.loss, outputs, batch, d_outputs, results, status.clock, measured)
        record_backward(ops, objective.layers, arrays, update.precision.d_outputs(recorder, d_outputs))
        return arrays

    def record_batch(recorder: Recorder, batch_rows: int) -> ForwardArrays:
        whole, rest = divmod(batch_rows, part_rows)
        sizes = [part_rows] * whole + [rest] * (rest > 0)
        arrays = record_part(recorder, batch_rows) if len(sizes) == 1 else record_parts(recorder, sizes)
        update.record(recorder)
        update.learning_rates.record_advance(recorder, status.clock, sizes[-1], rows)
        return arrays

    def record_parts(recorder: Recorder, sizes: list[int]) -> ForwardArrays:
        # Each size is recorded once, so that all parts of that size share their memory.
        recorded = {size: Recorder(backend) for size in sizes}
        arrays = [record_part(of_size, size) for size, of_size in recorded.items()]
        last = len(sizes) - 1
        for place, size in enumerate(sizes):
            recorder.extend(recorded[size])
            share = size / sum(sizes)
            update.accumulation.add(recorder, network.gradients, share, is_first=place == 0, is_last=place == last)
            if place < last:
                recorder(advance_part, status.clock, size)
        return arrays[-1]

    return DataPass(
        backend,
        batches,
        rows=rows,
        batch_size=batch_size,
        record_batch=record_batch,
        results=results,
        sums=status.sums[:3],
        metrics=measured,
        steps_per_launch=steps_per_launch,
        statistics=LayerStatistics(network, objective.layers) if objective.layer_statistics else None,
    )


def record_gradients(
    ops: Executor, network: Sequential, layers: Sequence[Layer], loss: Loss, batch: DataSet
) -> ForwardArrays:
    """Record only the forward and backward pass on a batch, up to the gradients of the network.

    Args:
        ops: the recorder.
        network: the network.
        layers: the layers before the loss.
        loss: the loss.
        batch: inputs, targets and weights on the network's backend.
    """
    backend, rows = network.backend, len(batch)
    arrays = record_forward(ops, layers, batch.x)
    outputs = arrays.outputs[-1]
    d_outputs = backend.empty(outputs.shape, network.dtype)
    row_losses, row_hits = (backend.empty(rows, network.dtype) for _ in range(2))
    clock = network.status.clock
    record_loss(ops, loss, outputs, batch.targets, batch.row_weight, d_outputs, row_losses, row_hits, clock)
    record_backward(ops, layers, arrays, d_outputs)
    return arrays


def evaluation_pass(objective: Objective, data: PassData, status: RunStatus, sums: Array) -> DataPass:
    """Return the pass that measures loss, correct predictions and metrics over the data, in row order, without dropout.

    Args:
        objective: provides network, loss and metrics.
        data: the data to evaluate on.
        status: its clock counts the batches; not the network's own status, which counts those of training.
        sums: float64 (3,), receives the sums.
    """
    network, backend = objective.network, objective.network.backend
    measured = EpochMetrics(objective.metrics, _task(objective, len(data)))
    results = RowResults.empty(backend, len(data), network.dtype)
    batch_size = min(len(data), _EVALUATION_ROWS)
    batches = data.batches(backend, status, rows=len(data), batch_size=batch_size, seed=None)

    def record_batch(recorder: Recorder, batch_rows: int) -> None:
        batch = batches.next(recorder, batch_rows)
        outputs = record_inference(recorder, objective.layers, batch.x)
        _apply_loss(recorder, objective.loss, outputs, batch, outputs, results, status.clock, measured)
        recorder(advance, status.clock, batch_rows, len(data))

    return DataPass(
        backend,
        batches,
        rows=len(data),
        batch_size=batch_size,
        record_batch=record_batch,
        results=results,
        sums=sums,
        metrics=measured,
    )


def task_kind(loss: Loss, n_out: int) -> Kind:
    """Return the kind of task that a loss defines for a network with ``n_out`` outputs."""
    if loss.output_activation == "softmax":
        return "classes"
    if loss.output_activation == "sigmoid":
        return "binary" if n_out == 1 else "multi-label"
    return "numbers"


def _task(objective: Objective, rows: int) -> Task:
    network = objective.network
    scale = network.output_scale
    deviation = np.ones(network.n_out) if scale is None else np.array(scale.deviation)
    kind = task_kind(objective.loss, network.n_out)
    return Task(kind, network.backend, network.n_out, rows, network.dtype, deviation)


def _apply_loss(
    ops: Executor,
    loss: Loss,
    outputs: Array,
    batch: DataSet,
    d_outputs: Array,
    results: RowResults,
    clock: Array,
    metrics: EpochMetrics,
) -> None:
    """Record metrics and loss of a batch; the loss comes last, since its gradient may overwrite the outputs."""
    metrics.record(ops, Batch(outputs, batch.targets, batch.row_weight, clock))
    record_loss(ops, loss, outputs, batch.targets, batch.row_weight, d_outputs, results.losses, results.hits, clock)
    if batch.row_weight is not None and loss.has_accuracy:
        ops(weigh_hits, batch.row_weight, results.hits, clock)
