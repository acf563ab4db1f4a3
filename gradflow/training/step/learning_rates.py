"""Learning rates and other scheduled values of the steps, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.clock import advance, advance_scheduled
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.ops import Array
from gradflow.optimizers import Optimizer
from gradflow.optimizers.base import LEARNING_RATE
from gradflow.schedules import ConstantSchedule, Schedule
from gradflow.schedules.base import EpochValues


class ScheduledValue(NamedTuple):
    """A number that changes during training.

    Attributes:
        name: its name, for errors.
        schedule: its values over time.
        is_fraction: True if it must be below 1.
    """

    name: str
    schedule: Schedule
    is_fraction: bool = False


class LearningRates:
    """Writes learning rate, weight decay and other scheduled values into a vector that ops read.

    The vector holds the values of layers and loss, followed by the hyperparameters, whose first ones are learning rate
    and weight decay. Constant ones are written once. If any value is scheduled, those of an epoch are copied to the
    device when it begins, and the op that advances the clock selects the next ones.

    Args:
        backend: the backend.
        optimizer: has the schedules of learning rate and weight decay.
        others: the scheduled values of layers and loss.
        hyper: the hyperparameters (kernels/optimizers/update.h), float64, on the host.
        epochs: number of epochs of the training.
        steps: steps per epoch.

    Attributes:
        current: the learning rates of the current epoch, on the host: float64 (steps,).
        hyper: the hyperparameters on the device.
        values: the values of layers and loss on the device, float64 (1,) each, by the id of the schedule.
        is_scheduled: True if the learning rate changes during training.
    """

    current: np.ndarray

    def __init__(
        self,
        backend: ReferenceBackend,
        optimizer: Optimizer,
        others: Sequence[ScheduledValue],
        hyper: np.ndarray,
        *,
        epochs: int,
        steps: int,
    ) -> None:
        self._backend = backend
        self._epochs, self._steps = epochs, steps
        self._columns = [*others, ScheduledValue("learning rate", optimizer.schedule)]
        if isinstance(optimizer.weight_decay, Schedule):
            self._columns.append(ScheduledValue("weight_decay", optimizer.weight_decay))
        self._vector = backend.from_host(np.concatenate([np.zeros(len(others)), hyper]))
        self.hyper = self._vector[len(others) :]
        self.values = {id(value.schedule): self._vector[place : place + 1] for place, value in enumerate(others)}
        self._rate_column = len(others) + LEARNING_RATE
        self.is_scheduled = type(optimizer.schedule) is not ConstantSchedule  # a subclass may override the rates
        self._table: Array | None = None
        if self.is_scheduled or len(self._columns) > 1:
            self._table = backend.empty((steps, len(self._columns)), np.float64)
        else:
            self._write(self._values(np.zeros(steps), {}))

    @property
    def has_schedule(self) -> bool:
        """True if any value is scheduled."""
        return self._table is not None

    def begin_epoch(self, epoch: int, history: EpochValues, steps_done: int = 0) -> None:
        """Write the values of an epoch, counted from 0; ``history`` holds the values of the epochs before it.

        When an epoch is resumed, ``steps_done`` of its steps have already run.
        """
        if self._table is not None:
            self._write(self._values(epoch + np.arange(self._steps) / self._steps, history), steps_done)

    def _values(self, times: np.ndarray, history: EpochValues) -> np.ndarray:
        """Return the values of an epoch, (steps, columns), after validating them."""
        columns = np.empty((len(times), len(self._columns)))
        for place, (name, schedule, is_fraction) in enumerate(self._columns):
            values = np.asarray(schedule.rates(times, self._epochs, history))
            if values.dtype.kind not in "fiu" or values.shape != times.shape:
                raise DataError(
                    f"rates(times, epochs, history) of {schedule!r} must return a number for each of {len(times)} "
                    f"steps, an array of shape {times.shape}, got {values.dtype} {values.shape}"
                )
            if not (np.isfinite(values) & (values >= 0)).all():
                raise DataError(f"{schedule!r} must return finite rates, at least 0, got {values.min():g}")
            if is_fraction and (values >= 1).any():
                raise DataError(f"{name} must be below 1, but {schedule!r} returns {values.max():g}")
            columns[:, place] = values
        return columns

    def _write(self, values: np.ndarray, steps_done: int = 0) -> None:
        self.current = values[:, self._rate_column]
        on_device = self._backend.from_host(values)
        self._backend.copy(on_device[steps_done], self._vector[: values.shape[1]])
        if self._table is not None:
            self._backend.copy(on_device, self._table)

    def record_advance(self, ops: Executor, rows: int, epoch_rows: int) -> None:
        """Record advancing the clock, and with it the scheduled values, after a step with ``rows`` rows."""
        if self._table is None:
            ops(advance, ops.clock, rows, epoch_rows)
        else:
            ops(advance_scheduled, ops.clock, self._table, self._vector, rows, epoch_rows)
