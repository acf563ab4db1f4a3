"""Matmuls by cuBLASLt: planned by its heuristic once for each shape and dtype, and bound to be run many times.

cuBLASLt is column-major and our arrays are row-major, so it sees the transpose of each array: out = op(a) op(b) is
computed as outᵀ = op(b)ᵀ op(a)ᵀ. (Its own row-major order supports few epilogues.)

A bound matmul is a single call that allocates nothing, on an explicit stream and with its own workspace, so it can be
captured in a CUDA graph; `cupy.matmul` cannot.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from cupy.cuda import get_current_stream

from gradflow.backends.cuda.epilogues import sign_stride
from gradflow.ops import Array

_TRANSPOSED = 1  # CUBLAS_OP_T
_NOT_SUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
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


@dataclass(frozen=True)
class _Plan:
    """The heuristic's choice for one problem: descriptors of the matrices a, b and out, and the algorithm."""

    layouts: tuple[int, int, int]
    algorithm: np.ndarray
    workspace_bytes: int


class BoundGemm:
    """A matmul bound to its arrays, which it keeps alive: calling it runs it."""

    def __init__(self, library: Any, description: int, arguments: tuple[int, ...], owners: tuple[Any, ...]) -> None:
        self._library = library
        self._description = description
        self._arguments = arguments
        self._owners = owners

    def __call__(self) -> None:
        self._library.matmul(*self._arguments, get_current_stream().ptr)

    def __del__(self) -> None:
        self._library.matmul_desc_destroy(self._description)


class CublasLt:
    """The matmuls of one device; they run on the current stream, one at a time.

    Args:
        workspace: device memory (bytes,) shared by all matmuls, aligned to 256 bytes.

    Attributes:
        unsupported: the matmuls that cuBLASLt has no plan for, with the reason it gives.

    Raises:
        ImportError: if nvmath-python is not installed.
        Exception: whatever nvmath-python raises if cuBLASLt cannot be loaded or initialized.
    """

    def __init__(self, workspace: Array) -> None:
        self._library = importlib.import_module("nvmath.bindings.cublasLt")
        self._handle: int = self._library.create()
        self._workspace = workspace
        self._scalars = {name: np.array([1, 0], name) for name in ("float32", "float64")}
        self._plans: dict[tuple[Any, ...], _Plan | None] = {}
        self.unsupported: dict[str, str] = {}

    @property
    def version(self) -> int:
        """The version of cuBLASLt, such as 120900."""
        return int(self._library.get_version())

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
    ) -> BoundGemm | None:
        """Bind out = op(a) op(b) with an epilogue; None if cuBLASLt has no plan for it.

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
        """
        dtype, scalar = a.dtype.name, "float64" if out.dtype == np.float64 else "float32"
        dtypes = {dtype} | ({scalar} if a.itemsize == 2 else set())
        if b.dtype != a.dtype or out.dtype.name not in dtypes or dtype not in _TYPES or not (a.size and b.size):
            return None
        if epilogue != "DEFAULT" and dtype == "float64":
            return None  # NVIDIA does not document which epilogues support float64
        library = self._library
        compute = _COMPUTE_TF32 if tf32 and dtype == "float32" else _TYPES[dtype].compute
        description: int = library.matmul_desc_create(compute, _TYPES[scalar].data)
        names = library.MatmulDescAttribute
        values = {
            names.TRANSA: _TRANSPOSED if transpose_b else 0,
            names.TRANSB: _TRANSPOSED if transpose_a else 0,
            names.EPILOGUE: library.Epilogue[epilogue],
        }
        if vector is not None:
            values[names.BIAS_POINTER] = vector.data.ptr
        if auxiliary is not None:
            values[names.EPILOGUE_AUX_POINTER] = auxiliary.data.ptr
            values[names.EPILOGUE_AUX_LD] = sign_stride(out.shape[1]) if "RELU" in epilogue else out.shape[1]
        for attribute, value in values.items():
            self._set("matmul_desc", description, attribute, value)

        arrays = (a, b, out, vector, auxiliary)
        alignments = tuple(0 if array is None else _alignment(array) for array in arrays)
        key = (a.shape, b.shape, dtype, out.dtype.name, compute, transpose_a, transpose_b, epilogue, alignments)
        is_new = key not in self._plans
        if is_new:
            self._plans[key] = self._plan(description, a, b, out, alignments, epilogue)
        plan = self._plans[key]
        if plan is None:
            library.matmul_desc_destroy(description)
            return None
        a_layout, b_layout, out_layout = plan.layouts
        one, zero = self._scalars[scalar].ctypes.data, self._scalars[scalar][1:].ctypes.data
        arguments = (
            *(self._handle, description),
            *(one, b.data.ptr, b_layout, a.data.ptr, a_layout),
            *(zero, out.data.ptr, out_layout, out.data.ptr, out_layout),
            *(plan.algorithm.ctypes.data, self._workspace.data.ptr, plan.workspace_bytes),
        )
        bound = BoundGemm(library, description, arguments, (self, *arrays))
        if is_new:
            bound()
        return bound

    def _plan(
        self, description: int, a: Array, b: Array, out: Array, alignments: tuple[int, ...], epilogue: str
    ) -> _Plan | None:
        """Return the heuristic's choice; None, with an entry in `unsupported`, if it finds none."""
        layouts = (self._layout(a), self._layout(b), self._layout(out))
        result = np.zeros(1, self._library.matmul_heuristic_result_dtype)
        found = np.zeros(1, np.int32)
        preference = self._preference(*alignments[:3])
        try:
            self._library.matmul_algo_get_heuristic(
                *(self._handle, description, layouts[1], layouts[0], layouts[2], layouts[2], preference),
                *(1, result.ctypes.data, found.ctypes.data),
            )
            self._library.check_status(0 if found[0] else _NOT_SUPPORTED)
        except self._library.cuBLASLtError as error:
            name = f"{a.shape} and {b.shape} to {out.shape}, {out.dtype}, {epilogue}"
            self.unsupported[name] = str(error)
            return None
        finally:
            self._library.matmul_preference_destroy(preference)
        return _Plan(layouts, result["algo"].copy(), int(result["workspace_size"][0]))

    def _preference(self, of_a: int, of_b: int, of_out: int) -> int:
        """Return the heuristic's constraints: the workspace and the alignments of a, b and out."""
        names = self._library.MatmulPreferenceAttribute
        values = {
            names.MAX_WORKSPACE_BYTES: self._workspace.nbytes,
            names.MIN_ALIGNMENT_A_BYTES: of_b,
            names.MIN_ALIGNMENT_B_BYTES: of_a,
            names.MIN_ALIGNMENT_C_BYTES: of_out,
            names.MIN_ALIGNMENT_D_BYTES: of_out,
        }
        preference: int = self._library.matmul_preference_create()
        for attribute, value in values.items():
            self._set("matmul_preference", preference, attribute, value)
        return preference

    def _layout(self, array: Array) -> int:
        rows, columns = array.shape
        layout: int = self._library.matrix_layout_create(_TYPES[array.dtype.name].data, columns, rows, columns)
        return layout

    def _set(self, kind: str, descriptor: int, attribute: Any, value: int) -> None:
        """Set an attribute of a descriptor; ``kind`` is the kind of descriptor."""
        dtype = getattr(self._library, f"get_{kind}_attribute_dtype")(attribute)
        buffer = np.array(value, dtype)
        getattr(self._library, f"{kind}_set_attribute")(descriptor, attribute, buffer.ctypes.data, buffer.nbytes)


def _alignment(array: Array) -> int:
    """Return the alignment of an array in bytes, at most the largest that matters."""
    address: int = array.data.ptr
    return min(address & -address, _MOST_ALIGNMENT)
