"""The update of the weights at the end of a step, with state vectors that each fit resets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gradflow.distributed import World
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.ops import Array
from gradflow.optimizers import LBFGS
from gradflow.optimizers.accumulation import GradientAccumulation
from gradflow.optimizers.averaging import average_weights
from gradflow.optimizers.base import hyper_vector
from gradflow.optimizers.clipping import GradientClipping
from gradflow.program import Recorder
from gradflow.schedules import initial
from gradflow.schedules.base import EpochValues
from gradflow.sealing import is_of_users, record_sealed
from gradflow.training.step.learning_rates import LearningRates
from gradflow.training.step.objective import Objective
from gradflow.training.step.precision import make_precision
from gradflow.training.step.ranks import SharedUpdate


class Update:
    """The weight update of a step: clipping, optimizer, average of the weights, and learning rates.

    Args:
        objective: the objective.
        epochs: number of epochs of the training.
        steps: steps per epoch.
        world: the ranks that train together; None for one.

    Attributes:
        shared: the update in blocks, one for each rank; None if this rank updates all weights.
        learning_rates: the learning rates on the device.
        precision: the precision of a step; None for that of the network's own arrays.
    """

    def __init__(self, objective: Objective, *, epochs: int, steps: int, world: World | None = None) -> None:
        network, optimizer = objective.network, objective.optimizer
        backend = network.backend
        self._objective = objective
        self._state = {name: backend.zeros(network.n_parameters, network.dtype) for name in optimizer.state}
        # The learning rate comes first; `LearningRates` writes it.
        limit = math.inf if objective.clip_value is None else objective.clip_value
        hyper = hyper_vector(
            optimizer.hyper(),
            weight_decay=initial(optimizer.weight_decay),
            l2=objective.l2,
            l1=objective.l1,
            clip_value=limit,
            factors=optimizer.segments(network.layers, network.parameter_ranges),
        )
        self._optimizer = optimizer.of_network(network.layers, network.parameter_ranges)
        self._gradient_scale = backend.from_host(np.ones(1, network.dtype))
        self._clipping = None
        if objective.clip_norm is not None:
            self._clipping = GradientClipping(backend, network.n_parameters, objective.clip_norm)
        self.learning_rates = LearningRates(
            backend, optimizer, objective.scheduled_values(), hyper, epochs=epochs, steps=steps
        )
        self._hyper = self.learning_rates.hyper
        self.precision = make_precision(objective.precision, network)
        self.shared = None
        if world is not None and SharedUpdate.suits(network, optimizer, world):
            self.shared = SharedUpdate(network, world)
        self._has_begun = False
        self._average: Array | None = None
        if objective.average is not None:
            self._average, self._trained = (backend.empty(network.n_parameters, network.dtype) for _ in range(2))
            for vector in (self._average, self._trained):
                backend.copy(network.parameters, vector)

    @cached_property
    def accumulation(self) -> GradientAccumulation:
        """Accumulates the gradients of the parts of a batch; allocated only if a batch has several parts."""
        network = self._objective.network
        return GradientAccumulation(network.backend, network.n_parameters, network.dtype)

    @property
    def optimizer_state(self) -> dict[str, Array]:
        """State vectors of the optimizer, by name."""
        return self._state

    @property
    def vectors(self) -> dict[str, Array]:
        """State kept between steps, by name."""
        vectors = {**self._state, **(self.precision.vectors if self.precision is not None else {})}
        if self._average is not None:
            vectors |= {"average": self._average, "trained": self._trained}
        return vectors

    @property
    def acts_between_epochs(self) -> bool:
        """True if `begin_epoch` or `end_epoch` do something."""
        return self.learning_rates.has_schedule or self._average is not None or self.precision is not None

    def begin_epoch(self, epoch: int, history: EpochValues, steps_done: int = 0) -> None:
        """Prepare for an epoch, counted from 0; ``history`` holds the values of the epochs before it.

        When an epoch is resumed, ``steps_done`` of its steps have already run.
        """
        self._has_begun = True
        self.learning_rates.begin_epoch(epoch, history, steps_done)
        if not steps_done:
            self.put_back()
        if self.precision is not None:
            self.precision.refresh()

    def collect(self) -> None:
        """Complete gradient and state of the optimizer by the blocks of the other ranks, which must all call it too."""
        self.collect_gradient()
        if self.shared is not None and self._has_begun:
            for vector in self._state.values():
                self.shared.collect(vector)

    def collect_gradient(self) -> None:
        """Complete the gradient by the blocks of the other ranks, which must all call it too."""
        if self.shared is not None and self._has_begun:
            self.shared.collect(self._objective.network.gradients)

    def put_back(self) -> None:
        """Put the trained weights back into the network, in place of their average."""
        if self._average is not None:
            self._objective.network.backend.copy(self._trained, self._objective.network.parameters)

    def end_epoch(self) -> None:
        """Put the average, if there is one, into the network, for evaluation until the next epoch begins."""
        network = self._objective.network
        if self._average is not None:
            network.backend.copy(network.parameters, self._trained)
            network.backend.copy(self._average, network.parameters)
            if self.precision is not None:
                self.precision.refresh()

    def record(self, ops: Executor) -> None:
        """Record the update of the weights."""
        network = self._objective.network
        clock = ops.clock if self.precision is None else self.precision.before_update(ops)
        vectors = network.parameters, network.gradients
        if self._clipping is not None:
            self._clipping.apply(ops, *vectors, self._hyper, self._gradient_scale, network.n_decayed)
        self._record_step(ops, *vectors, self._state, self._hyper, self._gradient_scale, clock, network.n_decayed)
        if self.precision is not None:
            self.precision.after_update(ops)
        self._record_average(ops, clock)

    def record_shared(self, recorder: Recorder, fractions: Sequence[float]) -> None:
        """Record the update in blocks, from the gradient of each rank times its fraction."""
        assert self.shared is not None
        objective = self._objective
        of_optimizer = objective.optimizer, self._state, self._hyper, self._gradient_scale
        self.shared.record(recorder, fractions, *of_optimizer, objective.clip_norm)
        self._record_average(recorder, recorder.clock)

    def _record_average(self, ops: Executor, clock: Array) -> None:
        if self._average is not None:
            ops(average_weights, self._objective.network.parameters, self._average, clock, self._objective.average)

    def _record_step(self, ops: Executor, *arguments: Any) -> None:
        step = self._optimizer.step
        if isinstance(self._optimizer, LBFGS) or not is_of_users(step):
            step(ops, *arguments)
            return
        name = f"{type(self._optimizer).__name__}.step"
        passed = record_sealed(ops, name, step, *arguments, results={"parameters": self._objective.network.parameters})
        for needed, array in (("hyper", self._hyper), ("gradient_scale", self._gradient_scale)):
            if not any(array is other for other in passed):
                raise DataError(
                    f"{name} passes no op its {needed}, so the learning rate, penalties or clipping would have no "
                    "effect; pass it on"
                )
