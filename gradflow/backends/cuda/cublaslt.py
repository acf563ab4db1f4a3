"""Matmuls by cuBLASLt: planned once for each shape and dtype, and bound to be run many times.

cuBLASLt is column-major and our arrays are row-major, so it sees the transpose of each array: out = op(a) op(b) is
computed as outᵀ = op(b)ᵀ op(a)ᵀ. (Its own row-major order supports few epilogues.)

A bound matmul is a single call that allocates nothing, on an explicit stream and with its own workspace, so it can be
captured in a CUDA graph; `cupy.matmul` cannot.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from cupy.cuda import get_current_stream

from gradflow.backends.cuda.choices import Choices
from gradflow.backends.cuda.cublaslt_library import EPILOGUES, Algorithm, CublasLtError, CublasLtLibrary
from gradflow.backends.cuda.epilogues import EVERY_CLASS, gemm_class, sign_stride
from gradflow.backends.reference import BoundCall
from gradflow.ops import Array

_TRANSPOSED = 1  # CUBLAS_OP_T
_MOST_ALIGNMENT = 16  # bytes: the widest memory access of a kernel


@dataclass(frozen=True)
class _Type:
    """An element type in the terms of cuBLASLt: its cudaDataType, and the cublasComputeType that accumulates it."""

    data: int
    compute: int


_TYPES = {
    "float32": _Type(data=0, compute=68),
    "float64": _Type(data=1, compute=70),
    "float16": _Type(data=2, compute=68),
    "bfloat16": _Type(data=14, compute=68),
}
_COMPUTE_TF32 = 77


class _Problem(NamedTuple):
    """A matmul: everything that cuBLASLt plans it by."""

    shapes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    dtypes: tuple[str, str]
    compute: int
    transposes: tuple[bool, bool]
    epilogue: str
    alignments: tuple[int, ...]
    is_timed: bool = False

    @property
    def precision(self) -> str:
        """The dtype of a and b, or "tf32"."""
        return "tf32" if self.compute == _COMPUTE_TF32 else self.dtypes[0]

    @property
    def class_name(self) -> str:
        """The name of its class (`gemm_class`)."""
        a, _, out = self.shapes
        return gemm_class(self.epilogue, self.precision, out, a[0 if self.transposes[0] else 1])

    @property
    def key(self) -> str:
        """All of it, as a string."""
        return f"{self}: {self.dtypes[1]}, {self.transposes}, {self.alignments}"

    def __str__(self) -> str:
        a, b, out = self.shapes
        return f"{a} and {b} to {out}, {self.precision}, {self.epilogue}"


_Arrays = tuple[Array, Array, Array, Array | None, Array | None]


class _Layouts:
    """Descriptors of the matrices a, b and out, destroyed with this object."""

    def __init__(self, library: CublasLtLibrary, arrays: tuple[Array, Array, Array]) -> None:
        self.made: list[int] = []
        for array in arrays:
            rows, columns = array.shape
            layout = library.matrix_layout(_TYPES[array.dtype.name].data, columns, rows, columns)
            self.made.append(layout)
            # Unlike __del__, this does nothing while the interpreter shuts down.
            weakref.finalize(self, library.destroy_matrix_layout, layout).atexit = False


class _Plan(NamedTuple):
    """The choice for a problem."""

    layouts: _Layouts
    algorithm: Algorithm


class BoundGemm:
    """A matmul bound to its arrays, which it keeps alive: calling it runs it.

    Attributes:
        problem: the problem that it solves; as a string, its shapes, dtype and epilogue.
    """

    def __init__(
        self, library: CublasLtLibrary, description: int, problem: _Problem, arguments: tuple[int, ...], *owners: Any
    ) -> None:
        self._library = library
        self._description = description
        self._arguments = arguments
        self._owners = owners
        self.problem = problem

    def __call__(self) -> None:
        self._library.matmul(*self._arguments, get_current_stream().ptr)

    def __del__(self) -> None:
        self._library.destroy_matmul_desc(self._description)


class CublasLt:
    """The matmuls of one device; they run on the current stream, one at a time.

    Args:
        library: the functions of cuBLASLt.
        workspace: device memory (bytes,) shared by all matmuls, aligned to 256 bytes.
        choices: chooses among the algorithms for a problem.

    Attributes:
        refused: the classes of matmuls that are not used, with the reason.
        unsupported: the matmuls that cuBLASLt has no algorithm for, or none that runs, with the reason it gives.

    Raises:
        CublasLtError: if cuBLASLt cannot be initialized.
    """

    def __init__(self, library: CublasLtLibrary, workspace: Array, choices: Choices) -> None:
        self._library = library
        self._handle = self._library.handle()
        self._workspace = workspace
        self._choices = choices
        self._scalars = {name: np.array([1, 0], name) for name in ("float32", "float64")}
        self._plans: dict[_Problem, _Plan] = {}
        self._given_up: set[_Problem] = set()
        self.refused: dict[str, str] = {}
        self.unsupported: dict[str, str] = {}

    @property
    def version(self) -> int:
        """The version of cuBLASLt, such as 120900."""
        return self._library.version

    def gemm(
        self,
        a: Array,
        b: Array,
        out: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        tf32: bool = False,
        *,
        epilogue: str = "DEFAULT",
        vector: Array | None = None,
        auxiliary: Array | None = None,
        is_timed: bool = False,
    ) -> BoundGemm | None:
        """Bind out = op(a) op(b) with an epilogue; None if cuBLASLt cannot compute it.

        When first planned, the matmul also runs once, so that everything is loaded before a graph captures it. This
        overwrites ``out``, ``vector`` and ``auxiliary``.

        Args:
            a: a matrix.
            b: a matrix of the same dtype.
            out: (rows, columns), the result: of the same dtype, or float32 if a and b have 16 bits.
            transpose_a: True if op transposes a.
            transpose_b: True if op transposes b.
            tf32: True if float32 factors may be rounded to 10 bits of mantissa.
            epilogue: cuBLASLt's name for the epilogue, such as "RELU_AUX_BIAS".
            vector: (columns,), the bias that is read or the bias gradient that is written.
            auxiliary: the data passed from the forward to the backward epilogue. For ReLU, uint8 of `n_sign_bytes`
                bytes: bits that are set where out is above 0. For GELU, its input, of the shape of out, with a multiple
                of 8 columns.
            is_timed: True if the algorithm is chosen by time, otherwise it is the heuristic's first.
        """
        dtype, scalar = a.dtype.name, "float64" if out.dtype == np.float64 else "float32"
        dtypes = {dtype} | ({scalar} if a.itemsize == 2 else set())
        if b.dtype != a.dtype or out.dtype.name not in dtypes or dtype not in _TYPES or not (a.size and b.size):
            return None
        if epilogue != "DEFAULT" and dtype == "float64":
            return None  # NVIDIA does not document which epilogues support float64
        arrays = (a, b, out, vector, auxiliary)
        problem = _Problem(
            shapes=(a.shape, b.shape, out.shape),
            dtypes=(dtype, out.dtype.name),
            compute=_COMPUTE_TF32 if tf32 and dtype == "float32" else _TYPES[dtype].compute,
            transposes=(transpose_a, transpose_b),
            epilogue=epilogue,
            alignments=tuple(0 if array is None else _alignment(array) for array in arrays),
            is_timed=is_timed,
        )
        if refusal := self.refused.get(problem.class_name, self.refused.get(EVERY_CLASS)):
            self.unsupported[str(problem)] = refusal
            return None
        return None if problem._replace(is_timed=False) in self._given_up else self._bound(problem, arrays)

    def _bound(self, problem: _Problem, arrays: _Arrays) -> BoundGemm | None:
        a, b, out, vector, auxiliary = arrays
        scale = _TYPES["float64" if out.dtype == np.float64 else "float32"].data
        description = None
        try:
            description = self._library.matmul_desc(problem.compute, scale)
            self._describe(description, problem, out, vector, auxiliary)
            plan = self._plans.get(problem) or self._plan(description, (a, b, out), problem)
        except CublasLtError as error:
            if description is not None:
                self._library.destroy_matmul_desc(description)
            self.give_up(problem, error)
            return None
        self._plans[problem] = plan
        arguments = self._arguments(description, plan, (a, b, out))
        return BoundGemm(self._library, description, problem, arguments, self, plan, arrays)

    def give_up(self, problem: _Problem, cause: Exception) -> None:
        """Bind no further matmul of a problem."""
        self._plans.pop(problem, None)
        self._given_up.add(problem._replace(is_timed=False))
        self.unsupported[str(problem)] = str(cause)

    def _describe(
        self, description: int, problem: _Problem, out: Array, vector: Array | None, auxiliary: Array | None
    ) -> None:
        transpose_a, transpose_b = problem.transposes
        attributes = {
            "TRANSA": _TRANSPOSED if transpose_b else 0,
            "TRANSB": _TRANSPOSED if transpose_a else 0,
            "EPILOGUE": EPILOGUES[problem.epilogue],
        }
        if vector is not None:
            attributes["BIAS_POINTER"] = vector.data.ptr
        if auxiliary is not None:
            columns = out.shape[1]
            attributes["EPILOGUE_AUX_POINTER"] = auxiliary.data.ptr
            attributes["EPILOGUE_AUX_LD"] = sign_stride(columns) if "RELU" in problem.epilogue else columns
        self._library.set_attributes(description, **attributes)

    def _plan(self, description: int, arrays: tuple[Array, Array, Array], problem: _Problem) -> _Plan:
        """Return a plan with the fastest of the heuristic's algorithms, or the first that runs if none are timed.

        Raises:
            CublasLtError: if none runs.
        """
        layouts = _Layouts(self._library, arrays)
        of_a, of_b, of_out = problem.alignments[:3]
        algorithms = self._library.algorithms(
            self._handle,
            description,
            (layouts.made[1], layouts.made[0], layouts.made[2]),
            MAX_WORKSPACE_BYTES=self._workspace.nbytes,
            MIN_ALIGNMENT_A_BYTES=of_b,
            MIN_ALIGNMENT_B_BYTES=of_a,
            MIN_ALIGNMENT_C_BYTES=of_out,
            MIN_ALIGNMENT_D_BYTES=of_out,
        )
        is_timed = problem.is_timed and self._choices.is_timing
        known = self._choices.known(problem.key) if problem.is_timed else None
        algorithms.sort(key=lambda algorithm: algorithm.name != known)  # the known one comes first
        plans: dict[str, _Plan] = {}
        ways: dict[str, Callable[[], list[BoundCall]]] = {}
        for algorithm in algorithms:
            plan = _Plan(layouts, algorithm)
            arguments = self._arguments(description, plan, arrays)
            try:
                self._run(arguments)
            except CublasLtError as error:
                failure = error
                continue
            plans[algorithm.name] = plan
            ways[algorithm.name] = partial(list, [partial(self._run, arguments)])
            if algorithm.name == known or not is_timed:
                break
        if not plans:
            raise failure
        return plans[self._choices.choose(problem.key, ways) if is_timed else next(iter(plans))]

    def _run(self, arguments: tuple[int, ...]) -> None:
        self._library.matmul(*arguments, get_current_stream().ptr)

    def _arguments(self, description: int, plan: _Plan, arrays: tuple[Array, Array, Array]) -> tuple[int, ...]:
        """Return the arguments of cublasLtMatmul, all but the stream."""
        a, b, out = arrays
        a_layout, b_layout, out_layout = plan.layouts.made
        scalars = self._scalars["float64" if out.dtype == np.float64 else "float32"]
        one, zero = scalars.ctypes.data, scalars[1:].ctypes.data
        return (
            *(self._handle, description),
            *(one, b.data.ptr, b_layout, a.data.ptr, a_layout),
            *(zero, out.data.ptr, out_layout, out.data.ptr, out_layout),
            # All of the workspace, even for an algorithm that needs none: cuBLAS 11.6 and later may write to it anyway.
            *(ctypes.addressof(plan.algorithm), self._workspace.data.ptr, self._workspace.nbytes),
        )


def _alignment(array: Array) -> int:
    """Return the alignment of an array in bytes, at most the largest that matters."""
    address: int = array.data.ptr
    return min(address & -address, _MOST_ALIGNMENT)
