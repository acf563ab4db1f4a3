"""The loop over epochs."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import NamedTuple

import numpy as np

from gradflow.clock import StatusReading
from gradflow.data.classes import Classes
from gradflow.distributed import World
from gradflow.errors import BackendError, DataError, DivergedError, GradflowError, RankError, TrainingWarning, warn
from gradflow.optimizers import LBFGS
from gradflow.output_scale import OutputScale
from gradflow.training.data.feed import PassData
from gradflow.training.many_epochs import ManyEpochs
from gradflow.training.progress.callbacks import Calls
from gradflow.training.progress.early_stopping import CONVERGENCE_EPOCHS, BestValue, EarlyStopping
from gradflow.training.progress.history import History
from gradflow.training.runs.checkpoints import Checkpoints
from gradflow.training.runs.run_state import RunState
from gradflow.training.runs.snapshots import Snapshot
from gradflow.training.signals import Interruption
from gradflow.training.step.epoch import Epoch, Pass
from gradflow.training.step.evaluation import evaluation
from gradflow.training.step.layer_statistics import LayerStatistics
from gradflow.training.step.lbfgs import Minimization, check_minimization
from gradflow.training.step.memory import within_memory
from gradflow.training.step.objective import Objective
from gradflow.training.step.optimizer_state import OptimizerState
from gradflow.training.step.ranks import SharedUpdate, check_ranks
from gradflow.training.step.training_step import TrainingStep
from gradflow.training.watch.diagnosis import advice_against_long_steps, non_finite_parameter, origin_of_divergence
from gradflow.training.watch.loss_watch import LossWatch
from gradflow.training.watch.other_work import OtherWork
from gradflow.training.watch.watched_values import useless_values


class Plan(NamedTuple):
    """The data of a fit, and how they are split into batches.

    Attributes:
        epochs: maximum number of epochs.
        data, validation: the training data, and the data to evaluate on after each epoch.
        rows: rows per epoch.
        batch_size: rows per step.
        parts: number of parts in which a full batch is processed.
        shuffle: True if each epoch is shuffled.
        world: the ranks that share each batch.
    """

    epochs: int
    data: PassData
    validation: PassData | None
    rows: int
    batch_size: int
    parts: int
    shuffle: bool
    world: World = World()

    def check(self, objective: Objective) -> None:
        """Raise if network, optimizer or schedule do not support these batches or epochs.

        Raises:
            DataError: naming the setting.
        """
        if self.batch_size % self.parts and self.batch_size < len(self.data):
            raise DataError(f"batch_size must be a multiple of accumulate, got {self.batch_size} and {self.parts}")
        rows = -(-self.batch_size // self.parts)
        for index, layer in enumerate(objective.network.layers):
            if layer.trainable and rows < layer.least_batch_size:
                raise DataError(
                    f"layer {index}, {layer!r}, needs batches of at least {layer.least_batch_size} rows in training, "
                    f"got {rows}; pass a larger batch_size and at least as many rows"
                )
        if isinstance(objective.optimizer, LBFGS):
            check_minimization(objective, self.data, batch_size=self.batch_size, parts=self.parts)
        check_ranks(objective, self.world, rows=self.rows, batch_size=self.batch_size, parts=self.parts)
        names = objective.value_names(has_validation=self.validation is not None)
        for schedule in objective.schedules():
            schedule.check(self.epochs, names)

    def within_memory(self, objective: Objective) -> Plan:
        """Return the plan with its data on the host if they do not fit on the device (`memory.within_memory`)."""
        data, validation = within_memory(
            objective, self.data, self.validation, rows=self.rows, batch_size=self.batch_size, parts=self.parts
        )
        are_on_host = self.world.gathered(data is not self.data)
        if len(set(are_on_host)) > 1:
            raise BackendError(
                f"rank {are_on_host.index(True)} has too little free GPU memory for the data, and rank "
                f"{are_on_host.index(False)} has enough; free memory there, or keep the data of all on the host: pass "
                "gradflow.data.Arrays(x, y)"
            )
        return self._replace(data=data, validation=validation)


class Stopping(NamedTuple):
    """When a fit stops, besides its number of epochs.

    Attributes:
        best: the value that decides which weights are best.
        convergence: the loss, if training ends when it no longer falls.
        early_stopping: the settings of early stopping.
    """

    best: BestValue
    convergence: BestValue | None
    early_stopping: EarlyStopping | None


class Loop:
    """One call of `fit`: runs the epochs, and records their measurements and why training ended.

    Args:
        objective: network, loss, optimizer and settings.
        plan: the data and their batches.
        best: the value that decides which weights are best.
        convergence: the loss, if training ends when it no longer falls.
        early_stopping: the settings of early stopping.
        calls: calls the callbacks.
        checkpoints: saves the run, if it is saved.
        resumed: the snapshot that the run continues from.
        interruption: requests of signals to end.
        continued: the state with which the optimizer begins; None for a fresh one.

    Attributes:
        history: the measurements.
        diverged: the error to raise if the loss diverged.
        stop_requested: True to end after the current epoch, or after the current step if a callback requests it then.
        weights_of_epoch: the decayed weights after the epoch that callbacks hear of, if others have run since.
    """

    def __init__(
        self,
        objective: Objective,
        plan: Plan,
        best: BestValue,
        convergence: BestValue | None,
        early_stopping: EarlyStopping | None,
        calls: Calls,
        checkpoints: Checkpoints | None,
        resumed: Snapshot | None,
        interruption: Interruption,
        continued: OptimizerState | None = None,
    ) -> None:
        self.history = History()
        self.diverged: DivergedError | None = None
        self.stop_requested = False
        self.weights_of_epoch: np.ndarray | None = None
        self._objective = objective
        self._network = objective.network
        self._plan = plan
        self._best = best
        self._convergence = convergence
        self._early_stopping = early_stopping
        self._calls = calls
        self._is_stopped_at_step = False
        self._checkpoints = checkpoints
        self._resumed = resumed
        self._interruption = interruption
        self._continued = continued
        self._layer_values: dict[str, float] = {}

    def memory(self) -> AbstractContextManager[None]:
        """Return the context in which `epochs` must run: ranks that update blocks of the weights see each other's."""
        network, world = self._network, self._plan.world
        is_shared = SharedUpdate.suits(network, self._objective.optimizer, world)
        return network._elsewhere(world.room) if is_shared else nullcontext()

    def epochs(self, scale: OutputScale | None, *, hands_out: bool = False) -> Generator[Pass, None, None]:
        """Train until there is a reason to stop; the network then holds the final weights.

        The iterator yields an empty pass between two epochs, so that several runs can take turns.

        Args:
            scale: the scale of the network's outputs.
            hands_out: True to yield passes over the data too, where that is possible: whoever takes one must run its
                programs before taking the next.
        """
        network, names, classes = self._network, self._plan.data.feature_names, self._plan.data.classes
        before = network.output_activation, network.output_scale, network.feature_names, network.classes
        precision = network.precision
        try:
            self._describe(self._objective.loss.output_activation, scale, names, classes, self._objective.precision)
            self._record()
            self._plan.world.check_programs()
            batches_done = self._begin(self._state)
        except BaseException:
            self._describe(*before, precision)
            raise
        reading = self._state.step.status.read()
        network.epochs_begun = reading.epochs_begun
        self._first_epoch = reading.epoch - self.history.epochs
        losses = self.history["loss"] if self.history.epochs else []
        self._watch = LossWatch(self._objective, self._plan.data, losses)
        self._other_work = OtherWork(network.backend)
        try:
            names, own = self._state.names, list(self.history)[len(self._state.names) :]
            self._calls.begin(
                self._plan.epochs, names, own if self.history.epochs else None, self._state.steps(batches_done)
            )
            self._began = time.perf_counter() - self.history.seconds
            last_epoch = self._last_epoch()
            while (epoch := self.history.epochs + 1) <= last_epoch:
                if (at_once := self._epochs_at_once()) > 1:
                    goes_on = self._run_epochs(epoch, at_once)
                else:
                    goes_on = yield from self._run_epoch(epoch, batches_done, hands_out=hands_out)
                if not goes_on:
                    break
                batches_done = 0
                yield ()
                if self.stop_requested and self._plan.world.size == 1:  # otherwise all ranks have agreed to go on
                    self.history.stopped_by = "callback"
                    break
            self._end()
        except BaseException as error:
            is_request = isinstance(error, KeyboardInterrupt | GeneratorExit)
            self.history.stopped_by = "interrupted" if is_request else "error"
            if self._plan.world.size == 1 or network.backend.name != "cupy":  # a GPU may wait for ranks that have left
                with suppress(GradflowError):  # the device may be lost
                    network.epochs_begun = self._state.step.status.read().epochs_begun
            raise
        finally:
            self._state.step.epoch.close()
            self._calls.end(self.history)

    def optimizer_state(self) -> OptimizerState:
        """Return the state of the optimizer after the steps so far. Ranks that train together must all call it."""
        self._state.step.update.collect()
        return OptimizerState.of(self._state.step)

    def _describe(
        self,
        activation: str,
        scale: OutputScale | None,
        names: Sequence[str] | None,
        classes: Classes | None,
        precision: str,
    ) -> None:
        """Set precision and classes of the network, and output activation, scale and feature names, where no layer or
        preprocessing decides."""
        network = self._network
        network.classes = classes
        network.precision = precision
        network.output_scale = scale
        if network.preprocessing is None:
            network.feature_names = names
        if not network.ends_in_activation:
            network.output_activation = activation

    def _record(self) -> None:
        """Record the programs of an epoch, and allocate the state that they change."""
        network, plan, backend = self._network, self._plan, self._network.backend
        step = TrainingStep(
            self._objective,
            plan.data,
            batch_size=plan.batch_size,
            rows=plan.rows,
            shuffle=plan.shuffle,
            parts=plan.parts,
            epochs=plan.epochs,
            world=plan.world,
        )
        self._validating: Epoch | None = None
        self._many: ManyEpochs | None = None
        if plan.validation is not None:
            self._validating = evaluation(
                self._objective, plan.validation, step.status.validation, step.update.precision, plan.world
            )
        if plan.world.size == 1:  # otherwise ranks stop between two steps, when all have agreed
            self._interruption.wakers = [of.break_off for of in (step.epoch, self._validating) if of is not None]
        best_state = backend.empty(network.state.shape, network.dtype)
        backend.copy(network.state, best_state)
        # A validation value belongs to the weights after the epoch. A training value was measured while they changed:
        # only the weights from before the epoch are certain to be as good. Without early stopping, the best weights
        # are needed only if the loss diverges, which is not worth the memory.
        measured_state = network.state
        names = self._objective.value_names(has_validation=self._validating is not None)
        is_of_callback = self._best.name not in names
        if self._early_stopping is not None and not (is_of_callback or self._best.name.startswith("val_")):
            measured_state = backend.zeros(network.state.shape, network.dtype)
        if step.update.learning_rates.is_scheduled:
            names.append("learning_rate")
        if step.epoch.statistics is not None:
            names += step.epoch.statistics.names
        is_alone = self._checkpoints is None and not self._calls.has_steps and measured_state is network.state
        if is_alone and not isinstance(self._objective.optimizer, LBFGS):
            self._many = ManyEpochs.of(network, step, self._validating, best_state, self._best)
        run = network, step, best_state, measured_state, self.history, self._best, self._convergence
        self._state = RunState(*run, names, isinstance(self._objective.optimizer, LBFGS), plan.world)

    def _run_epoch(self, epoch: int, batches_done: int, *, hands_out: bool) -> Generator[Pass, None, bool]:
        """Train for an epoch and record its values; return False if it is the last one."""
        state, network, step = self._state, self._network, self._state.step
        if state.measured_state is not network.state and not batches_done:
            network.backend.copy(network.state, state.measured_state)
        step.update.begin_epoch(epoch - 1, self.history, batches_done)
        is_measured = LayerStatistics.is_due(epoch, step.epoch.batches)
        is_finished = yield from self._train(epoch, batches_done, is_measured=is_measured, hands_out=hands_out)
        step.update.end_epoch()
        if self._validating is not None and is_finished:
            if hands_out and (programs := self._validating.programs()) is not None:
                yield programs
            else:
                is_finished = self._validating.run()
        step.epoch.agree_on_bad_step()
        reading = step.status.read()
        network._epochs_begun = reading.epochs_begun  # the property would wait for readers, in every epoch
        if reading.first_bad_step is not None:
            self._diverge(epoch, reading.first_bad_step)
            return False
        if not is_finished:
            self.history.stopped_by = "callback" if self._is_stopped_at_step else "interrupted"
            return False
        values = self._values(reading, is_measured=is_measured)
        self._warn_of(epoch, values, reading)
        self._other_work.look()
        return self._keep(epoch, values)

    def _epochs_at_once(self) -> int:
        """Return how many epochs can run before one of them may be the last, or something looks at the network."""
        epochs_done = self.history.epochs
        if self._many is None or not epochs_done:
            return 1
        bounds = [self._many.most, self._plan.epochs - epochs_done, self._calls.epochs_at_once, self._watch.most_epochs]
        if self._early_stopping is not None:
            bounds.append(self._early_stopping.patience - self._best.epochs_since)
        if self._convergence is not None:
            bounds.append(CONVERGENCE_EPOCHS - self._convergence.epochs_since)
        return min(bounds)

    def _run_epochs(self, epoch: int, most: int) -> bool:
        """Train for several epochs in one call, and record their values; return False if there are no more."""
        assert self._many is not None
        if not self._allowance(self._state, 0):
            self.history.stopped_by = "interrupted"
            return False
        goes_on = True
        readings = self._many.run(most, self._watch.limit)
        for reading, weights in zip(readings, self._many.weights, strict=False):
            self.weights_of_epoch = weights
            self._network._epochs_begun = reading.epochs_begun
            if reading.first_bad_step is not None:
                self._diverge(epoch, reading.first_bad_step)
                return False
            values = self._values(reading, is_measured=False)
            self._warn_of(epoch, values, reading)
            goes_on = self._keep(epoch, values)
            epoch += 1
        self.weights_of_epoch = None
        self._other_work.look()
        return goes_on

    def _train(
        self, epoch: int, batches_done: int, *, is_measured: bool, hands_out: bool
    ) -> Generator[Pass, None, bool]:
        """Run the remaining steps of an epoch, or yield the pass; return False if it was interrupted."""
        objective, step = self._objective, self._state.step
        if isinstance(objective.optimizer, LBFGS):
            return Minimization(objective, step).run(self._is_interrupted)
        hands_out = hands_out and not self._calls.has_steps
        if hands_out and not batches_done and (programs := step.epoch.programs(is_measured=is_measured)) is not None:
            if not self._allowance(self._state, 0):
                return False
            yield programs
            return True
        is_finished = step.run(
            allowance=partial(self._allowance, self._state),
            batches_done=batches_done,
            is_measured=is_measured,
            epochs_to_come=self._plan.epochs - epoch,
        )
        if is_finished:
            self._step_ended(step.epoch.batches)
        return is_finished

    def _values(self, reading: StatusReading, *, is_measured: bool) -> dict[str, float]:
        """Return the values of an epoch by their names in the history."""
        training, rates = self._state.step.epoch, self._state.step.update.learning_rates
        values = training.values(reading.training)
        if self._validating is not None:
            held_out = self._validating.values(reading.validation)
            values |= {f"val_{name}": value for name, value in held_out.items()}
        if rates.is_scheduled:
            values["learning_rate"] = float(rates.current[-1])
        if training.statistics is not None:
            if is_measured or not self._layer_values:
                self._layer_values = training.statistics.read()
            values |= self._layer_values
        return values

    def _warn_of(self, epoch: int, values: dict[str, float], reading: StatusReading) -> None:
        """Warn about watched values that can never improve, and a loss that explodes or stalls."""
        step = self._state.step
        if not self.history.epochs:
            held_out = None if self._validating is None else self._validating.metrics
            schedule, measured = self._objective.optimizer.schedule, step.epoch.metrics
            for text in useless_values(self._early_stopping, schedule, values, measured, held_out):
                warn(text, TrainingWarning)
        first_loss, rates = step.epoch.first_loss(reading.training), step.update.learning_rates.current
        self._watch.epoch_ended(epoch, values["loss"], first_loss, self._state.best_state, rates)

    def _keep(self, epoch: int, values: dict[str, float]) -> bool:
        """Record an epoch: its values, and a checkpoint, if due. Return False if it is the last one."""
        state = self._state
        self.history.append(values)
        self.history.seconds = time.perf_counter() - self._began
        is_of_callback = self._best.name not in values
        if not is_of_callback:
            self._update_best(values)
        own = self._calls.epoch_ended(epoch, values, self.history)
        if is_of_callback:
            self._update_best(self._watched(own, values))
        is_interrupted = self._agreed(epoch, values)
        reason = self._reason_to_stop(values, is_interrupted)
        self.history.stopped_by = reason or "epochs"
        if self._checkpoints is not None:
            self._checkpoints.epoch_ended(state, epoch, is_last=reason is not None or epoch == self._plan.epochs)
        return reason is None

    def _update_best(self, values: Mapping[str, float]) -> None:
        """Keep the weights of the epoch with these values, if they are the best; `ManyEpochs` has done so already."""
        if self._best.update(values) and self.weights_of_epoch is None:
            self._network.backend.copy(self._state.measured_state, self._state.best_state)

    def _watched(self, own: Mapping[str, float], values: Mapping[str, float]) -> dict[str, float]:
        """Return the value of a callback that early stopping watches, by its name: that of rank 0.

        Raises:
            DataError: if no callback returned it.
        """
        name = self._best.name
        value = self._plan.world.gathered(own.get(name))[0]
        if value is None:
            raise DataError(
                f"early stopping cannot monitor {name!r}, which no callback returned after the epoch; valid names: "
                f"{', '.join([*values, *own])}"
            )
        return {name: value}

    def _end(self) -> None:
        """Check the final loss, and restore the best weights if they must be kept."""
        network = self._network
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
        if self._continued is not None:
            self._continued.restore(state.step)
        if self._checkpoints is not None:
            self._checkpoints.begin(state)
        return 0

    def _last_epoch(self) -> int:
        """Return the last epoch to train, counted from 1; 0 if the resumed run had already ended."""
        if self.history.stopped_by not in ("epochs", "interrupted"):
            return 0
        self.history.stopped_by = "epochs"
        return self._plan.epochs

    def _allowance(self, state: RunState, batches_done: int) -> int:
        """Save a checkpoint if one is due; return how many batches may run before the next call."""
        self._step_ended(batches_done)
        is_last = self._interruption.requested or self._is_stopped_at_step
        is_time = self._checkpoints is not None and self._checkpoints.is_time
        if self._plan.world.size > 1:
            requests = self._plan.world.gathered((is_last, is_time, self._is_stopped_at_step))
            is_last, is_time = any(ends for ends, *_ in requests), requests[0][1]
            if any(stops for *_, stops in requests):
                self._is_stopped_at_step, self.history.stopped_by = True, "callback"
        allowed = state.step.epoch.batches
        self._calls.look(self.history.epochs, batches_done, allowed, self._plan.rows)
        if self._checkpoints is not None:
            allowed = self._checkpoints.between_steps(state, batches_done, is_due=is_last or is_time)
        return 0 if is_last else min(allowed, self._calls.steps_allowed(state.steps(batches_done)))

    def _step_ended(self, batches_done: int) -> None:
        """Call the callbacks that hear of steps; one of them may end the training here."""
        if batches_done and self._calls.has_steps:
            was_requested = self.stop_requested
            self._calls.step_ended(self._state.steps(batches_done), partial(self._mean_loss, batches_done))
            if self.stop_requested and not was_requested and batches_done < self._state.step.epoch.batches:
                self._is_stopped_at_step = True
                self.history.stopped_by = "callback"

    def _mean_loss(self, batches_done: int, batches: int) -> float:
        """Return the mean loss of the last ones of ``batches_done`` batches, with the gradient of the last on all
        ranks."""
        step = self._state.step
        step.update.collect_gradient()
        return step.epoch.mean_loss(batches_done, batches)

    def _is_interrupted(self) -> bool:
        """True if a signal asked one of the ranks to end."""
        return any(self._plan.world.gathered(self._interruption.requested))

    def _agreed(self, epoch: int, values: dict[str, float]) -> bool:
        """Agree with the other ranks on whether training stops here; return True if one of them was interrupted.

        Raises:
            RankError: if the values of the epoch differ, so that the weights of the ranks do.
        """
        is_interrupted, world = self._interruption.requested, self._plan.world
        if world.size > 1:
            said = world.gathered((repr(values), is_interrupted, self.stop_requested))
            first, *_ = said[0]
            if (other := next((rank for rank, (of, *_) in enumerate(said) if of != first), None)) is not None:
                raise RankError(
                    f"epoch {epoch} on rank {other} is not that of rank 0: {said[other][0]}, and there {first}. All "
                    "ranks must compute the same, on processors of one kind"
                )
            is_interrupted = any(interrupted for _, interrupted, _ in said)
            self.stop_requested = any(stops for *_, stops in said)
        return is_interrupted

    def _reason_to_stop(self, values: dict[str, float], is_interrupted: bool) -> str | None:
        if self._convergence is not None:  # every epoch, so that a resumed run can derive it from the history
            self._convergence.update(values)
        if is_interrupted:
            return "interrupted"
        if self._early_stopping is not None and self._best.epochs_since >= self._early_stopping.patience:
            return "early stopping"
        if self._convergence is not None and self._convergence.epochs_since >= CONVERGENCE_EPOCHS:
            return "converged"
        return "callback" if self.stop_requested else None

    def _has_bad_weights(self) -> bool:
        """True if the bad step found weights that are not finite; all ranks then have them.

        If the loss of one rank was not finite, that rank has left its weights unchanged, and the others get them.
        """
        network, world = self._network, self._plan.world
        is_bad = world.gathered(non_finite_parameter(network) is not None)
        if world.size > 1 and not all(is_bad):
            world.broadcast_(network.state, root=is_bad.index(False))
        return all(is_bad)

    def _diverge(self, epoch: int, bad_step: int) -> None:
        """Record the divergence: a step of the epoch had a non-finite loss, or non-finite weights. Find out where it
        began."""
        objective, plan, step = self._objective, self._plan, self._state.step
        training, update = step.epoch, step.update
        update.put_back()
        before = (epoch - 1) * training.batches + (0 if self._continued is None else self._continued.steps)
        has_bad_weights = self._has_bad_weights()
        if has_bad_weights:  # the step before has made them so
            bad_step = max(bad_step - 1, before + 1)
        first = (bad_step - before - 1) * plan.batch_size
        origin = origin_of_divergence(
            objective.network,
            objective.layers,
            plan.data,
            epoch=self._first_epoch + epoch - 1,
            positions=range(first, min(first + plan.batch_size, plan.rows), -(-plan.batch_size // plan.parts)),
            step=bad_step,
            rows=plan.rows,
            shuffle=plan.shuffle,
        )
        remedy = advice_against_long_steps(objective, plan.data, float(update.learning_rates.current.max()))
        in_epoch = bad_step - before
        kept = f"those of epoch {self._best.epoch}" if self._best.epoch else "those from before training"
        self.diverged = DivergedError(
            f"{'a weight' if has_bad_weights else 'the loss'} became NaN or infinite in epoch {epoch}, at step "
            f"{in_epoch} of {training.batches}; the network has its best weights, {kept}. Cause: {origin}. {remedy}",
            epoch=epoch,
            step=in_epoch,
        )
        self.history.stopped_by = "diverged"
