"""Matrix products by cuBLASLt: planned by its heuristic, once for each shape and type, and bound to be run many times.

cuBLASLt counts down the columns of a matrix and our arrays count along the rows, so that what it takes for a matrix is
our transpose: out = op(a) op(b) is computed as outᵀ = op(b)ᵀ op(a)ᵀ. (Its own row order goes with few epilogues.)

A bound product makes one call and allocates nothing, on an explicit stream and with a workspace of its own, so that it
can be captured in a CUDA graph; `cupy.matmul` cannot.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from cupy.cuda import get_current_stream

from gradflow.ops import Array

__all__ = ["CublasLt", "Product"]

_TRANSPOSED = 1  # CUBLAS_OP_T
_NOT_SUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
_MOST_ALIGNMENT = 16  # bytes: the widest access of a kernel


@dataclass(frozen=True)
class _Type:
    """What cuBLASLt calls an element type: a cudaDataType, and the cublasComputeType of its products."""

    data: int
    compute: int


_TYPES = {"float32": _Type(data=0, compute=68), "float64": _Type(data=1, compute=70)}


@dataclass(frozen=True)
class _Plan:
    """What the heuristic chose for one problem: descriptors of the matrices a, b and out, and the algorithm."""

    layouts: tuple[int, int, int]
    algorithm: np.ndarray
    workspace_bytes: int


class Product:
    """A product bound to its arrays, which it keeps: calling it runs it."""

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
    """The products of one device; they run on the current stream, one at a time.

    Args:
        workspace: device memory (bytes,) that all of them share, aligned to 256 bytes.

    Attributes:
        unsupported: the products that it has no plan for, with its reason.

    Raises:
        ImportError: if nvmath-python is not installed.
        Exception: whatever it raises where cuBLASLt itself cannot be loaded or begun with.
    """

    def __init__(self, workspace: Array) -> None:
        self._library = importlib.import_module("nvmath.bindings.cublasLt")
        self._handle: int = self._library.create()
        self._workspace = workspace
        self._scalars = {name: np.array([1, 0], name) for name in _TYPES}
        self._plans: dict[tuple[Any, ...], _Plan | None] = {}
        self.unsupported: dict[str, str] = {}

    def product(
        self, a: Array, b: Array, out: Array, transpose_a: bool = False, transpose_b: bool = False
    ) -> Product | None:
        """out = op(a) op(b), bound; None where there is no plan for it."""
        dtypes = {array.dtype.name for array in (a, b, out)}
        if len(dtypes) > 1 or not dtypes <= _TYPES.keys() or not (a.size and b.size):
            return None
        (dtype,) = dtypes
        description = self._describe(_TYPES[dtype], transpose_a, transpose_b)
        plan = self._plan(description, a, b, out, transpose_a, transpose_b)
        if plan is None:
            self._library.matmul_desc_destroy(description)
            return None
        a_pointer, b_pointer, out_pointer = (array.data.ptr for array in (a, b, out))
        a_layout, b_layout, out_layout = plan.layouts
        one = self._scalars[dtype].ctypes.data
        arguments = (
            *(self._handle, description),
            *(one, b_pointer, b_layout, a_pointer, a_layout),
            *(one + out.itemsize, out_pointer, out_layout, out_pointer, out_layout),
            *(plan.algorithm.ctypes.data, self._workspace.data.ptr, plan.workspace_bytes),
        )
        return Product(self._library, description, arguments, (self, a, b, out))

    def _describe(self, kind: _Type, transpose_a: bool, transpose_b: bool) -> int:
        """A descriptor of the operation."""
        description: int = self._library.matmul_desc_create(kind.compute, kind.data)
        names = self._library.MatmulDescAttribute
        for attribute, value in ((names.TRANSA, transpose_b), (names.TRANSB, transpose_a)):
            self._set("matmul_desc", description, attribute, _TRANSPOSED if value else 0)
        return description

    def _plan(
        self, description: int, a: Array, b: Array, out: Array, transpose_a: bool, transpose_b: bool
    ) -> _Plan | None:
        matrices = (a, b, out)
        alignments = tuple(min(array.data.ptr & -array.data.ptr, _MOST_ALIGNMENT) for array in matrices)
        key = (*(array.shape for array in matrices), out.dtype.name, transpose_a, transpose_b, alignments)
        if key not in self._plans:
            try:
                self._plans[key] = self._ask_heuristic(description, a, b, out, alignments)
            except self._library.cuBLASLtError as error:
                self._plans[key] = None
                inner = len(a) if transpose_a else a.shape[1]
                self.unsupported[f"{out.shape[0]}x{inner}x{out.shape[1]} {out.dtype}"] = str(error)
        return self._plans[key]

    def _ask_heuristic(self, description: int, a: Array, b: Array, out: Array, alignments: tuple[int, ...]) -> _Plan:
        library, names = self._library, self._library.MatmulPreferenceAttribute
        layouts = tuple(self._layout(array) for array in (a, b, out))
        of_a, of_b, of_out = alignments
        values = {
            names.MAX_WORKSPACE_BYTES: self._workspace.nbytes,
            names.MIN_ALIGNMENT_A_BYTES: of_b,
            names.MIN_ALIGNMENT_B_BYTES: of_a,
            names.MIN_ALIGNMENT_C_BYTES: of_out,
            names.MIN_ALIGNMENT_D_BYTES: of_out,
        }
        result = np.zeros(1, library.matmul_heuristic_result_dtype)
        found = np.zeros(1, np.int32)
        preference = library.matmul_preference_create()
        try:
            for attribute, value in values.items():
                self._set("matmul_preference", preference, attribute, value)
            library.matmul_algo_get_heuristic(
                *(self._handle, description, layouts[1], layouts[0], layouts[2], layouts[2], preference),
                *(1, result.ctypes.data, found.ctypes.data),
            )
        finally:
            library.matmul_preference_destroy(preference)
        if not found[0]:
            raise library.cuBLASLtError(_NOT_SUPPORTED)
        return _Plan(layouts, result["algo"].copy(), int(result["workspace_size"][0]))  # type: ignore[arg-type]

    def _layout(self, array: Array) -> int:
        rows, columns = array.shape
        layout: int = self._library.matrix_layout_create(_TYPES[array.dtype.name].data, columns, rows, columns)
        return layout

    def _set(self, kind: str, descriptor: int, attribute: Any, value: int) -> None:
        """Set an attribute, of the width that it has, of a descriptor of one kind."""
        dtype = getattr(self._library, f"get_{kind}_attribute_dtype")(attribute)
        buffer = np.array(value, dtype)
        getattr(self._library, f"{kind}_set_attribute")(descriptor, attribute, buffer.ctypes.data, buffer.nbytes)
