"""Precisions other than that of a network's own arrays: TF32 matmuls, or 16 bits next to float32 weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradflow.backends.cuda.epilogues import TF32 as TF32_GEMM
from gradflow.backends.fusion import Call
from gradflow.backends.reference import ReferenceBackend
from gradflow.checks import known_name
from gradflow.errors import DataError
from gradflow.executors import Eager, Executor
from gradflow.layers import Layer, MeanOfMembers
from gradflow.layers.dense import add_bias, gemm
from gradflow.layers.recording import record_method
from gradflow.layers.stack import all_recorded, record_inference
from gradflow.ops import Array, Op, copy
from gradflow.schedules import Scheduled

_gemm_tf32 = gemm._replace(name=TF32_GEMM)


class PassPrecision:
    """Base class of the precisions: changes the calls of a pass through the layers.

    Args:
        backend: the backend.
        parameters: all parameters of the network, in one vector.
    """

    def __init__(self, backend: ReferenceBackend, parameters: Array) -> None:
        self._backend = backend
        self._parameters = parameters

    def refresh(self) -> None:
        """Pick up changes to the weights that the optimizer did not make."""

    def record_inference(self, ops: Executor, layers: Sequence[Layer], x: Array) -> Array:
        """Record the prediction forward pass in this precision (`gradflow.layers.stack.record_inference`); the output
        has the network's own dtype."""
        return record_inference(self.adapted(ops), layers, x)

    def adapted(self, ops: Executor) -> Executor:
        """Return an executor that changes calls before it passes them on."""
        return Adapted(ops, self.changed)

    def changed(self, op: Op, arguments: dict[str, Any]) -> Call:
        """Return the call that takes the place of one in the forward and backward pass."""
        return op, arguments


class TF32(PassPrecision):
    """float32 arrays, and matmuls with factors rounded to 10 mantissa bits and float32 accumulation."""

    def changed(self, op: Op, arguments: dict[str, Any]) -> Call:
        return (_gemm_tf32 if op is gemm else op), arguments


class BFloat16(PassPrecision):
    """Activations, and the weights in matmuls, are in 16 bits; matmuls accumulate in float32.

    Attributes:
        dtype: the type of 16 bits.
        copies: all parameters in it.
    """

    dtype_name = "bfloat16"

    def __init__(self, backend: ReferenceBackend, parameters: Array) -> None:
        super().__init__(backend, parameters)
        self.dtype = _dtype(self.dtype_name)
        self.copies = backend.empty(parameters.size, self.dtype)

    def refresh(self) -> None:
        Eager(self._backend)(copy, self._parameters, self.copies)

    def record_inference(self, ops: Executor, layers: Sequence[Layer], x: Array) -> Array:
        *before, last = layers
        averages = isinstance(last, MeanOfMembers)  # sums over members keep their digits
        outputs = super().record_inference(ops, before if averages else layers, copied(ops, x, self.dtype))
        outputs = copied(ops, outputs, self._parameters.dtype)
        return record_inference(ops, [last], outputs) if averages else outputs

    def changed(self, op: Op, arguments: dict[str, Any]) -> Call:
        if op not in (gemm, add_bias):
            return op, arguments
        return op, {name: self._copy_of(value) for name, value in arguments.items()}

    def _copy_of(self, array: Any) -> Any:
        """Return the 16-bit copy of a part of the network's parameters; any other array unchanged."""
        parameters = self._parameters
        if not isinstance(array, type(parameters)) or array.dtype != parameters.dtype:
            return array
        first = (_address(array) - _address(parameters)) // parameters.itemsize
        if not 0 <= first < parameters.size:
            return array
        return self.copies[first : first + array.size].reshape(array.shape)


class Float16(BFloat16):
    """Like `BFloat16`, but in float16."""

    dtype_name = "float16"


class Adapted:
    """An executor that modifies calls before passing them to another one."""

    def __init__(self, ops: Executor, change: Callable[[Op, dict[str, Any]], Call]) -> None:
        self.backend = ops.backend
        self._ops = ops
        self._change = change

    @property
    def has_part_of_batch(self) -> bool:
        """True if other ranks compute other rows of the same batch."""
        return self._ops.has_part_of_batch

    @property
    def clock(self) -> Array:
        """The clock of the training run."""
        return self._ops.clock

    def value(self, of: Scheduled) -> Array:
        """Return a number that may be scheduled, on the device."""
        return self._ops.value(of)

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        changed, arguments = self._change(op, op.arguments(*args, **kwargs))
        self._ops(changed, **arguments)

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        if recorded:
            record_method(self, method, *args)
        else:
            self._ops.record(method, *args, recorded=False)


PRECISIONS: dict[str, type[PassPrecision] | None] = {
    "float32": None,
    "tf32": TF32,
    "bfloat16": BFloat16,
    "float16": Float16,
}
"""All precisions, by the name that the trainer accepts; None for that of the network's own arrays."""


def check_precision(name: str, backend: ReferenceBackend, dtype: np.dtype, layers: Sequence[Layer]) -> str:
    """Return the name if layers of this type can be run in this precision here.

    Raises:
        DataError: for an unknown name, a float64 network, or a layer that does its own array math and needs float32.
        BackendError: if the backend or its device does not support the precision.
    """
    known_name("precision", name, PRECISIONS)
    if name == "float32":
        return name
    if dtype != np.float32:
        raise DataError(f"precision={name!r} is for float32 networks, but this one is {dtype}; omit it")
    backend.check_precision(name)
    if name in ("bfloat16", "float16"):
        if layers[0].first_only:
            raise DataError(
                f"precision={name!r}: {type(layers[0]).__name__} reads category numbers, which 16 bits do not hold "
                "exactly; use 'float32' or 'tf32'"
            )
        for index, layer in enumerate(layers):
            if not all_recorded([layer]):
                raise DataError(
                    f"precision={name!r}: layer {index}, {layer!r}, does its own array math instead of calling ops, "
                    "which 16-bit precision does not support; use 'float32' or 'tf32'"
                )
    return name


def copied(ops: Executor, array: Array, dtype: Any) -> Array:
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
