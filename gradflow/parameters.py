"""`ParameterVectors`: all parameters and buffers of a network in flat vectors, of which its layers have views."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.data.frames import check_unmasked
from gradflow.errors import DataError, shown, unknown_name
from gradflow.initializers import initial_weight
from gradflow.layers import ParameterSpec
from gradflow.layers.base import BufferSpec
from gradflow.ops import Array
from gradflow.random import WEIGHT_STREAM, RandomNumbers


class ParameterVectors:
    """The vectors: trained parameters that are decayed, others that are trained, frozen ones, buffers.

    One number thus tells an optimizer where the decayed ones end, and frozen parameters are outside the range that
    gradients, optimizer, penalties and averages work on.

    Args:
        backend: the backend.
        dtype: the dtype.
        parameters, buffers: their shapes by name, such as "0.weight".
        frozen: indices of frozen layers.

    Attributes:
        state: all vectors in one.
        gradients: gradients of all parameters, those of frozen ones included.
        views, d_views: views of parameters and buffers, and of the gradients, by name.
        ranges: start and end of each trained parameter, by name.
        n_parameters, n_decayed, n_all: numbers of trained, of decayed, and of all parameters.

    Raises:
        DataError: if they cannot be allocated.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        dtype: np.dtype,
        parameters: Mapping[str, ParameterSpec],
        buffers: Mapping[str, BufferSpec],
        frozen: Collection[int] = (),
    ) -> None:
        self._backend, self._dtype = backend, dtype
        self._parameters, self._buffers = parameters, buffers
        self.specs: dict[str, ParameterSpec | BufferSpec] = {**parameters, **buffers}
        held = [name for name in parameters if int(name.partition(".")[0]) in frozen]
        trained = [name for name in parameters if name not in held]
        trained.sort(key=lambda name: not parameters[name].decayed)
        sizes = {name: math.prod(self.specs[name].shape) for name in (*trained, *held, *buffers)}
        self.n_parameters = sum(sizes[name] for name in trained)
        self.n_decayed = sum(sizes[name] for name in trained if parameters[name].decayed)
        self.n_all = sum(sizes[name] for name in parameters)
        ends = itertools.accumulate(sizes.values())
        self._ranges = {name: (end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}
        self.ranges = {name: self._ranges[name] for name in trained}
        self._take(self._zeros(sum(sizes.values())), self._zeros(self.n_all))

    def _take(self, state: Array, gradients: Array) -> None:
        """Use these vectors."""
        self.state, self.gradients = state, gradients

        def views(flat: Array, names: Iterable[str]) -> dict[str, Array]:
            return {name: flat[slice(*self._ranges[name])].reshape(self.specs[name].shape) for name in names}

        self.views = views(state, self.specs)
        self.d_views = views(gradients, self._parameters)

    @property
    def n_bytes(self) -> int:
        """The memory that `moved` needs."""
        return _whole_lines(self.state.nbytes) + int(self.gradients.nbytes)

    def moved(self, memory: Array) -> Self:
        """Return the same vectors, with their contents, in memory of the backend: uint8 (`n_bytes`,)."""
        twin, begin = copy.copy(self), _whole_lines(self.state.nbytes)
        twin._take(
            memory[: self.state.nbytes].view(self._dtype),
            memory[begin : begin + self.gradients.nbytes].view(self._dtype),
        )
        self.copy_to(twin)
        return twin

    def copy_to(self, other: ParameterVectors) -> None:
        """Copy the contents into other vectors of the same network."""
        self._backend.copy(self.state, other.state)
        self._backend.copy(self.gradients, other.gradients)

    def _zeros(self, size: int) -> Array:
        try:
            return self._backend.zeros(size, self._dtype)
        except (MemoryError, ValueError) as error:  # NumPy raises ValueError for sizes beyond the address space
            gib = size * self._dtype.itemsize / 2**30
            raise DataError(
                f"a network of {size:.3g} parameters takes {gib:.1f} GiB, and as much again for the gradients, which "
                "cannot be allocated here; make its layers narrower"
            ) from error

    def initialize(self, seed: int) -> None:
        """Set the initial parameters and buffers, one at a time, since in float64 they are twice as large."""
        for name, buffer in self._buffers.items():
            self.set(name, np.full(buffer.shape, buffer.initial))
        for number, (name, spec) in enumerate(self._parameters.items()):
            assert spec.initializer is not None
            random = RandomNumbers(seed, WEIGHT_STREAM + number)
            self.set(name, initial_weight(spec.initializer, spec.shape, random))

    def set(self, name: str, array: np.ndarray) -> None:
        """Set a parameter or buffer from an array on the host."""
        converted = converted_weight(name, array, self._dtype)
        self._backend.copy(self._backend.from_host(converted), self.views[name])
        self._backend.to_caller(self.views[name])

    def check(self, weights: Any, *, partial: bool) -> dict[str, np.ndarray]:
        """Return weights by name as NumPy arrays, after checking names, shapes and values (`check_weights`)."""
        arrays = check_weights(weights, self.specs, partial=partial)
        for name, array in arrays.items():
            converted_weight(name, array, self._dtype)
            spec = self.specs[name]
            if isinstance(spec, BufferSpec) and (array < spec.least).any():
                raise DataError(f"weight {name!r} must be at least {spec.least:g}, got {array.min():g}")
        return arrays


def _whole_lines(n_bytes: int) -> int:
    """Return the bytes of as many lines of the cache, of 128 bytes, as hold so many."""
    return -(-n_bytes // 128) * 128


def converted_weight(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a weight in a dtype.

    Raises:
        DataError: if it is not finite in the dtype.
    """
    with np.errstate(over="ignore", under="ignore"):
        converted = array.astype(dtype, copy=False)
    if not np.isfinite(converted).all():
        raise DataError(f"weight {name!r} holds values that are NaN, infinite or too large for {dtype}")
    return converted


def check_weights(
    weights: Any, specs: Mapping[str, ParameterSpec | BufferSpec], *, partial: bool = False
) -> dict[str, np.ndarray]:
    """Return weights as NumPy arrays after checking names and shapes.

    Raises:
        DataError: if a name is missing or unknown, or a shape does not fit.
    """
    if not isinstance(weights, Mapping):
        raise DataError(f"weights must be a dict of arrays, as network.get_weights() returns it, got {shown(weights)}")
    if unknown := sorted(map(str, weights.keys() - specs.keys())):
        raise unknown_name("weight", unknown[0], specs)
    missing = sorted(specs.keys() - weights.keys())
    if missing and not partial:
        raise DataError(f"weights are missing: {', '.join(missing)}; set_weights(..., partial=True) leaves them alone")
    return {name: _checked_weight(name, weights[name], spec.shape) for name, spec in specs.items() if name in weights}


def _checked_weight(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    check_unmasked(f"weight {name!r}", value)
    expected = f"weight {name!r} must hold numbers of shape {shape}"
    try:
        array = np.asarray(value.get() if hasattr(value, "__cuda_array_interface__") else value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{expected}, got {shown(value)}") from error
    if array.dtype.kind not in "fiu" or array.shape != shape:
        raise DataError(f"{expected}, got {array.dtype} {array.shape}")
    return array
