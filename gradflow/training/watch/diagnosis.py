"""Find the layer in which a non-finite, exploding or stalling loss began, by rerunning a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradflow.clock import RunStatus
from gradflow.errors import DeviceLostError, GradflowError
from gradflow.executors import Executor
from gradflow.layers import Layer
from gradflow.layers.stack import layer_at, record_forward
from gradflow.losses.recording import record_loss
from gradflow.network import Sequential
from gradflow.ops import Array
from gradflow.program import Recorder
from gradflow.training.data.feed import PassData
from gradflow.training.step.layer_statistics import LayerStatistics, ranges_by_layer
from gradflow.training.step.objective import Objective, layers_before_loss
from gradflow.training.step.record import Results, record_step
from gradflow.training.watch.unit_size import REMEDIES, far_inputs, far_targets

SATURATED_FRACTION = 0.95
"""A layer is saturated if at least this fraction of its outputs is."""
VANISHED = 1e-3
"""A gradient has vanished if its norm is below this fraction of the largest norm of a layer."""
LOWERED = 0.95
"""A step counts as better if it reduces the objective on the batch below this fraction of its value."""

_MOST_ROWS = 1024  # of the batch that is examined


@np.errstate(all="ignore")
def origin_of_divergence(
    network: Sequential,
    layers: Sequence[Layer],
    data: PassData,
    *,
    epoch: int,
    positions: range,
    step: int,
    rows: int,
    shuffle: bool,
) -> str:
    """Describe the first layer of a step with non-finite outputs, or else the one with the largest outputs.

    After a non-finite loss or weight, the weights no longer change, so the network still has those of that step. A
    clock at its epoch and position reproduces the same rows and dropout masks.

    Args:
        network: the network, which has diverged.
        layers: the layers before the loss.
        data: the training data.
        epoch, step: epoch and step of the divergence, as on the clock.
        positions: the rows of the epoch that the step used; its stride is the number of rows processed at once.
        rows: rows per epoch.
        shuffle: True if the epoch was shuffled.
    """
    backend, status = network.backend, RunStatus(network.backend)
    if name := non_finite_parameter(network):
        return f"the weights were no longer finite, {name} first: the step was too long"
    sizes = [0.0] * len(layers)
    for position in positions:
        status.begin(epoch=epoch, position=position, step=step)
        count = min(positions.step, positions.stop - position)
        seed = network.seed if shuffle and positions.step < len(data) else None
        batches = data.batches(backend, status, rows=rows, batch_size=positions.step, seed=seed)
        recorder = Recorder(backend, status.clock)
        arrays = record_forward(recorder, layers, batches.next(recorder, count).x)
        batches.make_ready(position // positions.step)
        recorder.program().run()
        batches.close()
        for index, array in enumerate(arrays.outputs):
            size = float(abs(backend.to_host(array)).max())
            if not np.isfinite(size):
                return f"layer {index}, {layers[index]!r}, was the first with outputs that are not finite"
            sizes[index] = max(sizes[index], size)
    index = int(np.argmax(sizes))
    return f"the outputs of all layers were finite, up to {sizes[index]:.3g} in layer {index}, {layers[index]!r}"


def non_finite_parameter(network: Sequential) -> str | None:
    """Return the name of the first trained parameter with a value that is not finite; None if there is none."""
    for name, (start, stop) in network.parameter_ranges.items():
        if not np.isfinite(network.backend.to_host(network.parameters[start:stop])).all():
            return name
    return None


def layer_grown_most(network: Sequential, best_state: Array) -> str:
    """Describe the layer whose parameters have grown by the largest factor since the best state."""
    before, now = (network.backend.to_host(state).astype(np.float64) for state in (best_state, network.parameters))

    def norm(state: np.ndarray, ranges: list[tuple[int, int]]) -> float:
        return float(np.sqrt(sum((state[first:end] ** 2).sum() for first, end in ranges)))

    norms = {place: (norm(before, ranges), norm(now, ranges)) for place, ranges in ranges_by_layer(network).items()}
    place = max(norms, key=lambda place: norms[place][1] / norms[place][0] if norms[place][0] else np.inf)
    was, is_now = norms[place]
    return f"{_named(network.layers, place)}, whose weights grew most, from a norm of {was:.3g} to {is_now:.3g}"


class LookAtLayers:
    """Runs a batch through a network, to examine its layers and how much there is to learn.

    Args:
        objective: the objective; its network is not changed.
        data: the training data; the batch has at most 1024 of its rows.
    """

    def __init__(self, objective: Objective, data: PassData) -> None:
        self._objective, self._network, self._loss = objective, objective.network, objective.loss
        backend, rows = self._network.backend, min(len(data), _MOST_ROWS)
        seed = self._network.seed if rows < len(data) else None
        batches = data.batches(backend, RunStatus(backend), rows=len(data), batch_size=rows, seed=seed)
        recorder = Recorder(backend)
        self._batch = batches.next(recorder, rows)
        batches.make_ready(0)
        recorder.program().run()
        batches.close()
        self._names = data.feature_names

    def unit_size_advice(self) -> str:
        """Return advice on inputs or targets that are far from unit size; "" if there are none."""
        backend, weight = self._network.backend, self._batch.row_weight
        x, targets = (backend.to_host(array).astype(np.float64) for array in (self._batch.x, self._batch.targets))
        if weight is not None and (counts := backend.to_host(weight) > 0).any():
            x, targets = x[counts], targets[counts]
        found = [far_inputs(self._network, x, self._names)]
        has_numbers = targets.shape[1:] == (self._network.n_out / self._loss.outputs_per_target,)
        if has_numbers and self._loss.output_activation == "identity" and self._loss.takes_any_scale:
            found.append(far_targets(self._network, targets))
        return ". ".join(text for text in found if text)

    def loss_of_zeros(self) -> float:
        """Return the loss of a network whose outputs are all 0."""
        return self._loss_of(np.zeros(self._network.n_out))

    def loss_of_one_answer(self) -> float:
        """Return the loss of a constant prediction: 0, or the one for the mean of the targets, if that is lower."""
        targets, n_out = self._network.backend.to_host(self._batch.targets), self._network.n_out
        activation = self._loss.output_activation
        if targets.ndim == 1 and activation == "softmax":
            targets = np.eye(n_out)[targets]
        if targets.ndim != 2 or n_out % targets.shape[1]:
            return self.loss_of_zeros()  # targets with a meaning of their own
        targets = self._loss.smoothed(targets.astype(np.float64))
        mean, least = self._mean_over_rows(targets), np.finfo(np.float32).tiny
        if activation == "sigmoid":
            mean = np.log(np.maximum(mean, least)) - np.log(np.maximum(1 - mean, least))
        elif activation == "softmax" or not self._loss.takes_any_scale:
            mean = np.log(np.maximum(mean, least))
        return min(self._loss_of(np.repeat(mean, n_out // mean.size)), self.loss_of_zeros())

    def _mean_over_rows(self, values: np.ndarray) -> np.ndarray:
        """Return the weighted mean of values (rows, columns) over the batch; unweighted if all weights are 0."""
        weight = self._batch.row_weight
        weights = None if weight is None else self._network.backend.to_host(weight).astype(np.float64)
        mean: np.ndarray = np.average(
            values, axis=0, weights=weights if weights is not None and weights.any() else None
        )
        return mean

    def cause(self, learning_rate: float, *, has_cycles: bool = False) -> str | None:
        """Return why nothing is learned, and what to try; None if the batch shows no cause.

        The first match counts: a ReLU layer whose units are all dead, or a sigmoid or tanh layer with at least
        `SATURATED_FRACTION` of its outputs near a limit; the last layer with a `VANISHED` gradient; the learning rate,
        if some step along the negative gradient reduces the objective below `LOWERED`. While the rate goes through
        cycles that is often so, and no cause. Layers inside a `Residual` are skipped, since the shortcut bypasses them.

        Args:
            learning_rate: the learning rate.
            has_cycles: True if the rate falls and rises again.
        """
        network = self._network.copy()
        layers = layers_before_loss(self._loss, network)
        values, remedies = self._measured(network, layers), REMEDIES.get()
        for kind, layer, fraction in values:
            if kind == "dead" and fraction == 1:
                return (
                    f"It began in {layer}, all of whose units are dead: they output 0 for every row, and pass on no "
                    f"gradient. Train again with {remedies.rate('below', learning_rate)}, or with leaky_relu"
                )
            if kind == "saturated" and fraction >= SATURATED_FRACTION:
                return (
                    f"It began in {layer}: {fraction:.0%} of its outputs are near a limit, where hardly any gradient "
                    "passes. Train again with smaller initial weights, or relu"
                )
        norms = [(layer, norm) for kind, layer, norm in values if kind == "gradient_norm"]
        largest = max(norm for _, norm in norms)
        vanished = [(layer, norm / largest) for layer, norm in norms if norm < VANISHED * largest]
        if vanished:
            layer, ratio = vanished[-1]
            return (
                f"It began in {layer}, where the gradient has vanished: its norm is {ratio:.1g} times the largest of a "
                f"layer. {remedies.gradients}"
                + (f", or {remedies.penalties}" if self._objective.l2 or self._objective.l1 else "")
            )
        if has_cycles:
            return None
        now, *behind_steps = self._objectives_along_the_gradient(network, layers)
        if min(behind_steps) < now - (1 - LOWERED) * abs(now):
            return (
                "No layer stands out, and a single step of the right length would lower it by more than "
                f"{1 - LOWERED:.0%}. Try {remedies.rate('above', learning_rate)}; or below, if the weights have grown"
            )
        return None

    def _measured(self, network: Sequential, layers: Sequence[Layer]) -> list[tuple[str, str, float]]:
        """Measure each layer on the batch; return kind, layer and value of each measurement.

        The network is a copy; it then holds the gradient of the batch.
        """
        backend = network.backend
        clock = RunStatus(backend, epoch=network.epochs_begun).clock
        step, recorder = Recorder(backend, clock), Recorder(backend, clock)
        results = Results.empty(backend, len(self._batch), network.dtype)
        arrays = record_step(step, layers, self._loss, self._batch, results)
        statistics = LayerStatistics(network, layers)
        statistics.record(recorder, step, arrays)
        recorder.program().run()
        named = [(*name.partition("/"), value) for name, value in statistics.read().items()]
        return [(kind, _named(network.layers, place), value) for kind, _, place, value in named if "." not in place]

    def _objectives_along_the_gradient(self, network: Sequential, layers: Sequence[Layer]) -> list[float]:
        """Return the objective on the batch at the current weights, and after steps of several lengths along the
        negative gradient: from 1e-5 to 1 times the norm of the weights."""
        backend, n_decayed = network.backend, network.n_decayed
        l2, l1 = self._objective.l2, self._objective.l1
        w, g = (backend.to_host(vector).astype(np.float64) for vector in (network.parameters, network.gradients))
        g[:n_decayed] += l2 * w[:n_decayed] + l1 * np.sign(w[:n_decayed])
        unit = float(np.linalg.norm(w)) / max(float(np.linalg.norm(g)), np.finfo(np.float64).tiny)
        recorder = Recorder(backend, RunStatus(backend, epoch=network.epochs_begun).clock)
        outputs = record_forward(recorder, layers, self._batch.x).outputs[-1]
        row_losses = self._record_loss(recorder, outputs)
        program = recorder.program()
        objectives = []
        for fraction in (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0):
            point = w - fraction * unit * g
            backend.copy(backend.from_host(point.astype(network.dtype)), network.parameters)
            program.run()
            penalty = l2 / 2 * (point[:n_decayed] ** 2).sum() + l1 * abs(point[:n_decayed]).sum()
            objectives.append(float(backend.to_host(row_losses).mean(dtype=np.float64) + penalty))
        return objectives

    def _loss_of(self, answer: np.ndarray) -> float:
        """Return the loss of the same outputs (n_out,) for all rows of the batch."""
        backend, dtype = self._network.backend, self._network.dtype
        recorder = Recorder(backend)
        outputs = backend.from_host(np.tile(answer.astype(dtype), (len(self._batch), 1)))
        row_losses = self._record_loss(recorder, outputs)
        recorder.program().run()
        return float(backend.to_host(row_losses).mean(dtype=np.float64))

    def _record_loss(self, ops: Executor, outputs: Array) -> Array:
        """Record the loss of outputs for the batch; return the array that will hold the loss of each row."""
        backend, batch = self._network.backend, self._batch
        d_outputs = backend.empty(outputs.shape, outputs.dtype)
        row_losses, row_correct = (backend.empty(len(batch), outputs.dtype) for _ in range(2))
        clock = RunStatus(backend).clock
        record_loss(
            ops, self._loss, outputs, batch.targets, batch.row_weight, d_outputs, row_losses, row_correct, clock
        )
        return row_losses


@np.errstate(all="ignore")
def advice_against_long_steps(objective: Objective, data: PassData, learning_rate: float) -> str:
    """Return advice for a loss that explodes or is not finite, beginning with data far from unit size."""
    try:
        advice = LookAtLayers(objective, data).unit_size_advice()
    except DeviceLostError:
        raise
    except GradflowError:
        advice = ""  # out of memory, or a stream has ended
    is_clipped = objective.clip_norm is not None or objective.clip_value is not None
    shorter = f"Try {REMEDIES.get().rate('below', learning_rate)}" + ("" if is_clipped else ", or clip_norm=1.0")
    return f"{advice}. {shorter}" if advice else shorter


def _named(layers: Sequence[Layer], place: str) -> str:
    return f"layer {place}, {layer_at(layers, place)!r}"
