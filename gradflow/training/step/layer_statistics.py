"""Statistics of each layer during a step: gradient norm, update-to-weight ratio, dead and saturated units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from gradflow.distributed import World
from gradflow.executors import Executor
from gradflow.layers import Layer, ReLU, Sigmoid, Tanh
from gradflow.layers.stack import ForwardArrays, outputs_by_place
from gradflow.network import Sequential
from gradflow.ops import Array, copy, op
from gradflow.optimizers.accumulation import accumulate
from gradflow.program import Recorder
from gradflow.reductions import chunk_length

LIMITS: dict[type[Layer], tuple[float, float]] = {Sigmoid: (0.0, 1.0), Tanh: (-1.0, 1.0)}
"""Activations that saturate, with the two limits of their outputs."""

SATURATION_DISTANCE = 0.05
"""Distance from a limit within which an output counts as saturated: above 0.95 for sigmoid and tanh."""

_LEAST_STEPS = 20
"""Minimum number of steps between measured ones. Measuring less than doubles the cost of a step."""


@op(
    shapes="before, parameters, gradients: n; chunks: chunks 2; partials: chunks 3",
    writes=("partials",),
    sizes=lambda arguments: {"rows": len(arguments["chunks"])},
)
def chunk_changes(before: Array, parameters: Array, gradients: Array, chunks: Array, partials: Array) -> None:
    """partials_c = Σ g², Σ (w - before)², Σ before² over [chunks_c0, chunks_c1), in float64"""
    w, v, g = (vector.astype(np.float64) for vector in (before, parameters, gradients))
    for (first, end), sums in zip(chunks, partials, strict=True):
        part = slice(first, end)
        sums[:] = (g[part] ** 2).sum(), ((v[part] - w[part]) ** 2).sum(), (w[part] ** 2).sum()


@op(
    shapes="partials: chunks 3; layers: layers 2; gradient_norms, update_ratios: layers",
    writes=("gradient_norms", "update_ratios"),
    sizes=lambda arguments: {"rows": len(arguments["layers"])},
)
def layer_changes(partials: Array, layers: Array, gradient_norms: Array, update_ratios: Array) -> None:
    """‖g‖ = √(Σ partials_c0) and ‖w' - w‖ / ‖w‖ = √(Σ partials_c1) / √(Σ partials_c2), 0 if nothing has changed
    (sums over the chunks [layers_l0, layers_l1))"""
    for place, (first, end) in enumerate(layers):
        of_gradient, of_change, of_weight = partials[first:end].sum(axis=0)
        gradient_norms[place] = np.sqrt(of_gradient)
        update_ratios[place] = 0 if of_change == 0 else np.sqrt(of_change) / np.sqrt(of_weight)


@op(shapes="y: rows columns; units: columns", writes=("units",))
def mark_dead_units(y: Array, units: Array) -> None:
    """units_j = 1 where no y_ij > 0, else 0"""
    units[...] = ~(y > 0).any(axis=0)


@op(shapes="y: rows columns; units: columns", writes=("units",))
def saturated_shares(y: Array, units: Array, low: float, high: float) -> None:
    """units_j = the fraction of the rows i with y_ij < low or y_ij > high"""
    units[...] = ((y < low) | (y > high)).mean(axis=0)


@op(
    shapes="units: units; layers: layers 2; means: layers",
    writes=("means",),
    sizes=lambda arguments: {"rows": len(arguments["layers"])},
)
def layer_means(units: Array, layers: Array, means: Array) -> None:
    """means_l = the mean of units over [layers_l0, layers_l1)"""
    for place, (first, end) in enumerate(layers):
        means[place] = units[first:end].mean()


class LayerStatistics:
    """Statistics of each layer in a measured step, kept on the device until the host reads the values of the epoch.

    Names end in the position of the layer: 0, or 2.1 inside a `Residual`.

    - ``gradient_norm/0``: ‖g‖₂ of the layer's gradient, over all its parameters, without penalties and clipping;
    - ``update_ratio/0``: ‖w' - w‖₂ / ‖w‖₂, with its parameters w before the step and w' after it;
    - ``dead/1``: fraction of the units of a ReLU that output 0 for all rows of the batch, those of other ranks too;
    - ``saturated/1``: fraction of the outputs of a sigmoid or tanh within `SATURATION_DISTANCE` of a limit.

    Args:
        network: the network.
        layers: the layers before the loss.
        world: the ranks that share the batch; None for one.

    Attributes:
        values: float64, the latest measurements; zeros before the first.
    """

    def __init__(self, network: Sequential, layers: Sequence[Layer], world: World | None = None) -> None:
        self._network, self._layers, self._world = network, layers, world or World()
        self._ranges = ranges_by_layer(network)
        self._before = network.backend.empty(network.n_parameters, network.dtype)
        self._names = [f"{kind}/{place}" for kind in ("gradient_norm", "update_ratio") for place in self._ranges]
        self.values: Array = network.backend.zeros(len(self._names), np.float64)

    @staticmethod
    def is_due(epoch: int, batches: int) -> bool:
        """True if a step of this epoch, counted from 1, must be measured, given the batches per epoch."""
        return (epoch - 1) % -(-_LEAST_STEPS // batches) == 0

    def record(self, recorder: Recorder, step: Recorder, arrays: ForwardArrays, fraction: float = 1.0) -> None:
        """Record a measured step that shares the memory of an already recorded step.

        Args:
            recorder: recorder for the measured step.
            step: the recorded step.
            arrays: arrays of its forward pass.
            fraction: the fraction of the rows that they are of.
        """
        units = [unit for unit in outputs_by_place(self._layers, arrays) if _kind(unit[1])]
        self._names += [f"{_kind(layer)}/{place}" for place, layer, _ in units]
        self.values = self._network.backend.zeros(len(self._names), np.float64)
        recorder(copy, self._network.parameters, self._before)
        recorder.extend(step)
        self._record_changes(recorder)
        if units:
            self._record_units(recorder, [(layer, y) for _, layer, y in units], fraction)

    @property
    def names(self) -> list[str]:
        """Names of all values."""
        return list(self._names)

    def read(self) -> dict[str, float]:
        """Return the values by name; this synchronizes with the device."""
        return dict(zip(self._names, self._network.backend.to_host(self.values).tolist(), strict=True))

    def _record_changes(self, ops: Executor) -> None:
        network, backend = self._network, self._network.backend
        length = chunk_length(network.n_parameters)
        chunks: list[tuple[int, int]] = []
        layers: list[tuple[int, int]] = []
        for parts in self._ranges.values():
            begin = len(chunks)
            for first, end in parts:
                chunks += [(start, min(start + length, end)) for start in range(first, end, length)]
            layers.append((begin, len(chunks)))
        partials = backend.empty((len(chunks), 3), np.float64)
        on_device = (backend.from_host(np.array(table, np.int64)) for table in (chunks, layers))
        of_chunks, of_layers = on_device
        ops(chunk_changes, self._before, network.parameters, network.gradients, of_chunks, partials)
        norms, ratios = self.values[: len(layers)], self.values[len(layers) : 2 * len(layers)]
        ops(layer_changes, partials, of_layers, norms, ratios)

    def _record_units(self, recorder: Recorder, layers: Sequence[tuple[Layer, Array]], fraction: float) -> None:
        backend = self._network.backend
        ends = list(itertools.accumulate((y.shape[1] for _, y in layers), initial=0))
        units = backend.empty(ends[-1], np.float64)
        ranges = list(itertools.pairwise(ends))
        for (layer, y), (first, end) in zip(layers, ranges, strict=True):
            if isinstance(layer, ReLU):
                recorder(mark_dead_units, y, units[first:end])
            else:
                record_saturation(recorder, layer, y, units[first:end])
        if self._world.size > 1:
            relus = [
                units[slice(*ends)] for (layer, _), ends in zip(layers, ranges, strict=True) if type(layer) is ReLU
            ]
            self._record_sum(recorder, units, relus, fraction)
        recorder(layer_means, units, backend.from_host(np.array(ranges, np.int64)), self.values[-len(ranges) :])

    def _record_sum(self, recorder: Recorder, units: Array, relus: Sequence[Array], fraction: float) -> None:
        """Record units = those of the whole batch: a unit of a ReLU is dead if it is so on all ranks; a fraction is the
        mean over the ranks by their rows."""
        alive = [self._network.backend.empty(dead.shape, dead.dtype) for dead in relus]
        for dead, of_layer in zip(relus, alive, strict=True):
            recorder(mark_dead_units, dead.reshape(1, -1), of_layer)
        recorder(accumulate, units, units, units, fraction, kept=0)
        for summed in (units, *alive):
            recorder.call(self._world.sums(summed))
        for dead, of_layer in zip(relus, alive, strict=True):
            recorder(mark_dead_units, of_layer.reshape(1, -1), dead)


def ranges_by_layer(network: Sequential) -> dict[str, list[tuple[int, int]]]:
    """Map the position of each layer with parameters to their (start, stop) ranges in the flat vectors."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for name, ends in network.parameter_ranges.items():
        ranges.setdefault(name.rpartition(".")[0], []).append(ends)
    return dict(sorted(ranges.items(), key=lambda item: _in_order(item[0])))


def record_saturation(
    ops: Executor, layer: Layer, y: Array, units: Array, distance: float = SATURATION_DISTANCE
) -> None:
    """Record the fraction of each column of y (rows, columns), outputs of a layer in `LIMITS`, that is saturated."""
    low, high = LIMITS[type(layer)]
    ops(saturated_shares, y, units, low + distance, high - distance)


def _kind(layer: Layer) -> str | None:
    """Return the kind of statistic for the units of a layer; None if there is none."""
    return "dead" if type(layer) is ReLU else "saturated" if type(layer) in LIMITS else None


def _in_order(place: str) -> list[float]:
    """Return the sort key of a layer position: numbers first, in order, then names."""
    return [int(part) if part.isdigit() else math.inf for part in place.split(".")]
