"""The programs of a training step and of an evaluation step, recorded once for each batch size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradflow.data.arrays import Arrays, is_memory_mapped
from gradflow.data.batches import advance
from gradflow.data.sources import Block, Converted, Source
from gradflow.data.validation import as_array, feature_matrix, features, finite
from gradflow.errors import DataError
from gradflow.layers import Layer
from gradflow.layers.stack import record_backward, record_forward, record_inference
from gradflow.losses import Loss
from gradflow.network import Sequential
from gradflow.ops import Array, Executor
from gradflow.optimizers import Optimizer
from gradflow.optimizers.clipping import GradientClipping
from gradflow.program import Recorder
from gradflow.status import RunStatus
from gradflow.training.data_set import DataSet, PassData
from gradflow.training.passes import DataPass, RowResults
from gradflow.training.streaming import StreamedData

__all__ = [
    "Objective",
    "check_batch_size",
    "checked_data",
    "evaluation_pass",
    "layers_in_front_of",
    "pass_data",
    "training_pass",
]

_EVALUATION_ROWS = 4096


@dataclass(frozen=True)
class Objective:
    """What is minimised: the loss of the outputs of these layers, with a penalty, by this optimizer."""

    network: Sequential
    layers: list[Layer]
    loss: Loss
    optimizer: Optimizer
    l2: float
    clip_norm: float | None


def layers_in_front_of(loss: Loss, network: Sequential) -> list[Layer]:
    """The layers whose output the loss takes: without a trailing activation that the loss folds in.

    Raises:
        DataError: if the trailing activation is not the loss's own.
    """
    if loss.output_activation == "identity":
        return network.layers
    if network.ends_in_activation and network.output_activation != loss.output_activation:
        raise DataError(
            f"loss {loss.name!r} goes with {loss.output_activation} outputs, but the network ends in "
            f"{network.layers[-1]!r}; leave that layer out, the loss brings its own"
        )
    return network.logit_layers


def checked_data(network: Sequential, loss: Loss, x: Any, y: Any, *, kind: str = "") -> DataSet:
    """What a user passed as inputs and targets, checked, converted and on the device; ``kind`` names it in errors.

    Raises:
        DataError: if shapes, dtypes, values or numbers of rows do not fit.
    """
    inputs = features(f"{kind}x", x, network.n_in, network.dtype, network.backend)
    y = as_array(f"{kind}y", y, network.backend)
    if y.ndim == 0 or len(y) != len(inputs):
        rows = "no dimension" if y.ndim == 0 else f"{len(y)} rows"
        raise DataError(f"{kind}x has {len(inputs)} rows, but {kind}y has {rows}; they must match")
    targets = loss.targets(y, network.n_out, network.dtype)
    return DataSet(network.backend.adopt(inputs), network.backend.adopt(targets))


def check_batch_size(network: Sequential, rows: int) -> None:
    """Refuse batches with fewer rows than a layer needs in training.

    Raises:
        DataError: naming the layer.
    """
    for index, layer in enumerate(network.layers):
        if rows < layer.least_batch_size:
            raise DataError(
                f"layer {index}, {layer!r}, needs batches of at least {layer.least_batch_size} rows in training, got "
                f"{rows}; pass a larger batch_size, and as many rows of data"
            )


def pass_data(network: Sequential, loss: Loss, x: Any, y: Any, *, kind: str = "") -> PassData:
    """What a user passed to train or to evaluate on: on the device, or as a source that stays where it is.

    Raises:
        DataError: if shapes, dtypes, values or numbers of rows do not fit.
    """
    if isinstance(x, Source):
        if y is not None:
            raise DataError(f"{kind}x is a source, which brings its targets along; leave {kind}y out")
        source = x
    elif is_memory_mapped(x) or is_memory_mapped(y):
        source = Arrays(x, y)
    else:
        return checked_data(network, loss, x, y, kind=kind)

    def converted(block: Block) -> Converted:
        inputs = finite(f"{kind}x", feature_matrix(f"{kind}x", block.x, network.n_in), network.dtype, block.rows)
        return inputs, loss.targets(block.y, network.n_out, network.dtype)

    return StreamedData(source, converted)


def training_pass(
    objective: Objective, data: PassData, *, rows: int, batch_size: int, shuffle: bool, steps_per_launch: int = 1
) -> DataPass:
    """The pass of an epoch over ``rows`` rows of the data, with a fresh optimizer state."""
    network, backend = objective.network, objective.network.backend
    update = _Update(objective)
    status = network.status
    results = RowResults.empty(backend, rows, network.dtype)
    seed = network.seed if shuffle else None
    batches = data.batches(backend, status, rows=rows, batch_size=batch_size, seed=seed)

    def record_batch(recorder: Recorder, batch_rows: int) -> None:
        batch = batches.next(recorder, batch_rows)
        arrays = record_forward(recorder, objective.layers, batch.x)
        outputs = arrays.outputs[-1]
        kept = "y" in objective.layers[-1].backward_reads
        d_outputs = backend.empty(outputs.shape, network.dtype) if kept else outputs
        objective.loss.apply(
            recorder, outputs, batch.targets, None, d_outputs, results.losses, results.hits, status.clock
        )
        record_backward(recorder, objective.layers, arrays, d_outputs)
        update.record(recorder)
        recorder(advance, status.clock, batch_rows, rows)

    return DataPass(
        backend,
        batches,
        rows=rows,
        batch_size=batch_size,
        record_batch=record_batch,
        results=results,
        sums=status.sums[:2],
        steps_per_launch=steps_per_launch,
    )


def evaluation_pass(objective: Objective, data: PassData, status: RunStatus, sums: Array) -> DataPass:
    """The pass that measures loss and hits over the data, in row order and without dropout.

    Args:
        objective: the network and the loss.
        data: what to evaluate on.
        status: whose clock counts the batches; not the network's own, which counts those of training.
        sums: float64 (2,), where the sums go.
    """
    network, backend = objective.network, objective.network.backend
    results = RowResults.empty(backend, len(data), network.dtype)
    batch_size = min(len(data), _EVALUATION_ROWS)
    batches = data.batches(backend, status, rows=len(data), batch_size=batch_size, seed=None)

    def record_batch(recorder: Recorder, batch_rows: int) -> None:
        batch = batches.next(recorder, batch_rows)
        outputs = record_inference(recorder, objective.layers, batch.x)
        objective.loss.apply(
            recorder, outputs, batch.targets, None, outputs, results.losses, results.hits, status.clock
        )
        recorder(advance, status.clock, batch_rows, len(data))

    return DataPass(
        backend,
        batches,
        rows=len(data),
        batch_size=batch_size,
        record_batch=record_batch,
        results=results,
        sums=sums,
    )


class _Update:
    """The end of a step: clipping and the optimizer, on flat vectors that start anew with each fit."""

    def __init__(self, objective: Objective) -> None:
        network, backend = objective.network, objective.network.backend
        self._network = network
        self._optimizer = objective.optimizer
        self._state = {name: backend.zeros(network.n_parameters, network.dtype) for name in objective.optimizer.state}
        hyper = [objective.optimizer.learning_rate, objective.l2, *objective.optimizer.hyper()]
        self._hyper = backend.from_host(np.array(hyper, np.float64))
        self._gradient_scale = backend.from_host(np.ones(1, network.dtype))
        self._clipping = None
        if objective.clip_norm is not None:
            self._clipping = GradientClipping(backend, network.n_parameters, objective.clip_norm)

    def record(self, ops: Executor) -> None:
        network = self._network
        if self._clipping is not None:
            self._clipping.apply(
                ops, network.parameters, network.gradients, self._hyper, self._gradient_scale, network.n_decayed
            )
        self._optimizer.step(
            ops,
            network.parameters,
            network.gradients,
            self._state,
            self._hyper,
            self._gradient_scale,
            network.status.clock,
            network.n_decayed,
        )
