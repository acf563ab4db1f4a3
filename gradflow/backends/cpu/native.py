"""The compiled CPU kernels: loading them, and binding single ops or whole programs to them.

A program of such ops is one call into C, which releases the GIL while it runs. Long calls in it are split across
threads (team.c).
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.blas import Blas, candidates
from gradflow.backends.kernel_sources import INSTRUCTION_FLAGS, Kernel, fingerprint, kernels
from gradflow.errors import BackendError
from gradflow.installation import pip_reinstall
from gradflow.ops import Op

INSTRUCTIONS = tuple(INSTRUCTION_FLAGS)
_NO_TRANSPOSE, _TRANSPOSE = 111, 112
# Multiplications up to which a matmul uses our own kernel: they take 25 µs, and the BLAS would first wake its threads.
_SMALL_GEMM = 1 << 20
# More where our own kernel is as fast as the BLAS, since programs without BLAS calls keep their threads awake.
_OWN_GEMM = {("OpenBLAS", "avx2"): 1 << 27}

# Approximate cost of a call: each element read or written is 1, about 0.05 ns. The part of a thread should outweigh the
# handover, and if the threads are asleep, must clearly outweigh waking them.
_LEAST_PART = 1 << 15
_WORTH_WAKING = 1 << 22
_COST_PER_ROW = 300  # overhead of restarting a loop for each row
_MULTIPLICATIONS = 2  # this many cost 1 in our own matmul
# Ranges are cut at multiples of these: whole cache lines.
_GRAINS = {"FOR": 64, "FOURS": 16, "ROWS": 1, "COLUMN_BLOCKS": 64, "BLOCKS": 1}
# Minimum number of runs for which the threads stay awake: waking them once takes as long as a small step.
_STEPS_AWAKE = 4

_OTHER_SOURCES = "it was built from other kernel sources than the current ones"


class _Value(ctypes.Union):
    """gf_value of native.h."""

    _fields_ = [("pointer", ctypes.c_void_p), ("integer", ctypes.c_longlong), ("number", ctypes.c_double)]


class _Entry(ctypes.Structure):
    """gf_entry of native.h."""

    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("items", ctypes.c_void_p)]


class _Call(ctypes.Structure):
    """gf_call of native.h."""

    _fields_ = [
        ("function", ctypes.c_void_p),
        ("values", ctypes.POINTER(_Value)),
        ("items", ctypes.c_longlong),
        ("grain", ctypes.c_longlong),
        ("part", ctypes.c_longlong),
        ("wakes_team", ctypes.c_int),
    ]


class NativeCall:
    """A function of the library bound to its arguments; it keeps the arrays that they point into alive.

    Args:
        call: the function with its arguments.
        owners: the objects that the arguments point into.
        is_blas: True if the function belongs to the BLAS.
    """

    def __init__(self, call: _Call, owners: Sequence[Any], *, is_blas: bool = False) -> None:
        self.call = call
        self.is_blas = is_blas
        self._owners = tuple(owners)


class NativeProgram:
    """A sequence of bound functions that one call into C runs any number of times.

    Args:
        library: the compiled kernels.
        threads: the address of a C function that returns the maximum number of threads; None for one thread.
        calls: the functions.
    """

    def __init__(self, library: ctypes.CDLL, threads: int | None, calls: Sequence[NativeCall]) -> None:
        self._library = library
        self._owners = tuple(calls)
        self._calls = (_Call * len(calls))(*(bound.call for bound in calls))
        # Threads that spin while waiting would compete with those of the BLAS.
        self._is_without_blas = not any(bound.is_blas for bound in calls)
        parts = [call.items // call.part for call in self._calls if self._is_without_blas or call.wakes_team]
        self._most_threads = max(parts, default=1)
        self._threads = threads if self._most_threads > 1 else None

    def __call__(self, times: int = 1) -> None:
        keeps_awake = self._is_without_blas and times >= _STEPS_AWAKE
        self._library.gf_run(self._calls, len(self._calls), times, self._threads, self._most_threads, keeps_awake)


class NativeLibrary:
    """The library of compiled kernels.

    Attributes:
        path: its file.
        supported: the instruction sets that were built and that this processor has, the fastest first.
        instructions: the instruction set in use: "baseline", "avx2" or "avx512".
        blas: the BLAS for matmuls; None leaves them to NumPy.
        largest_gemm: the most multiplications for which a matmul uses our own kernel.
        threads_address: the address of the C function that returns the maximum number of threads of a kernel, the same
            as for the BLAS; None for one.

    Raises:
        OSError: if the file is not a library for this system, or was built from other sources than the current ones.
    """

    def __init__(self, path: Path, blas: Blas | None, instructions: str | None = None) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        if not hasattr(self._library, "gf_fingerprint"):
            raise OSError(_OTHER_SOURCES)
        self._library.gf_fingerprint.restype = ctypes.c_char_p
        if self._library.gf_fingerprint().decode() != fingerprint():
            raise OSError(_OTHER_SOURCES)
        self._library.gf_find.restype = ctypes.POINTER(_Entry)
        self._library.gf_items.restype = ctypes.c_longlong
        calls, number = ctypes.POINTER(_Call), ctypes.c_longlong
        self._library.gf_run.argtypes = [calls, number, number, ctypes.c_void_p, number, ctypes.c_int]
        self._library.gf_run.restype = None
        self.supported = [
            name
            for name in INSTRUCTIONS
            if self._library.gf_supports(name.encode()) and self._find("copy", "float32", name)
        ]
        self.instructions = instructions or self.supported[0]
        self.threads_address: int | None = None
        self.blas = blas if blas is not None and self._multiplies(blas) else None
        self.largest_gemm = _SMALL_GEMM
        if self.blas is not None:
            self.threads_address = self.blas.threads_address
            name, _, _ = self.blas.description.partition(" ")
            self.largest_gemm = _OWN_GEMM.get((name, self.instructions), _SMALL_GEMM)

    def _find(self, name: str, real: str, instructions: str) -> Any:
        """Return a pointer to the entry of a kernel; a null pointer, which is false, if there is none."""
        return self._library.gf_find(f"gf_{real}_{instructions}".encode(), name.encode())

    def _multiplies(self, blas: Blas) -> bool:
        """True if the BLAS passes a check: it computes a transposed matmul correctly."""
        for dtype in blas.addresses:
            a, b = np.arange(12, dtype=dtype).reshape(4, 3), np.arange(8, dtype=dtype).reshape(4, 2)
            out = np.zeros((3, 2), dtype)
            self.program([self.blas_gemm(blas, a, b, out, transpose_a=True)])()
            if not np.array_equal(out, a.T @ b):
                return False
        return True

    def bind(self, op: Op, arguments: Mapping[str, Any]) -> NativeCall | None:
        """Bind an op to its kernel or the BLAS; None if there is neither."""
        kernel = kernels("c").get(op.name)
        if kernel is None:
            return None
        values = {**op.sizes(arguments), **arguments}
        if op.name == "gemm" and values["rows"] * values["columns"] * values["depth"] > self.largest_gemm:
            return self._blas_gemm(**arguments)
        real = _real_dtype(kernel, values)
        entry = self._find(kernel.name, real, self.instructions)
        if not entry or ("columns" in values and values["columns"] == 0):
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
        packed_values = (_Value * len(packed))(*packed)
        items = self._library.gf_items(entry, packed_values)
        grain, cost = _GRAINS[kernel.loop], _cost(kernel, values, items)
        worth_sharing = max(math.ceil(_LEAST_PART * items / cost), grain) if cost else items
        part = max(min(worth_sharing, items), 1)
        call = _Call(entry.contents.function, packed_values, items, grain, part, cost >= _WORTH_WAKING)
        return NativeCall(call, list(values.values()))

    def _blas_gemm(self, a: Any, b: Any, out: Any, **transposed: bool) -> NativeCall | None:
        dtypes = {matrix.dtype.name for matrix in (a, b, out)}
        if self.blas is None or len(dtypes) > 1 or not dtypes <= self.blas.addresses.keys():
            return None
        return self.blas_gemm(self.blas, a, b, out, **transposed)

    def blas_gemm(
        self, blas: Blas, a: Any, b: Any, out: Any, *, transpose_a: bool = False, transpose_b: bool = False
    ) -> NativeCall:
        """Bind a matmul to a BLAS; no matrix may be empty."""
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
        return NativeCall(_Call(address, (_Value * len(packed))(*packed), 1, 1, 0), [a, b, out], is_blas=True)

    def program(self, calls: Sequence[NativeCall]) -> NativeProgram:
        """Combine several calls into one program."""
        return NativeProgram(self._library, self.threads_address, calls)


def _cost(kernel: Kernel, values: Mapping[str, Any], items: int) -> int:
    """Estimate the cost of a call on one thread, in elements read or written."""
    if kernel.loop == "BLOCKS":
        return int(values["rows"] * values["columns"] * values["depth"] // _MULTIPLICATIONS)
    if kernel.loop == "ROWS":
        return int(items * (_COST_PER_ROW + values.get("columns", values.get("x_words", 0))))
    arrays = [values[parameter.name] for parameter in kernel.parameters if parameter.is_pointer]
    return sum(array.size for array in arrays if array is not None)


def _real_dtype(kernel: Kernel, values: Mapping[str, Any]) -> str:
    reals = [p.name for p in kernel.parameters if p.is_pointer and p.c_type == "real"]
    return next((values[name].dtype.name for name in reals if values[name] is not None), "float32")


@cache
def native_library() -> NativeLibrary | None:
    """Return the library of compiled kernels that was built with the package; None if there is none.

    The environment variable GRADFLOW_NATIVE=0 disables it; the name of an instruction set, as in GRADFLOW_NATIVE=avx2,
    selects its kernels instead of the fastest ones.

    Raises:
        BackendError: if GRADFLOW_NATIVE has another value, or names instructions that cannot be used here.
    """
    wish = _wish()
    if wish == "0":
        return None
    for path in _library_files():
        try:
            library = NativeLibrary(path, None)
        except OSError:
            continue
        if wish is not None and wish not in library.supported:
            raise BackendError(
                f"GRADFLOW_NATIVE={wish} cannot be used: this processor and the compiler that built the kernels have "
                f"{', '.join(library.supported)}; name one of these, or unset it"
            )
        with_blas = (NativeLibrary(path, blas, wish) for blas in candidates())
        return next((tried for tried in with_blas if tried.blas is not None), NativeLibrary(path, None, wish))
    if wish is not None:
        raise BackendError(f"GRADFLOW_NATIVE={wish} cannot be used: {_why_not_loaded()}")
    return None


def _wish() -> str | None:
    """Return the value of GRADFLOW_NATIVE: "0", or the name of an instruction set; None for the default."""
    wish = os.environ.get("GRADFLOW_NATIVE") or None
    if wish not in (None, "0", *INSTRUCTIONS):
        raise BackendError(
            f"GRADFLOW_NATIVE must be 0 (no compiled kernels), {', '.join(INSTRUCTIONS[:-1])} or {INSTRUCTIONS[-1]}, "
            f"got {wish!r}; unset it for the fastest"
        )
    return wish


def _library_files() -> list[Path]:
    return [path for path in sorted(Path(__file__).parent.glob("_native*")) if path.suffix in (".so", ".pyd")]


def native_problem() -> str | None:
    """Return the reason why the compiled kernels are not used, with the remedy; None if they are."""
    if native_library() is not None:
        return None
    if _wish() == "0":
        return "GRADFLOW_NATIVE=0 disables the compiled kernels; unset it"
    return _why_not_loaded()


def _why_not_loaded() -> str:
    again = pip_reinstall()
    if not _library_files():
        return f"the compiled kernels were not built; install a C compiler (GCC or Clang), then: {again}"
    try:
        NativeLibrary(_library_files()[0], None)
    except OSError as error:
        problem = str(error)
    return f"{_library_files()[0]} cannot be used: {problem}; build it again: {again}"
