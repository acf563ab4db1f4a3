"""The compiled kernels of the CPU: loading them, and binding ops to them, alone or as a whole program.

A program of such ops is one call into C, which releases Python's lock while it runs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.blas import Blas, candidates
from gradflow.backends.sources import INSTRUCTION_FLAGS, Kernel, fingerprint, kernels
from gradflow.ops import Op

__all__ = ["INSTRUCTIONS", "NativeCall", "NativeLibrary", "NativeProgram", "native_library", "native_problem"]

INSTRUCTIONS = tuple(INSTRUCTION_FLAGS)
_NO_TRANSPOSE, _TRANSPOSE = 111, 112
# Multiplications up to which a product is our own: it takes 30 µs on one thread, and a BLAS would wake others for it.
_SMALL_PRODUCT = 1 << 20


_OTHER_SOURCES = "it was built from other kernel sources than those that are here"


class _Value(ctypes.Union):
    """gf_value of native.h."""

    _fields_ = [("pointer", ctypes.c_void_p), ("integer", ctypes.c_longlong), ("number", ctypes.c_double)]


class _Call(ctypes.Structure):
    """gf_call of native.h."""

    _fields_ = [("function", ctypes.c_void_p), ("values", ctypes.POINTER(_Value))]


class NativeCall:
    """A function of the library bound to its arguments; it keeps the arrays that these point into."""

    def __init__(self, library: ctypes.CDLL, function: int, values: Sequence[_Value], owners: Sequence[Any]) -> None:
        self._library = library
        self._values = (_Value * len(values))(*values)
        self._owners = tuple(owners)
        self.call = _Call(function, self._values)

    def __call__(self) -> None:
        self._library.gf_run(ctypes.byref(self.call), 1, 1)


class NativeProgram:
    """Several bound functions in turn, run by one call into C as often as asked."""

    def __init__(self, library: ctypes.CDLL, calls: Sequence[NativeCall]) -> None:
        self._library = library
        self._owners = tuple(calls)
        self._calls = (_Call * len(calls))(*(bound.call for bound in calls))

    def __call__(self, times: int = 1) -> None:
        self._library.gf_run(self._calls, len(self._calls), times)


class NativeLibrary:
    """The library of compiled kernels.

    Attributes:
        path: its file.
        supported: the instruction sets that were built and that this processor has, the fastest first.
        instructions: the one whose kernels are used: "baseline", "avx2" or "avx512".
        blas: the BLAS for matrix products; None leaves these to NumPy.

    Raises:
        OSError: if the file is no library for this system, or was built from other sources than those that are here.
    """

    def __init__(self, path: Path, blas: Blas | None, instructions: str | None = None) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        if not hasattr(self._library, "gf_fingerprint"):
            raise OSError(_OTHER_SOURCES)
        self._library.gf_fingerprint.restype = ctypes.c_char_p
        if self._library.gf_fingerprint().decode() != fingerprint():
            raise OSError(_OTHER_SOURCES)
        self._library.gf_find.restype = ctypes.c_void_p
        self._library.gf_run.argtypes = [ctypes.POINTER(_Call), ctypes.c_longlong, ctypes.c_longlong]
        self._library.gf_run.restype = None
        self.supported = [
            name
            for name in INSTRUCTIONS
            if self._library.gf_supports(name.encode()) and self._find("copy", "float32", name)
        ]
        self.instructions = instructions or self.supported[0]
        self.blas = blas if blas is not None and self._multiplies(blas) else None

    def _find(self, name: str, real: str, instructions: str) -> int | None:
        address: int | None = self._library.gf_find(f"gf_{real}_{instructions}".encode(), name.encode())
        return address

    def _multiplies(self, blas: Blas) -> bool:
        """Whether the BLAS's functions are what they are taken for: a transposed product comes out right."""
        for dtype in blas.addresses:
            a, b = np.arange(12, dtype=dtype).reshape(4, 3), np.arange(8, dtype=dtype).reshape(4, 2)
            out = np.zeros((3, 2), dtype)
            self.blas_product(blas, a, b, out, transpose_a=True)()
            if not np.array_equal(out, a.T @ b):
                return False
        return True

    def bind(self, op: Op, arguments: Mapping[str, Any]) -> NativeCall | None:
        """An op bound to its kernel or the BLAS; None where there is neither."""
        kernel = kernels("c").get(op.name)
        if kernel is None:
            return None
        values = {**op.sizes(arguments), **arguments}
        if op.name == "gemm" and values["rows"] * values["columns"] * values["depth"] > _SMALL_PRODUCT:
            return self._blas_product(**arguments)
        real = _real_dtype(kernel, values)
        function = self._find(kernel.name, real, self.instructions)
        if function is None or ("columns" in values and values["columns"] == 0):
            return None
        packed = []
        for parameter in kernel.parameters:
            value, dtype = values[parameter.name], parameter.dtype(real)
            if parameter.is_pointer:
                holds_words = parameter.c_type == "gf_word" and value.itemsize % 4 == 0
                if value is not None and value.dtype != dtype and not holds_words:
                    return None
                packed.append(_Value(pointer=None if value is None else value.ctypes.data))
            elif dtype in ("float32", "float64"):
                packed.append(_Value(number=value))
            else:
                packed.append(_Value(integer=ctypes.c_longlong(value).value))
        return NativeCall(self._library, function, packed, list(values.values()))

    def _blas_product(self, a: Any, b: Any, out: Any, **transposed: bool) -> NativeCall | None:
        dtypes = {matrix.dtype.name for matrix in (a, b, out)}
        if self.blas is None or len(dtypes) > 1 or not dtypes <= self.blas.addresses.keys():
            return None
        return self.blas_product(self.blas, a, b, out, **transposed)

    def blas_product(
        self, blas: Blas, a: Any, b: Any, out: Any, *, transpose_a: bool = False, transpose_b: bool = False
    ) -> NativeCall:
        """The matrix product by a BLAS; no matrix may be empty."""
        m, n = out.shape
        k = len(a) if transpose_a else a.shape[1]
        function = getattr(self._library, f"gf_gemm_{out.dtype.name}_{blas.bits}")
        packed = [
            _Value(pointer=blas.addresses[out.dtype.name]),
            _Value(integer=_TRANSPOSE if transpose_a else _NO_TRANSPOSE),
            _Value(integer=_TRANSPOSE if transpose_b else _NO_TRANSPOSE),
            *(_Value(integer=size) for size in (m, n, k)),
            *(_Value(pointer=array.ctypes.data) for array in (a, b, out)),
        ]
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        return NativeCall(self._library, address, packed, [a, b, out])

    def program(self, calls: Sequence[NativeCall]) -> NativeProgram:
        """Several calls as one."""
        return NativeProgram(self._library, calls)


def _real_dtype(kernel: Kernel, values: Mapping[str, Any]) -> str:
    reals = [p.name for p in kernel.parameters if p.is_pointer and p.c_type == "real"]
    return next((values[name].dtype.name for name in reals if values[name] is not None), "float32")


@cache
def native_library() -> NativeLibrary | None:
    """The library of compiled kernels that was built with the package; None if there is none.

    The environment variable GRADFLOW_NATIVE=0 leaves it out.
    """
    if os.environ.get("GRADFLOW_NATIVE") == "0":
        return None
    for path in _library_files():
        try:
            library = NativeLibrary(path, None)
        except OSError:
            continue
        with_blas = (NativeLibrary(path, blas) for blas in candidates())
        return next((tried for tried in with_blas if tried.blas is not None), library)
    return None


def _library_files() -> list[Path]:
    return [path for path in sorted(Path(__file__).parent.glob("_native*")) if path.suffix in (".so", ".pyd")]


def native_problem() -> str | None:
    """Why the compiled kernels are not used, with the remedy; None if they are."""
    if native_library() is not None:
        return None
    if os.environ.get("GRADFLOW_NATIVE") == "0":
        return "GRADFLOW_NATIVE=0 leaves the compiled kernels out; unset it"
    again = "pip install --force-reinstall --no-deps --no-binary gradflow-mlp gradflow-mlp"
    if not _library_files():
        return f"the compiled kernels were not built; install a C compiler (GCC or Clang), then: {again}"
    try:
        NativeLibrary(_library_files()[0], None)
    except OSError as error:
        problem = str(error)
    return f"{_library_files()[0]} cannot be used: {problem}; build it again: {again}, or in a clone: pip install -e ."
