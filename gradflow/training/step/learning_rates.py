"""Learning rates of the steps, on the device."""

from __future__ import annotations

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.clock import advance, advance_scheduled
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.ops import Array
from gradflow.schedules import ConstantSchedule, Schedule
from gradflow.schedules.base import EpochValues


class LearningRates:
    """Writes the learning rate into the hyperparameters that the optimizer's op reads.

    A constant rate is written once. For other schedules, the rates of an epoch are copied to the device when it begins,
    and the op that advances the clock selects the next one.

    Args:
        backend: the backend.
        schedule: the learning rate over time.
        hyper: the hyperparameters on the device (kernels/optimizers/update.h).
        epochs: number of epochs of the training.
        steps: steps per epoch.

    Attributes:
        current: the rates of the current epoch, on the host: float64 (steps,).
    """

    current: np.ndarray

    def __init__(self, backend: ReferenceBackend, schedule: Schedule, hyper: Array, *, epochs: int, steps: int) -> None:
        self._backend = backend
        self._schedule = schedule
        self._hyper = hyper
        self._epochs = epochs
        self._table: Array | None = None
        if type(schedule) is ConstantSchedule:  # a subclass may override the rates
            self._write(np.full(steps, schedule.learning_rate))
        else:
            self._table = backend.empty(steps, np.float64)

    @property
    def is_scheduled(self) -> bool:
        """True if the rate changes during training."""
        return self._table is not None

    def begin_epoch(self, epoch: int, history: EpochValues, steps_done: int = 0) -> None:
        """Write the rates of an epoch, counted from 0; ``history`` holds the values of the epochs before it.

        When an epoch is resumed, ``steps_done`` of its steps have already run.
        """
        if self._table is not None:
            times = epoch + np.arange(len(self._table)) / len(self._table)
            self._write(self._rates(times, history), steps_done)

    def _rates(self, times: np.ndarray, history: EpochValues) -> np.ndarray:
        """Return the rates of an epoch, after validating them."""
        rates = np.asarray(self._schedule.rates(times, self._epochs, history))
        if rates.dtype.kind not in "fiu" or rates.shape != times.shape:
            raise DataError(
                f"rates(times, epochs, history) of {self._schedule!r} must return a number for each of {len(times)} "
                f"steps, an array of shape {times.shape}, got {rates.dtype} {rates.shape}"
            )
        if not (np.isfinite(rates) & (rates >= 0)).all():
            raise DataError(f"{self._schedule!r} must return finite rates, at least 0, got {rates.min():g}")
        return rates.astype(np.float64, copy=False)

    def _write(self, rates: np.ndarray, steps_done: int = 0) -> None:
        self.current = rates
        on_device = self._backend.from_host(rates)
        self._backend.copy(on_device[steps_done : steps_done + 1], self._hyper[:1])
        if self._table is not None:
            self._backend.copy(on_device, self._table)

    def record_advance(self, ops: Executor, rows: int, epoch_rows: int) -> None:
        """Record advancing the clock, and with it the learning rate, after a step with ``rows`` rows."""
        if self._table is None:
            ops(advance, ops.clock, rows, epoch_rows)
        else:
            ops(advance_scheduled, ops.clock, self._table, self._hyper, rows, epoch_rows)
