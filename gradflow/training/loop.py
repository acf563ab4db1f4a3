"""The loop over epochs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from gradflow.errors import DivergedError, TrainingWarning
from gradflow.optimizers import LBFGS
from gradflow.output_scale import OutputScale
from gradflow.status import RunStatus
from gradflow.training.callbacks import Callback
from gradflow.training.checkpoints import Checkpoints
from gradflow.training.data_set import PassData
from gradflow.training.diagnosis import advice_against_long_steps, origin_of_divergence
from gradflow.training.early_stopping import CONVERGENCE_EPOCHS, BestValue, EarlyStopping
from gradflow.training.history import History
from gradflow.training.interruption import Interruption
from gradflow.training.layer_statistics import LayerStatistics
from gradflow.training.loss_watch import LossWatch
from gradflow.training.minimization import Minimization
from gradflow.training.passes import DataPass
from gradflow.training.progress import Display
from gradflow.training.run_state import RunState
from gradflow.training.snapshots import Snapshot
from gradflow.training.step import evaluation_pass, training_pass
from gradflow.training.update import Update
from gradflow.training.watched_values import useless_values

if TYPE_CHECKING:
    from gradflow.training.trainer import Trainer

__all__ = ["Loop"]


class Loop:
    """One call of `fit`: runs the epochs, and records their measurements and why training ended."""

    def __init__(
        self,
        trainer: Trainer,
        epochs: int,
        rows: int,
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
        self._rows = rows
        self._best = best
        self._convergence = convergence
        self._early_stopping = early_stopping
        self._callbacks = callbacks
        self._displays = [callback for callback in callbacks if isinstance(callback, Display)]
        self._checkpoints = checkpoints
        self._resumed = resumed
        self._interruption = interruption

    def run(
        self,
        data: PassData,
        validation: PassData | None,
        scale: OutputScale | None,
        names: Sequence[str] | None,
        *,
        batch_size: int,
        parts: int,
        shuffle: bool,
    ) -> None:
        """Train until there is a reason to stop; the network then holds the final weights."""
        trainer = self._trainer
        network, backend, status = trainer.network, trainer.network.backend, trainer.network.status
        before = network.output_activation, network.output_scale, network.feature_names
        network.output_scale = scale
        if network.preprocessing is None:
            network.feature_names = names
        if not network.ends_in_activation:
            network.output_activation = trainer.loss.output_activation
        objective = trainer._objective
        update = Update(objective, epochs=self._epochs, steps=-(-self._rows // batch_size))
        training = training_pass(
            objective,
            data,
            rows=self._rows,
            batch_size=batch_size,
            shuffle=shuffle,
            steps_per_launch=trainer.steps_per_launch,
            parts=parts,
            update=update,
        )
        validating = None
        if validation is not None:
            validating = evaluation_pass(objective, validation, RunStatus(backend), status.sums[3:])
        self._interruption.wakers = [of.break_off for of in (training, validating) if of is not None]
        best_state = backend.empty(network.state.shape, network.dtype)
        backend.copy(network.state, best_state)
        # A validation value belongs to the weights after the epoch. A training value was measured while they changed:
        # only the weights from before the epoch are certain to be as good. Without early stopping, the best weights
        # are needed only if the loss diverges, which is not worth the memory.
        measured_state = network.state
        if self._early_stopping is not None and not self._best.name.startswith("val_"):
            measured_state = backend.zeros(network.state.shape, network.dtype)
        names = trainer._value_names(has_validation=validating is not None)
        if update.learning_rates.is_scheduled:
            names.append("learning_rate")
        if training.statistics is not None:
            names += training.statistics.names
        state = RunState(
            network,
            update,
            training,
            best_state,
            measured_state,
            self.history,
            self._best,
            self._convergence,
            names,
            isinstance(objective.optimizer, LBFGS),
        )
        try:
            batches_done = self._begin(state)
        except BaseException:
            network.output_activation, network.output_scale = before[:2]
            if network.preprocessing is None:
                network.feature_names = before[2]
            raise
        first_epoch = status.read().epoch - self.history.epochs
        trainer._stop_requested = False
        for callback in self._callbacks:
            callback.on_fit_begin(trainer, self._epochs)
        watch = LossWatch(objective, data, self.history["loss"] if self.history.epochs else [])
        layer_values: dict[str, float] = {}
        began = time.perf_counter() - self.history.seconds
        try:
            for epoch in self._epochs_left():
                if measured_state is not network.state and not batches_done:
                    backend.copy(network.state, measured_state)
                update.begin_epoch(epoch - 1, self.history, batches_done)
                is_measured = LayerStatistics.is_due(epoch, training.batches)
                if isinstance(objective.optimizer, LBFGS):
                    finished = Minimization(objective, training).run(lambda: self._interruption.requested)
                else:
                    allowance = partial(self._allowance, state)
                    finished = training.run(
                        allowance,
                        batches_done=batches_done,
                        is_measured=is_measured,
                        passes_to_come=self._epochs - epoch,
                    )
                batches_done = 0
                update.end_epoch()
                if validating is not None and finished:
                    finished = validating.run()
                reading = status.read()
                if reading.first_bad_step is not None:
                    update.put_back()
                    first = (reading.first_bad_step - 1) % training.batches * batch_size
                    origin = origin_of_divergence(
                        network,
                        objective.layers,
                        data,
                        epoch=first_epoch + epoch - 1,
                        positions=range(first, min(first + batch_size, self._rows), -(-batch_size // parts)),
                        step=reading.first_bad_step,
                        rows=self._rows,
                        shuffle=shuffle,
                    )
                    rate = float(update.learning_rates.present.max())
                    remedy = advice_against_long_steps(objective, data, rate)
                    self._record_divergence(epoch, reading.first_bad_step, training, f"{origin}. {remedy}")
                    break
                if not finished:
                    self.history.stopped_by = "interrupted"
                    break
                values = trainer._values(reading.sums[:3], training)
                if validating is not None:
                    held_out = trainer._values(reading.sums[3:], validating)
                    values |= {f"val_{name}": value for name, value in held_out.items()}
                if update.learning_rates.is_scheduled:
                    values["learning_rate"] = float(update.learning_rates.present[-1])
                if training.statistics is not None:
                    if is_measured or not layer_values:
                        layer_values = training.statistics.read()
                    values |= layer_values
                learning_rate = float(update.learning_rates.present.max())
                first_loss = training.first_loss(reading.sums)
                if not self.history.epochs:
                    held_out_metrics = None if validating is None else validating.metrics
                    for text in useless_values(
                        self._early_stopping, trainer.optimizer.schedule, values, training.metrics, held_out_metrics
                    ):
                        warnings.warn(text, TrainingWarning, stacklevel=4)  # attribute it to the line that called fit
                watch.epoch_ended(epoch, values["loss"], first_loss, best_state, learning_rate)
                self.history.append(values)
                self.history.seconds = time.perf_counter() - began
                if self._best.is_improved_by(values):
                    backend.copy(measured_state, best_state)
                for callback in self._callbacks:
                    callback.on_epoch_end(trainer, epoch, dict(values))
                reason = self._reason_to_stop(values, self._interruption.requested)
                self.history.stopped_by = reason or "epochs"
                if self._checkpoints is not None:
                    is_last = reason is not None or epoch == self._epochs
                    self._checkpoints.epoch_ended(state, epoch, is_last=is_last)
                if reason:
                    break
            if self.history.stopped_by in ("epochs", "converged", "early stopping"):
                watch.fit_ended(self.history.epochs)
            if self.diverged is not None or (self._early_stopping is not None and self._best.epoch):
                backend.copy(best_state, network.state)
                self.history.best_epoch = self._best.epoch or None
            backend.synchronize()
            self.history.seconds = time.perf_counter() - began
        finally:
            training.close()
            for callback in self._callbacks:
                callback.on_fit_end(trainer, self.history)

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

    def _record_divergence(self, epoch: int, bad_step: int, training: DataPass, explanation: str) -> None:
        step = bad_step - (epoch - 1) * training.batches
        kept = f"those of epoch {self._best.epoch}" if self._best.epoch else "those from before training"
        self.diverged = DivergedError(
            f"the loss became NaN or infinite in epoch {epoch}, at step {step} of {training.batches}; the network "
            f"keeps its best weights, {kept}. What happened: {explanation}",
            epoch=epoch,
            step=step,
        )
        self.history.stopped_by = "diverged"
