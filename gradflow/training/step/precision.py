"""Precisions of a training step other than that of its arrays: TF32 matmuls, or 16 bits with float32 weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradflow.backends.cuda.epilogues import TF32 as TF32_GEMM
from gradflow.backends.fusion import Call
from gradflow.checks import known_name
from gradflow.errors import BackendError, DataError
from gradflow.executors import Eager, Executor
from gradflow.layers import Layer
from gradflow.layers.dense import add_bias, gemm
from gradflow.layers.recording import record_method
from gradflow.layers.stack import ForwardArrays, all_recorded, record_backward, record_forward, record_inference
from gradflow.losses import Loss
from gradflow.network import Sequential
from gradflow.ops import Array, Op, copy
from gradflow.optimizers.loss_scaling import LossScaling, check_scaling, scaled_copy
from gradflow.training.data.feed import DataSet
from gradflow.training.step.record import Results, record_results, record_step

_gemm_tf32 = gemm._replace(name=TF32_GEMM)


class StepPrecision:
    """Base class of the precisions other than that of the network's own arrays, which need no object."""

    def __init__(self, network: Sequential) -> None:
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

    def refresh(self) -> None:
        """Pick up changes to the weights that the optimizer did not make."""

    def record_inference(self, ops: Executor, layers: Sequence[Layer], x: Array) -> Array:
        """Record the prediction forward pass in this precision (`gradflow.layers.stack.record_inference`); the output
        has the network's own dtype."""
        return record_inference(_Adapted(ops, self._changed), layers, x)

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
        arrays = self._record_gradients(_Adapted(ops, self._changed), layers, loss, batch, results)
        if update is not None:
            update(ops)
        return arrays

    def _record_gradients(
        self, ops: Executor, layers: Sequence[Layer], loss: Loss, batch: DataSet, results: Results
    ) -> ForwardArrays:
        """Record the step up to the gradients, with calls that are changed."""
        return record_step(ops, layers, loss, batch, results)

    def _changed(self, op: Op, arguments: dict[str, Any]) -> Call:
        """Return the call that takes the place of one in the forward and backward pass."""
        return op, arguments

    def before_update(self, ops: Executor) -> Array:
        """Record the ops before the optimizer; return the clock that it reads."""
        return ops.clock

    def after_update(self, ops: Executor) -> None:
        """Record the ops after the optimizer."""


class TF32(StepPrecision):
    """float32 arrays, and matmuls with factors rounded to 10 mantissa bits and float32 accumulation."""

    def _changed(self, op: Op, arguments: dict[str, Any]) -> Call:
        return (_gemm_tf32 if op is gemm else op), arguments


class BFloat16(StepPrecision):
    """Activations, their gradients, and the weights in matmuls are in 16 bits; matmuls accumulate in float32.

    Parameters, their gradients, the optimizer's state and the loss stay in float32. The optimizer writes a 16-bit copy
    of the parameters together with the parameters.
    """

    dtype_name = "bfloat16"

    def __init__(self, network: Sequential) -> None:
        super().__init__(network)
        self._dtype = _dtype(self.dtype_name)
        self._copies = network.backend.empty(network.all_parameters.size, self._dtype)
        self._copies_of_trained = self._copies[: network.n_parameters]

    def refresh(self) -> None:
        Eager(self._network.backend)(copy, self._network.all_parameters, self._copies)

    def record_inference(self, ops: Executor, layers: Sequence[Layer], x: Array) -> Array:
        outputs = super().record_inference(ops, layers, _copied(ops, x, self._dtype))
        return _copied(ops, outputs, self._network.dtype)

    def _record_gradients(
        self, ops: Executor, layers: Sequence[Layer], loss: Loss, batch: DataSet, results: Results
    ) -> ForwardArrays:
        arrays = record_forward(ops, layers, _copied(ops, batch.x, self._dtype))
        outputs = _copied(ops, arrays.outputs[-1], self._network.dtype)
        record_results(ops, loss, outputs, batch, outputs, results)
        record_backward(ops, layers, arrays, self._lowered(ops, outputs))
        return arrays

    def _changed(self, op: Op, arguments: dict[str, Any]) -> Call:
        if op not in (gemm, add_bias):
            return op, arguments
        return op, {name: self._copy_of(value) for name, value in arguments.items()}

    def _copy_of(self, array: Any) -> Any:
        """Return the 16-bit copy of a part of the network's parameters; any other array unchanged."""
        parameters = self._network.all_parameters
        if not isinstance(array, type(parameters)) or array.dtype != parameters.dtype:
            return array
        first = (_address(array) - _address(parameters)) // parameters.itemsize
        if not 0 <= first < parameters.size:
            return array
        return self._copies[first : first + array.size].reshape(array.shape)

    def _lowered(self, ops: Executor, d_outputs: Array) -> Array:
        """Record the conversion of dL/doutputs to 16 bits."""
        return _copied(ops, d_outputs, self._dtype)

    def after_update(self, ops: Executor) -> None:
        ops(copy, self._network.parameters, self._copies_of_trained)


class Float16(BFloat16):
    """Like `BFloat16`, but in float16 and with a scaled loss."""

    dtype_name = "float16"

    def __init__(self, network: Sequential) -> None:
        super().__init__(network)
        self._loss_scaling = LossScaling(network.backend)

    @property
    def vectors(self) -> dict[str, Array]:
        return {"scaling": self._loss_scaling.scaling, "update_clock": self._loss_scaling.update_clock}

    def check_vectors(self, vectors: Mapping[str, np.ndarray], step: int) -> None:
        check_scaling(vectors["scaling"], vectors["update_clock"], step)

    def _lowered(self, ops: Executor, d_outputs: Array) -> Array:
        target = ops.backend.empty(d_outputs.shape, self._dtype)
        ops(scaled_copy, d_outputs, self._loss_scaling.scaling, target)
        return target

    def before_update(self, ops: Executor) -> Array:
        self._loss_scaling.record(ops, self._network.gradients, ops.clock)
        return self._loss_scaling.update_clock

    def after_update(self, ops: Executor) -> None:
        super().after_update(ops)
        self._loss_scaling.record_update(ops, ops.clock)


class _Adapted:
    """An executor that modifies calls before passing them to another one."""

    def __init__(self, ops: Executor, change: Callable[[Op, dict[str, Any]], Call]) -> None:
        self.backend = ops.backend
        self._ops = ops
        self._change = change

    @property
    def clock(self) -> Array:
        """The clock of the training run."""
        return self._ops.clock

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        changed, arguments = self._change(op, op.arguments(*args, **kwargs))
        self._ops(changed, **arguments)

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        if recorded:
            record_method(self, method, *args)
        else:
            self._ops.record(method, *args, recorded=False)


PRECISIONS: dict[str, type[StepPrecision] | None] = {
    "float32": None,
    "tf32": TF32,
    "bfloat16": BFloat16,
    "float16": Float16,
}
"""All precisions, by the name that the trainer accepts; None for that of the network's own arrays."""


def check_precision(name: str, network: Sequential) -> str:
    """Return the name if the network can be trained in this precision here.

    Raises:
        DataError: for an unknown name, a float64 network, or a layer that does its own array math and needs float32.
        BackendError: if the backend or its device does not support the precision.
    """
    known_name("precision", name, PRECISIONS)
    if name == "float32":
        return name
    if network.dtype != np.float32:
        raise DataError(f"precision={name!r} is for float32 networks, but this one is {network.dtype}; omit it")
    network.backend.check_precision(name)
    if name in ("bfloat16", "float16"):
        for index, layer in enumerate(network.layers):
            if not all_recorded([layer]):
                raise DataError(
                    f"precision={name!r}: layer {index}, {layer!r}, does its own array math instead of calling ops, "
                    "which 16-bit precision does not support; use 'float32' or 'tf32'"
                )
    return name


def make_precision(name: str, network: Sequential) -> StepPrecision | None:
    """Create the precision with this name, and allocate its arrays; None for "float32"."""
    kind = PRECISIONS[name]
    return None if kind is None else kind(network)


def inference_precision(network: Sequential) -> StepPrecision | None:
    """Return the precision in which a network predicts; None for that of its arrays, also where its device does not
    support the other one."""
    if network.precision == "float32":
        return None
    try:
        return make_precision(check_precision(network.precision, network), network)
    except (BackendError, DataError):
        return None


def _copied(ops: Executor, array: Array, dtype: Any) -> Array:
    """Record the conversion of an array to another dtype."""
    target = ops.backend.empty(array.shape, dtype)
    ops(copy, array, target)
    return target


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        importlib.import_module("ml_dtypes")  # registers the name with NumPy
    return np.dtype(name)


def _address(array: Array) -> int:
    # On the host where a step is only recorded, to count what it would move.
    interface = array.__array_interface__ if isinstance(array, np.ndarray) else array.__cuda_array_interface__
    address: int = interface["data"][0]
    return address
