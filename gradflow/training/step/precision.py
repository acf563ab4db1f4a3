"""Precisions of a training step: float32, TF32 matmuls, or 16 bits with float32 weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradflow.backends.cuda.epilogues import TF32 as TF32_PRODUCT
from gradflow.backends.fusion import Call
from gradflow.checks import known_name
from gradflow.errors import DataError
from gradflow.executors import Eager, Executor
from gradflow.layers.dense import add_bias, gemm
from gradflow.layers.recording import record_method
from gradflow.layers.stack import all_recorded
from gradflow.network import Sequential
from gradflow.ops import Array, Op, copy
from gradflow.optimizers.loss_scaling import LossScaling, check_scaling, scaled_copy

__all__ = ["PRECISIONS", "Precision", "check_precision", "make_precision"]


_gemm_tf32 = gemm._replace(name=TF32_PRODUCT)


class Precision:
    """The network's own dtype throughout. Other precisions override what they change."""

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

    def begin_epoch(self) -> None:
        """Pick up changes that callbacks made to the weights between two epochs."""

    def executor(self, ops: Executor) -> Executor:
        """Return the executor through which layers call ops."""
        return ops

    def inputs(self, ops: Executor, x: Array) -> Array:
        """Return the input of the first layer for the inputs of a batch."""
        return x

    def outputs(self, ops: Executor, outputs: Array) -> Array:
        """Return the input of the loss for the output of the last layer."""
        return outputs

    def d_outputs(self, ops: Executor, d_outputs: Array) -> Array:
        """Return the gradient that the last layer receives for dL/doutputs."""
        return d_outputs

    def before_update(self, ops: Executor) -> Array:
        """Record the ops before the optimizer; return the clock that it reads."""
        return self._network.status.clock

    def after_update(self, ops: Executor) -> None:
        """Record the ops after the optimizer."""


class TF32(Precision):
    """float32 arrays, and matmuls with factors rounded to 10 mantissa bits and float32 accumulation."""

    def executor(self, ops: Executor) -> Executor:
        return _Adapted(ops, lambda op, arguments: (_gemm_tf32 if op is gemm else op, arguments))


class BFloat16(Precision):
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

    def begin_epoch(self) -> None:
        Eager(self._network.backend)(copy, self._network.all_parameters, self._copies)

    def executor(self, ops: Executor) -> Executor:
        def with_copies(op: Op, arguments: dict[str, Any]) -> Call:
            if op not in (gemm, add_bias):
                return op, arguments
            return op, {name: self._copy_of(value) for name, value in arguments.items()}

        return _Adapted(ops, with_copies)

    def _copy_of(self, array: Any) -> Any:
        """Return the 16-bit copy of a part of the network's parameters; any other array unchanged."""
        parameters = self._network.all_parameters
        if not isinstance(array, type(parameters)) or array.dtype != parameters.dtype:
            return array
        first = (_address(array) - _address(parameters)) // parameters.itemsize
        if not 0 <= first < parameters.size:
            return array
        return self._copies[first : first + array.size].reshape(array.shape)

    def inputs(self, ops: Executor, x: Array) -> Array:
        return self._copied(ops, x, self._dtype)

    def outputs(self, ops: Executor, outputs: Array) -> Array:
        return self._copied(ops, outputs, self._network.dtype)

    def d_outputs(self, ops: Executor, d_outputs: Array) -> Array:
        return self._copied(ops, d_outputs, self._dtype)

    def _copied(self, ops: Executor, array: Array, dtype: Any) -> Array:
        target = ops.backend.empty(array.shape, dtype)
        ops(copy, array, target)
        return target

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

    def d_outputs(self, ops: Executor, d_outputs: Array) -> Array:
        target = ops.backend.empty(d_outputs.shape, self._dtype)
        ops(scaled_copy, d_outputs, self._loss_scaling.scaling, target)
        return target

    def before_update(self, ops: Executor) -> Array:
        self._loss_scaling.record(ops, self._network.gradients, self._network.status.clock)
        return self._loss_scaling.update_clock


class _Adapted:
    """An executor that modifies calls before passing them to another one."""

    def __init__(self, ops: Executor, change: Callable[[Op, dict[str, Any]], Call]) -> None:
        self.backend = ops.backend
        self._ops = ops
        self._change = change

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        changed, arguments = self._change(op, op.arguments(*args, **kwargs))
        self._ops(changed, **arguments)

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        if recorded:
            record_method(self, method, *args)
        else:
            self._ops.record(method, *args, recorded=False)


PRECISIONS: dict[str, type[Precision]] = {
    "float32": Precision,
    "tf32": TF32,
    "bfloat16": BFloat16,
    "float16": Float16,
}
"""All precisions, by the name that the trainer accepts."""


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
        raise DataError(f"precision={name!r} is for float32 networks, and this one is {network.dtype}; leave it out")
    network.backend.check_precision(name)
    if issubclass(PRECISIONS[name], BFloat16):
        for index, layer in enumerate(network.layers):
            if not all_recorded([layer]):
                raise DataError(
                    f"precision={name!r}: layer {index}, {layer!r}, computes by itself instead of calling ops, and "
                    "16-bit arrays are not for that; take 'float32' or 'tf32'"
                )
    return name


def make_precision(name: str, network: Sequential) -> Precision:
    """Create the precision with this name, and allocate its arrays."""
    return PRECISIONS[name](network)


def _dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        importlib.import_module("ml_dtypes")  # registers the name with NumPy
    return np.dtype(name)


def _address(array: Array) -> int:
    address: int = array.__cuda_array_interface__["data"][0]
    return address
