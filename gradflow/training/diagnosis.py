"""Where a loss that is not finite began: the step is run once more, layer by layer."""

from __future__ import annotations

import numpy as np

from gradflow.layers import Layer
from gradflow.layers.stack import record_forward
from gradflow.network import Sequential
from gradflow.program import Recorder
from gradflow.training.data_set import PassData

__all__ = ["origin_of_divergence"]


def origin_of_divergence(
    network: Sequential,
    layers: list[Layer],
    data: PassData,
    *,
    epoch: int,
    positions: range,
    step: int,
    rows: int,
    shuffle: bool,
) -> str:
    """The first place where the numbers of a step were not finite, or else the largest of them, in words.

    Nothing is learnt behind a loss that is not finite, so the network still has the weights of that step; its clock is
    set back to it for a while, for the same rows and the same dropout masks.

    Args:
        network: the network, which has diverged.
        layers: those in front of the loss.
        data: what it was trained on.
        epoch, step: of that step, as on the clock.
        positions: the rows of the epoch that the step took; its stride is how many it took at once.
        rows: the rows of an epoch.
        shuffle: whether the epoch had an order of its own.
    """
    backend, status = network.backend, network.status
    for name, (start, stop) in network.parameter_ranges.items():
        if not np.isfinite(backend.to_host(network.parameters[start:stop])).all():
            return f"the weights were no longer finite, {name} first: the step before was too long"
    clock = backend.empty(status.clock.shape, np.int64)
    backend.copy(status.clock, clock)
    sizes = [0.0] * len(layers)
    for position in positions:
        status.begin(epoch=epoch, position=position, step=step)
        count = min(positions.step, positions.stop - position)
        seed = network.seed if shuffle else None
        batches = data.batches(backend, status, rows=rows, batch_size=positions.step, seed=seed)
        recorder = Recorder(backend)
        arrays = record_forward(recorder, layers, batches.next(recorder, count).x)
        recorder.program().run()
        batches.close()
        backend.copy(clock, status.clock)
        for index, array in enumerate(arrays.outputs):
            size = float(abs(backend.to_host(array)).max())
            if not np.isfinite(size):
                return f"layer {index}, {layers[index]!r}, was the first to give numbers that are not finite"
            sizes[index] = max(sizes[index], size)
    index = int(np.argmax(sizes))
    return f"all layers gave finite numbers, up to {sizes[index]:.3g} in layer {index}, {layers[index]!r}"
