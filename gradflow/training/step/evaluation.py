"""Evaluations: the loss and the metrics of a network over data, in prediction."""

from __future__ import annotations

from collections.abc import Sequence

from gradflow.clock import RunStatus, advance, advance_part
from gradflow.distributed import World
from gradflow.executors import Executor
from gradflow.layers import Layer
from gradflow.layers.stack import record_inference
from gradflow.metrics import EpochMetrics
from gradflow.ops import Array
from gradflow.precision import PassPrecision
from gradflow.program import Program, Recorder
from gradflow.training.data.feed import PassData
from gradflow.training.step.epoch import Epoch
from gradflow.training.step.objective import Objective
from gradflow.training.step.record import Results, record_evaluation

_ROWS = 4096


def evaluation(
    objective: Objective, data: PassData, sums: Array, precision: PassPrecision | None, world: World | None = None
) -> Epoch:
    """Return an epoch that measures loss, correct predictions and metrics over the data, in row order, without dropout.

    Args:
        objective: provides network, loss and metrics.
        data: the data to evaluate on.
        sums: float64 (3,), receives the sums.
        precision: the precision; None for that of the network's own arrays.
        world: the ranks that share the rows.
    """
    network, backend = objective.network, objective.network.backend
    metrics = EpochMetrics(objective.metrics, objective.task(len(data)))
    results = Results.empty(backend, len(data), network.dtype, metrics)
    batch_size = min(len(data), _ROWS)
    status = RunStatus(backend)  # not that of a training, which counts its own batches
    batches = data.batches(backend, status, rows=len(data), batch_size=batch_size, seed=None)

    if world is None or not world.share_all(min(len(data), _ROWS)):
        world = World()
    forward, scale = record_inference if precision is None else precision.record_inference, network.output_scale

    def infer(ops: Executor, layers: Sequence[Layer], x: Array) -> Array:
        outputs = forward(ops, layers, x)
        if scale is not None:
            scale.record_limits(ops, outputs)
        return outputs

    def recorded(rows: int) -> Program:
        recorder, own = Recorder(backend, status.clock), world.rows(rows)
        if own.start and own:
            recorder(advance_part, status.clock, own.start)
        if own:
            batch = batches.next(recorder, len(own))
            record_evaluation(recorder, objective.layers, objective.loss, batch, results, infer)
        if own.start and own:
            recorder(advance_part, status.clock, -own.start)
        recorder(advance, status.clock, rows, len(data))
        return recorder.program()

    full, rest = recorded(batch_size), len(data) % batch_size
    return Epoch(
        backend,
        batches,
        status,
        results,
        sums,
        rows=len(data),
        batch_size=batch_size,
        full=full,
        rest=recorded(rest) if rest else None,
        has_accuracy=objective.loss.has_accuracy,
        world=world,
    )
