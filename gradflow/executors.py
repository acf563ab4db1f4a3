"""Executors: the objects through which layers, losses and optimizers call ops.

`Eager` runs each call immediately; `gradflow.program.Recorder` keeps them for replay. Both run the same bound calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import DataError
from gradflow.ops import NEVER, Array, Op
from gradflow.schedules import Schedule, Scheduled, initial


class Executor(Protocol):
    """The object through which layers, losses and optimizers call ops.

    A layer that contains layers calls their methods with ``record(method, *args, recorded=layer.recorded)``.
    """

    backend: ReferenceBackend

    @property
    def has_part_of_batch(self) -> bool:
        """True if other ranks compute other rows of the same batch."""

    @property
    def clock(self) -> Array:
        """The clock of the training run that the calls belong to (kernels/clock.h), int64 (4,), on the device."""

    def value(self, of: Scheduled) -> Array:
        """Return a number that may be scheduled, float64 (1,), on the device: in a training that of the current step,
        else that of the beginning."""

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None: ...

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None: ...


class Clocked:
    """Base class of executors, with the clock of a training run.

    Args:
        backend: the backend that runs the calls.
        clock: the clock; None for one that stands at the first step.
        values: the current values of schedules on the device, by the id of the schedule; None outside of a training.
    """

    def __init__(
        self, backend: ReferenceBackend, clock: Array | None = None, values: Mapping[int, Array] | None = None
    ) -> None:
        self.backend = backend
        self.has_part_of_batch = False
        self._clock = clock
        self._values = values

    @property
    def clock(self) -> Array:
        """The clock (kernels/clock.h), int64 (4,), on the device."""
        if self._clock is None:
            self._clock = self.backend.from_host(np.array([1, 0, 0, NEVER], np.int64))
        return self._clock

    def value(self, of: Scheduled) -> Array:
        """Return a number that may be scheduled, float64 (1,), on the device.

        Raises:
            DataError: in a training, for a schedule that is no attribute of a layer or of the loss.
        """
        if isinstance(of, Schedule) and self._values is not None:
            if id(of) not in self._values:
                raise DataError(
                    f"keep {of!r} as an attribute of the layer or loss that reads it, so that training finds it"
                )
            return self._values[id(of)]
        return self.backend.from_host(np.array([initial(of)], np.float64))


class Eager(Clocked):
    """Executor that runs each call immediately, for debugging and for layers that are not recorded."""

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        with self.backend.running():
            self.backend.bind(op, op.arguments(*args, **kwargs))()

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        """Run a layer's method immediately; there is no program to record it in."""
        method(self, *args)
