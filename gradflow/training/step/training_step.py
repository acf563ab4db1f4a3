"""`TrainingStep`: the step of a training, recorded for its batches, with the state that it changes."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

from gradflow.clock import RunStatus, advance_part
from gradflow.distributed import World
from gradflow.layers.stack import ForwardArrays
from gradflow.losses import Loss
from gradflow.metrics import EpochMetrics
from gradflow.network import Sequential
from gradflow.ops import clear
from gradflow.optimizers import Optimizer
from gradflow.program import Recorder
from gradflow.training.data.feed import PassData
from gradflow.training.data.prepare import prepare_data
from gradflow.training.step.epoch import Epoch
from gradflow.training.step.layer_statistics import LayerStatistics
from gradflow.training.step.objective import Objective
from gradflow.training.step.ranks import PartOfBatch, record_fraction
from gradflow.training.step.record import Results, record_step
from gradflow.training.step.update import Update


class TrainingStep:
    """The step of a training: recorded for full batches and for a smaller last one, and run epoch by epoch.

    Args:
        objective: network, loss, optimizer and settings.
        data: the training data.
        batch_size: rows per step, at most ``rows``.
        rows: rows per epoch; None for all.
        shuffle: True to shuffle each epoch.
        parts: number of parts in which a full batch is processed, in the same memory; their gradients are added.
        epochs: number of epochs of the training.
        world: the ranks that train together.

    Attributes:
        epoch: runs the steps of an epoch.
        update: the update of the weights, with the state of the optimizer.
        status: the clock of the training, and the sums of an epoch.
    """

    def __init__(
        self,
        objective: Objective,
        data: PassData,
        *,
        batch_size: int,
        rows: int | None = None,
        shuffle: bool = True,
        parts: int = 1,
        epochs: int = 1,
        world: World | None = None,
    ) -> None:
        network, backend = objective.network, objective.network.backend
        self._objective = objective
        self._world = world or World()
        self._rows = len(data) if rows is None else rows
        self._part_rows = -(-batch_size // parts)
        self.status = RunStatus(backend, epoch=network.epochs_begun)
        steps = -(-self._rows // batch_size)
        self.update = Update(objective, epochs=epochs, steps=steps, world=self._world)
        # Row weights have mean 1 over all rows, not over those of an epoch that leaves some out.
        leaves_out = data.is_weighted and self._rows < len(data)
        metrics = EpochMetrics(objective.metrics, objective.task(self._rows), sums_weights=leaves_out)
        self._results = Results.empty(backend, self._rows, network.dtype, metrics)
        # A step on all rows at once needs no shuffle.
        seed = network.seed if shuffle and self._part_rows < len(data) else None
        self._batches = data.batches(backend, self.status, rows=self._rows, batch_size=batch_size, seed=seed)
        precision = self.update.precision
        self._record_step = record_step if precision is None else precision.record_step
        self._statistics = (
            LayerStatistics(network, objective.layers, self._world) if objective.layer_statistics else None
        )
        self.epoch = self._recorded_epoch(batch_size)

    @classmethod
    def of(
        cls,
        network: Sequential,
        loss: str | Loss,
        optimizer: str | Optimizer,
        x: Any,
        y: Any = None,
        *,
        batch_size: int,
        shuffle: bool = True,
        **settings: Any,
    ) -> Self:
        """Return the step of a training on data as for `Trainer.fit`, with settings of `Trainer`.

        Raises:
            DataError: if data or settings are invalid.
        """
        objective = Objective.checked(network, loss, optimizer, **settings)
        data = prepare_data(network, objective.loss, x, y, finds_classes=True)
        return cls(objective, data, batch_size=min(batch_size, len(data)), shuffle=shuffle)

    def run(self, **options: Any) -> bool:
        """Run an epoch, with the options of `Epoch.run`; return False if it was ended early."""
        return self.epoch.run(**options)

    def _recorded_epoch(self, batch_size: int) -> Epoch:
        full_batches, rest = divmod(self._rows, batch_size)
        full, arrays = self._recorded(batch_size)
        steps_per_launch = min(self._objective.steps_per_launch, full_batches)
        program, measured = full.program(steps_per_launch), None
        if self._statistics is not None and arrays is not None:
            recorder = self._recorder()
            fraction = len(self._world.rows(self._part_rows)) / self._part_rows
            self._statistics.record(recorder, self._with_gradient(full), arrays, fraction)
            measured = recorder.program()
        return Epoch(
            full.backend,
            self._batches,
            self.status,
            self._results,
            self.status.training,
            rows=self._rows,
            batch_size=batch_size,
            full=program,
            measured=measured,
            rest=self._recorded(rest)[0].program() if rest else None,
            has_accuracy=self._objective.loss.has_accuracy,
            steps_per_launch=steps_per_launch,
            ends_at_bad_step=True,
            statistics=self._statistics,
            world=self._world,
        )

    def _recorded(self, batch_rows: int) -> tuple[Recorder, ForwardArrays | None]:
        """Record the step on a batch, and the clock's advance to the next one."""
        objective, recorder = self._objective, self._recorder()
        whole, rest = divmod(batch_rows, self._part_rows)
        sizes = [self._part_rows] * whole + [rest] * (rest > 0)
        arrays: ForwardArrays | None
        if len(sizes) == 1 and self._world.size == 1:
            batch, update = self._batches.next(recorder, batch_rows), self.update.record
            arrays = self._record_step(recorder, objective.layers, objective.loss, batch, self._results, update)
        else:
            arrays = self._record_parts(recorder, sizes)
            if self.update.shared is None:
                self._record_sum(recorder, sizes)
                self.update.record(recorder)
            else:
                self.update.record_shared(recorder, self._fractions(sizes))
        self.update.learning_rates.record_advance(recorder, sizes[-1], self._rows)
        return recorder, arrays

    def _with_gradient(self, step: Recorder) -> Recorder:
        """Return a step that leaves the gradient of the batch on all ranks."""
        if self.update.shared is None:
            return step
        recorder = self._recorder()
        recorder.extend(step)
        recorder.call(partial(self.update.shared.collect, self._objective.network.gradients))
        return recorder

    def _recorder(self) -> Recorder:
        return Recorder(self.status.backend, self.status.clock, self.update.learning_rates.values)

    def _record_parts(self, recorder: Recorder, sizes: list[int]) -> ForwardArrays | None:
        """Record this rank's gradients of a batch, part by part. Each size is recorded once: its parts share their
        memory. The gradients of several parts are added, and weighted by their fractions of the batch's rows."""
        gradients, rows, world = self._objective.network.gradients, sum(sizes), self._world
        recorded = {size: self._recorder() for size in sizes}
        arrays = [self._record_part(part, size) for size, part in recorded.items()]
        last = len(sizes) - 1
        for place, size in enumerate(sizes):
            recorder.extend(recorded[size])
            if last:
                fraction = len(world.rows(size)) / rows
                self.update.accumulation.add(recorder, gradients, fraction, is_first=place == 0, is_last=place == last)
            if place < last:
                recorder(advance_part, recorder.clock, size)
        return arrays[0]

    def _fractions(self, sizes: list[int]) -> list[float]:
        """Return the factor by which the gradient of each rank counts."""
        (*others, rows), world = sizes, self._world
        return [1.0 if others else len(world.rows(rows, rank)) / rows for rank in range(world.size)]

    def _record_sum(self, recorder: Recorder, sizes: list[int]) -> None:
        """Record the sum of the gradients over the ranks."""
        gradients, world = self._objective.network.gradients, self._world
        is_mean = len(sizes) == 1 and world.takes_means(sizes[0])
        fraction = self._fractions(sizes)[world.rank]
        if len(sizes) == 1 and not is_mean:
            record_fraction(recorder, gradients, fraction)
        if world.size > 1:
            recorder.call(world.sums(gradients, is_mean=is_mean))

    def _record_part(self, recorder: Recorder, size: int) -> ForwardArrays | None:
        """Record the gradient of this rank's rows of a part, at their position in the epoch; None if it has none."""
        objective, rows = self._objective, self._world.rows(size)
        if not rows:
            recorder(clear, objective.network.gradients)
            return None
        if rows.start:
            recorder(advance_part, recorder.clock, rows.start)
        batch = self._batches.next(recorder, len(rows))
        ops = recorder if self._world.size == 1 else PartOfBatch(recorder, self._world, size)
        arrays = self._record_step(ops, objective.layers, objective.loss, batch, self._results)
        if rows.start:
            recorder(advance_part, recorder.clock, -rows.start)
        return arrays
