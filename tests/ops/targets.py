"""Targets to compare with the definitions: the backends, and the kernels as compiled by the C compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from gradflow.backends import get_backend
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import INSTRUCTIONS, NativeLibrary, native_library
from gradflow.backends.reference import ReferenceBackend
from gradflow.ops import OPS, Array, Op
from tests.kernels.c_library import COMPILER, run_kernel

_GUARD_BYTES = 64
_GUARD = 0x5A


class GuardedArray:
    """An array inside a larger buffer whose ends reveal writes outside the array.

    It starts 64 bytes after the start of the buffer, or one element after it if it must be misaligned.
    """

    def __init__(self, backend: ReferenceBackend, array: np.ndarray, *, misaligned: bool) -> None:
        self._backend = backend
        self._first = array.itemsize if misaligned else _GUARD_BYTES
        self._size = array.nbytes
        buffer = np.full(self._first + self._size + _GUARD_BYTES, _GUARD, np.uint8)
        buffer[self._first : self._first + self._size] = np.frombuffer(array.tobytes(), np.uint8)
        self._buffer = backend.from_host(buffer)
        inside = self._buffer[self._first : self._first + self._size]
        self.array: Array = inside.view(array.dtype).reshape(array.shape)

    def read(self) -> np.ndarray:
        """Return the array's contents after checking that nothing was written around it."""
        buffer = self._backend.to_host(self._buffer)
        outside = np.concatenate([buffer[: self._first], buffer[self._first + self._size :]])
        np.testing.assert_array_equal(outside, _GUARD, "written outside the array")
        inside = np.frombuffer(buffer[self._first : self._first + self._size].tobytes(), self.array.dtype)
        return inside.reshape(self.array.shape)


class BackendTarget:
    """A backend."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self.backend = backend

    def run(self, op: Op, arguments: dict[str, Any]) -> None:
        with self.backend.running():
            self.backend.bind(op, arguments)()

    def run_fused(self, activation: Op, arguments: dict[str, Any], config: Mapping[str, float]) -> None:
        in_place = {"x": arguments["y"], "y": arguments["y"], **config}
        calls = self.backend.bind_all([(OPS["add_bias"], arguments), (activation, in_place)])
        assert len(calls) == 1
        with self.backend.running():
            calls[0]()


class BlockTarget(BackendTarget):
    """The kernels of the GPU, run by one thread block."""

    def __init__(self) -> None:
        super().__init__(get_backend("cupy"))

    def run(self, op: Op, arguments: dict[str, Any]) -> None:
        self.backend.block_programs([[(op, arguments)]]).run([[(0, 1)]])

    def run_fused(self, activation: Op, arguments: dict[str, Any], config: Mapping[str, float]) -> None:
        in_place = {"x": arguments["y"], "y": arguments["y"], **config}
        self.backend.block_programs([[(OPS["add_bias"], arguments), (activation, in_place)]]).run([[(0, 1)]])


class CTarget:
    """The kernels compiled by the C compiler, each run over its range in three parts."""

    def __init__(self) -> None:
        if COMPILER is None:
            pytest.skip("there is no C compiler")
        self.backend = get_backend("reference")

    def run(self, op: Op, arguments: dict[str, Any]) -> None:
        run_kernel(op.name, op.sizes(arguments), arguments, cuts=(0.3, 0.6))

    def run_fused(self, activation: Op, arguments: dict[str, Any], config: Mapping[str, float]) -> None:
        sizes = OPS["add_bias"].sizes(arguments)
        run_kernel(f"bias_{activation.name}", sizes, {**arguments, **config}, cuts=(0.5,))


COMPILED_TARGETS = tuple(f"compiled for {instructions}" for instructions in INSTRUCTIONS)
ON_A_GPU = ("cupy", "a thread block")
TARGETS = ("numpy", "c", *COMPILED_TARGETS, *(pytest.param(name, marks=pytest.mark.gpu) for name in ON_A_GPU))
FUSING_TARGETS = TARGETS[1:]


def make_target(name: str) -> BackendTarget | CTarget:
    """Return a target by its name: the numpy backend without compiled kernels, or with those for an instruction set,
    ..."""
    if name == "c":
        return CTarget()
    if name == "numpy":
        return BackendTarget(NumpyBackend(None))
    if name in COMPILED_TARGETS:
        return BackendTarget(NumpyBackend(compiled_for(name.removeprefix("compiled for "))))
    return BlockTarget() if name == "a thread block" else BackendTarget(get_backend(name))


def compiled_for(instructions: str) -> NativeLibrary:
    """Return the compiled kernels for an instruction set; the test skips if they were not built or cannot run."""
    library = native_library()
    if library is None:
        pytest.skip("the C kernels were not built")
    if instructions not in library.supported:
        pytest.skip(f"this processor cannot run the kernels for {instructions}")
    return NativeLibrary(library.path, library.blas, instructions)
