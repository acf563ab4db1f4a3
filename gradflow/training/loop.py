"""The loop over epochs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gradflow.clock import RunStatus, StatusReading
from gradflow.errors import DivergedError, TrainingWarning, warn
from gradflow.optimizers import LBFGS
from gradflow.output_scale import OutputScale
from gradflow.training.data.feed import PassData
from gradflow.training.progress.callbacks import Callback
from gradflow.training.progress.display import Display
from gradflow.training.progress.early_stopping import CONVERGENCE_EPOCHS, BestValue, EarlyStopping
from gradflow.training.progress.history import History
from gradflow.training.runs.checkpoints import Checkpoints
from gradflow.training.runs.run_state import RunState
from gradflow.training.runs.snapshots import Snapshot
from gradflow.training.signals import Interruption
from gradflow.training.step.layer_statistics import LayerStatistics
from gradflow.training.step.lbfgs import Minimization
from gradflow.training.step.record import evaluation_pass, training_pass
from gradflow.training.step.update import Update
from gradflow.training.watch.diagnosis import advice_against_long_steps, origin_of_divergence
from gradflow.training.watch.loss_watch import LossWatch
from gradflow.training.watch.watched_values import useless_values

if TYPE_CHECKING:
    from gradflow.training.trainer import Trainer

__all__ = ["Loop", "Plan"]


class Plan(NamedTuple):
    """The data of a fit, and how they are split into batches.

    Attributes:
        data, validation: the training data, and the data to evaluate on after each epoch.
        rows: rows per epoch.
        batch_size: rows per step.
        parts: number of parts in which a full batch is processed.
        shuffle: True if each epoch is shuffled.
    """

    data: PassData
    validation: PassData | None
    rows: int
    batch_size: int
    parts: int
    shuffle: bool


class Loop:
    """One call of `fit`: runs the epochs, and records their measurements and why training ended."""

    def __init__(
        self,
        trainer: Trainer,
        epochs: int,
        plan: Plan,
        best: BestValue,
        convergence: BestValue | None,
        early_stopping: EarlyStopping | None,
        callbacks: Sequence[Callback],
        checkpoints: Checkpoints | None,
        resumed: Snapshot | None,
        interruption: Interruption,
    ) -> None:
        self.history = History()
        self.diverged: DivergedError | None = None
        self._trainer = trainer
        self._epochs = epochs
        self._plan = plan
        self._best = best
        self._convergence = convergence
        self._early_stopping = early_stopping
        self._callbacks = callbacks
        self._displays = [callback for callback in callbacks if isinstance(callback, Display)]
        self._checkpoints = checkpoints
        self._resumed = resumed
        self._interruption = interruption
        self._layer_values: dict[str, float] = {}

    def run(self, scale: OutputScale | None, names: Sequence[str] | None) -> None:
        """Train until there is a reason to stop; the network then holds the final weights.

        Args:
            scale: the scale of the network's outputs.
            names: the names of its input columns.
        """
        trainer, network = self._trainer, self._trainer.network
        before = network.output_activation, network.output_scale, network.feature_names
        try:
            self._describe(trainer.loss.output_activation, scale, names)
            self._record()
            batches_done = self._begin(self._state)
        except BaseException:
            self._describe(*before)
            raise
        self._first_epoch = network.status.read().epoch - self.history.epochs
        trainer._stop_requested = False
        for callback in self._callbacks:
            callback.on_fit_begin(trainer, self._epochs)
        losses = self.history["loss"] if self.history.epochs else []
        self._watch = LossWatch(trainer._objective, self._plan.data, losses)
        self._began = time.perf_counter() - self.history.seconds
        try:
            for epoch in self._epochs_left():
                if not self._run_epoch(epoch, batches_done):
                    break
                batches_done = 0
            self._end()
        finally:
            self._state.training.close()
            for callback in self._callbacks:
                callback.on_fit_end(trainer, self.history)

    def _describe(self, activation: str, scale: OutputScale | None, names: Sequence[str] | None) -> None:
        """Set output activation, scale and feature names of the network, where no layer or preprocessing decides."""
        network = self._trainer.network
        network.output_scale = scale
        if network.preprocessing is None:
            network.feature_names = names
        if not network.ends_in_activation:
            network.output_activation = activation

    def _record(self) -> None:
        """Record the programs of an epoch, and allocate the state that they change."""
        trainer, network, plan = self._trainer, self._trainer.network, self._plan
        objective, backend, status = trainer._objective, network.backend, network.status
        update = Update(objective, epochs=self._epochs, steps=-(-plan.rows // plan.batch_size))
        training = training_pass(
            objective,
            plan.data,
            rows=plan.rows,
            batch_size=plan.batch_size,
            shuffle=plan.shuffle,
            steps_per_launch=trainer.steps_per_launch,
            parts=plan.parts,
            update=update,
        )
        self._validating = None
        if plan.validation is not None:
            self._validating = evaluation_pass(objective, plan.validation, RunStatus(backend), status.sums[3:])
        self._interruption.wakers = [of.break_off for of in (training, self._validating) if of is not None]
        best_state = backend.empty(network.state.shape, network.dtype)
        backend.copy(network.state, best_state)
        # A validation value belongs to the weights after the epoch. A training value was measured while they changed:
        # only the weights from before the epoch are certain to be as good. Without early stopping, the best weights
        # are needed only if the loss diverges, which is not worth the memory.
        measured_state = network.state
        if self._early_stopping is not None and not self._best.name.startswith("val_"):
            measured_state = backend.zeros(network.state.shape, network.dtype)
        names = trainer._value_names(has_validation=self._validating is not None)
        if update.learning_rates.is_scheduled:
            names.append("learning_rate")
        if training.statistics is not None:
            names += training.statistics.names
        run = network, update, training, best_state, measured_state, self.history, self._best, self._convergence
        self._state = RunState(*run, names, isinstance(objective.optimizer, LBFGS))

    def _run_epoch(self, epoch: int, batches_done: int) -> bool:
        """Train for an epoch and record its values; return False if it is the last one."""
        state, network = self._state, self._trainer.network
        if state.measured_state is not network.state and not batches_done:
            network.backend.copy(network.state, state.measured_state)
        state.update.begin_epoch(epoch - 1, self.history, batches_done)
        is_measured = LayerStatistics.is_due(epoch, state.training.batches)
        is_finished = self._train(epoch, batches_done, is_measured=is_measured)
        state.update.end_epoch()
        if self._validating is not None and is_finished:
            is_finished = self._validating.run()
        reading = network.status.read()
        if reading.first_bad_step is not None:
            self._diverge(epoch, reading.first_bad_step)
            return False
        if not is_finished:
            self.history.stopped_by = "interrupted"
            return False
        values = self._values(reading, is_measured=is_measured)
        self._warn_of(epoch, values, reading)
        return self._keep(epoch, values)

    def _train(self, epoch: int, batches_done: int, *, is_measured: bool) -> bool:
        """Run the remaining steps of an epoch; return False if it was interrupted."""
        objective, training = self._trainer._objective, self._state.training
        if isinstance(objective.optimizer, LBFGS):
            return Minimization(objective, training).run(lambda: self._interruption.requested)
        return training.run(
            partial(self._allowance, self._state),
            batches_done=batches_done,
            is_measured=is_measured,
            passes_to_come=self._epochs - epoch,
        )

    def _values(self, reading: StatusReading, *, is_measured: bool) -> dict[str, float]:
        """Return the values of an epoch by their names in the history."""
        training, rates = self._state.training, self._state.update.learning_rates
        values = self._trainer._values(reading.sums[:3], training)
        if self._validating is not None:
            held_out = self._trainer._values(reading.sums[3:], self._validating)
            values |= {f"val_{name}": value for name, value in held_out.items()}
        if rates.is_scheduled:
            values["learning_rate"] = float(rates.present[-1])
        if training.statistics is not None:
            if is_measured or not self._layer_values:
                self._layer_values = training.statistics.read()
            values |= self._layer_values
        return values

    def _warn_of(self, epoch: int, values: dict[str, float], reading: StatusReading) -> None:
        """Warn about watched values that can never improve, and about a loss that explodes or stalls."""
        state = self._state
        if not self.history.epochs:
            held_out = None if self._validating is None else self._validating.metrics
            schedule, measured = self._trainer.optimizer.schedule, state.training.metrics
            for text in useless_values(self._early_stopping, schedule, values, measured, held_out):
                warn(text, TrainingWarning)
        learning_rate = float(state.update.learning_rates.present.max())
        first_loss = state.training.first_loss(reading.sums)
        self._watch.epoch_ended(epoch, values["loss"], first_loss, state.best_state, learning_rate)

    def _keep(self, epoch: int, values: dict[str, float]) -> bool:
        """Record an epoch: values, best weights and checkpoint, if due. Return False if it is the last one."""
        state = self._state
        self.history.append(values)
        self.history.seconds = time.perf_counter() - self._began
        if self._best.is_improved_by(values):
            state.network.backend.copy(state.measured_state, state.best_state)
        for callback in self._callbacks:
            callback.on_epoch_end(self._trainer, epoch, dict(values))
        reason = self._reason_to_stop(values, self._interruption.requested)
        self.history.stopped_by = reason or "epochs"
        if self._checkpoints is not None:
            self._checkpoints.epoch_ended(state, epoch, is_last=reason is not None or epoch == self._epochs)
        return reason is None

    def _end(self) -> None:
        """Check the final loss, and restore the best weights if they must be kept."""
        network = self._trainer.network
        if self.history.stopped_by in ("epochs", "converged", "early stopping"):
            self._watch.fit_ended(self.history.epochs)
        if self.diverged is not None or (self._early_stopping is not None and self._best.epoch):
            network.backend.copy(self._state.best_state, network.state)
            self.history.best_epoch = self._best.epoch or None
        network.backend.synchronize()
        self.history.seconds = time.perf_counter() - self._began

    def _begin(self, state: RunState) -> int:
        """Start a new run or restore the resumed one; return how many batches of its epoch are done."""
        if self._resumed is not None:
            batches_done = state.restore(self._resumed)
            if self._checkpoints is not None:
                self._checkpoints.go_on(state, batches_done)
            return batches_done
        state.network.epochs_begun = state.network.epochs_begun
        if self._checkpoints is not None:
            self._checkpoints.begin(state)
        return 0

    def _epochs_left(self) -> range:
        """Return the epochs to train, counted from 1; none if the resumed run had already ended."""
        if self.history.stopped_by not in ("epochs", "interrupted"):
            return range(0)
        self.history.stopped_by = "epochs"
        return range(self.history.epochs + 1, self._epochs + 1)

    def _allowance(self, state: RunState, batches_done: int) -> int:
        """Save a checkpoint if one is due; return how many batches may run before the next call."""
        is_interrupted = self._interruption.requested
        allowed = state.training.batches
        for display in self._displays:
            display.look(self.history.epochs, batches_done, allowed)
        if self._checkpoints is not None:
            allowed = self._checkpoints.between_steps(state, batches_done, is_last=is_interrupted)
        return 0 if is_interrupted else allowed

    def _reason_to_stop(self, values: dict[str, float], is_interrupted: bool) -> str | None:
        if self._convergence is not None:  # every epoch, so that a resumed run can derive it from the history
            self._convergence.is_improved_by(values)
        if is_interrupted:
            return "interrupted"
        if self._early_stopping is not None and self._best.epochs_since >= self._early_stopping.patience:
            return "early stopping"
        if self._convergence is not None and self._convergence.epochs_since >= CONVERGENCE_EPOCHS:
            return "converged"
        return "callback" if self._trainer._stop_requested else None

    def _diverge(self, epoch: int, bad_step: int) -> None:
        """Record the divergence: a step of the epoch had a non-finite loss. Find out where it began."""
        trainer, plan, training, update = self._trainer, self._plan, self._state.training, self._state.update
        update.put_back()
        first = (bad_step - 1) % training.batches * plan.batch_size
        origin = origin_of_divergence(
            trainer.network,
            trainer._objective.layers,
            plan.data,
            epoch=self._first_epoch + epoch - 1,
            positions=range(first, min(first + plan.batch_size, plan.rows), -(-plan.batch_size // plan.parts)),
            step=bad_step,
            rows=plan.rows,
            shuffle=plan.shuffle,
        )
        remedy = advice_against_long_steps(trainer._objective, plan.data, float(update.learning_rates.present.max()))
        step = bad_step - (epoch - 1) * training.batches
        kept = f"those of epoch {self._best.epoch}" if self._best.epoch else "those from before training"
        self.diverged = DivergedError(
            f"the loss became NaN or infinite in epoch {epoch}, at step {step} of {training.batches}; the network "
            f"keeps its best weights, {kept}. What happened: {origin}. {remedy}",
            epoch=epoch,
            step=step,
        )
        self.history.stopped_by = "diverged"
