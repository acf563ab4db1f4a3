"""Training steps in a precision other than that of the network's arrays (`gradflow.precision`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradflow.executors import Executor
from gradflow.layers import Layer, MeanOfMembers
from gradflow.layers.stack import ForwardArrays, record_backward, record_forward, record_inference
from gradflow.losses import Loss
from gradflow.network import Sequential
from gradflow.ops import Array, copy
from gradflow.optimizers.loss_scaling import LossScaling, check_scaling, scaled_copy
from gradflow.precision import TF32, BFloat16, Float16, PassPrecision, copied
from gradflow.training.data.feed import DataSet
from gradflow.training.step.member_losses import record_member_losses
from gradflow.training.step.record import Results, record_results, record_step


class StepPrecision(PassPrecision):
    """Base class of the precisions of a step.

    Args:
        network: the network.
    """

    def __init__(self, network: Sequential) -> None:
        super().__init__(network.backend, network.all_parameters)
        self._network = network

    @property
    def vectors(self) -> dict[str, Array]:
        """State kept between steps, other than copies of the weights, by name."""
        return {}

    def check_vectors(self, vectors: Mapping[str, np.ndarray], step: int) -> None:
        """Raise if vectors from a file are not a valid state after ``step`` steps.

        Raises:
            FileFormatError: naming the vector.
        """

    def record_step(
        self,
        ops: Executor,
        layers: Sequence[Layer],
        loss: Loss,
        batch: DataSet,
        results: Results,
        update: Callable[[Executor], None] | None = None,
    ) -> ForwardArrays:
        """Record a training step in this precision (`gradflow.training.step.record.record_step`)."""
        arrays = self._record_gradients(self.adapted(ops), layers, loss, batch, results)
        if update is not None:
            update(ops)
        return arrays

    def _record_gradients(
        self, ops: Executor, layers: Sequence[Layer], loss: Loss, batch: DataSet, results: Results
    ) -> ForwardArrays:
        """Record the step up to the gradients, with calls that are changed."""
        return record_step(ops, layers, loss, batch, results)

    def before_update(self, ops: Executor) -> Array:
        """Record the ops before the optimizer; return the clock that it reads."""
        return ops.clock

    def after_update(self, ops: Executor) -> None:
        """Record the ops after the optimizer."""


class TF32Step(StepPrecision, TF32):
    """float32 arrays, and matmuls with factors rounded to 10 mantissa bits and float32 accumulation."""


class BFloat16Step(StepPrecision, BFloat16):
    """Activations, their gradients, and the weights in matmuls are in 16 bits; matmuls accumulate in float32.

    Parameters, their gradients, the optimizer's state and the loss stay in float32. The optimizer writes a 16-bit copy
    of the parameters together with the parameters.
    """

    def _record_gradients(
        self, ops: Executor, layers: Sequence[Layer], loss: Loss, batch: DataSet, results: Results
    ) -> ForwardArrays:
        arrays = record_forward(ops, layers, copied(ops, batch.x, self.dtype))
        if isinstance(mean := layers[-1], MeanOfMembers):
            outputs = copied(ops, arrays.inputs[-1], self._network.dtype)
            record_results(ops, loss, prediction := record_inference(ops, [mean], outputs), batch, prediction, results)
            d_outputs = record_member_losses(ops, loss, mean, outputs, batch, results.losses)
            record_backward(ops, layers[:-1], arrays.without_last(), self._lowered(ops, d_outputs))
        else:
            outputs = copied(ops, arrays.outputs[-1], self._network.dtype)
            record_results(ops, loss, outputs, batch, outputs, results)
            record_backward(ops, layers, arrays, self._lowered(ops, outputs))
        return arrays

    def _lowered(self, ops: Executor, d_outputs: Array) -> Array:
        """Record the conversion of dL/doutputs to 16 bits."""
        return copied(ops, d_outputs, self.dtype)

    def after_update(self, ops: Executor) -> None:
        ops(copy, self._network.parameters, self.copies[: self._network.n_parameters])


class Float16Step(BFloat16Step, Float16):
    """Like `BFloat16Step`, but in float16 and with a scaled loss."""

    dtype_name = Float16.dtype_name

    def __init__(self, network: Sequential) -> None:
        super().__init__(network)
        self._loss_scaling = LossScaling(network.backend)

    @property
    def vectors(self) -> dict[str, Array]:
        return {"scaling": self._loss_scaling.scaling, "update_clock": self._loss_scaling.update_clock}

    def check_vectors(self, vectors: Mapping[str, np.ndarray], step: int) -> None:
        check_scaling(vectors["scaling"], vectors["update_clock"], step)

    def _lowered(self, ops: Executor, d_outputs: Array) -> Array:
        target = ops.backend.empty(d_outputs.shape, self.dtype)
        ops(scaled_copy, d_outputs, self._loss_scaling.scaling, target)
        return target

    def before_update(self, ops: Executor) -> Array:
        self._loss_scaling.record(ops, self._network.gradients, ops.clock)
        return self._loss_scaling.update_clock

    def after_update(self, ops: Executor) -> None:
        super().after_update(ops)
        self._loss_scaling.record_update(ops, ops.clock)


_STEPS: dict[str, type[StepPrecision] | None] = {
    "float32": None,
    "tf32": TF32Step,
    "bfloat16": BFloat16Step,
    "float16": Float16Step,
}


def make_precision(name: str, network: Sequential) -> StepPrecision | None:
    """Create the precision with this name, and allocate its arrays; None for "float32"."""
    kind = _STEPS[name]
    return None if kind is None else kind(network)
