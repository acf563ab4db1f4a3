"""The compiled CPU kernels: loading them, and binding ops to them."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.blas import Blas, candidates
from gradflow.backends.cpu.native_call import ArrayUse, CCall, CValue, Footprint, NativeCall
from gradflow.backends.cpu.native_program import LEAST_PART, CEpochs, CPace, CPhase, NativeEpochs, NativeProgram
from gradflow.backends.kernel_sources import INSTRUCTION_FLAGS, Kernel, fingerprint, kernels
from gradflow.backends.reference import WatchedEpochs
from gradflow.errors import BackendError
from gradflow.installation import pip_reinstall
from gradflow.ops import Op

INSTRUCTIONS = tuple(INSTRUCTION_FLAGS)
_NO_TRANSPOSE, _TRANSPOSE = 111, 112
# Multiplications up to which a matmul uses our own kernel where larger ones are the BLAS's: so short a product does not
# repay the BLAS's waking of threads and packing of matrices.
_SMALL_GEMM = 1 << 20
_ANY_GEMM = 1 << 62
# A matmul by a BLAS that leaves threads to us is cut into slices: of at least so many multiplications, at most so many,
# each of a multiple of so many rows or columns.
_SLICE, _MOST_SLICES, _SLICE_GRAIN = 1 << 22, 16, 16

_COST_PER_ROW = 300  # overhead of restarting a loop for each row
_MULTIPLICATIONS = 2  # this many cost 1 in our own matmul
# Ranges are cut at multiples of these: whole cache lines.
_GRAINS = {"FOR": 64, "FOURS": 16, "ROWS": 1, "COLUMN_BLOCKS": 64, "BLOCKS": 1}

# A row's kernels read where in the training they are, and write at most that a step was bad, which none of them reads.
_CLOCK = "clock"

_OTHER_SOURCES = "it was built from other kernel sources than the current ones"


class _Entry(ctypes.Structure):
    """gf_entry of native.h."""

    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("items", ctypes.c_void_p)]


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
        self._short = ctypes.PyDLL(str(path))  # the same, for calls too short to let other Python threads run meanwhile
        number = ctypes.c_longlong
        for library in (self._library, self._short):
            library.gf_run.argtypes = [
                ctypes.POINTER(CPhase),
                number,
                number,
                ctypes.POINTER(CPace),
                ctypes.c_void_p,
                ctypes.c_int,
                ctypes.c_int,
            ]
            library.gf_run.restype = None
        self._library.gf_run_epochs.argtypes = [ctypes.POINTER(CEpochs), number, ctypes.c_double, ctypes.c_void_p]
        self._library.gf_run_epochs.restype = number
        self.supported = [
            name
            for name in INSTRUCTIONS
            if self._library.gf_supports(name.encode()) and self._find("copy", "float32", name)
        ]
        self.instructions = instructions or self.supported[0]
        self.threads_address: int | None = None
        self.blas = blas if blas is not None and self._multiplies(blas) else None
        self.largest_gemm = self._largest_gemm()
        if self.blas is not None:
            self.threads_address = self.blas.threads_address

    def _largest_gemm(self) -> int:
        """Return the limit of our own kernel: it is the fastest but for MKL on Intel's processors, by
        benchmarks/products.py; and it shares our threads, with the same bits for any number of them."""
        is_mkl = self.blas is not None and self.blas.description.startswith("MKL")
        if self.instructions == "baseline" or (is_mkl and self._library.gf_is_intel()):
            return _SMALL_GEMM
        return _ANY_GEMM

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
        addresses = {name: array.ctypes.data for name, array in arguments.items() if isinstance(array, np.ndarray)}
        packed = []
        for parameter in kernel.parameters:
            value, dtype = values[parameter.name], parameter.dtype(real)
            if parameter.is_pointer:
                holds_words = parameter.c_type == "gf_word" and value.itemsize % 4 == 0
                if value is not None and value.dtype != dtype and not holds_words:
                    return None
                packed.append(CValue(pointer=addresses.get(parameter.name)))
            elif dtype in ("float32", "float64"):
                packed.append(CValue(number=value))
            else:
                packed.append(CValue(integer=ctypes.c_longlong(value).value))
        packed_values = (CValue * len(packed))(*packed)
        items = self._library.gf_items(entry, packed_values)
        grain, cost = _GRAINS[kernel.loop], _cost(kernel, values, items)
        worth_sharing = max(math.ceil(LEAST_PART * items / cost), grain) if cost else items
        part = max(min(worth_sharing, items), 1)
        rows, per_row, per_item, by_row = _row_form(op, kernel, arguments, values)
        call = CCall(
            entry.contents.function, packed_values, items, grain, part, per_row, per_item, entry.contents.items
        )
        uses = tuple(
            ArrayUse(address, address + arguments[name].nbytes, name in op.writes, name in by_row)
            for name, address in addresses.items()
        )
        names = [parameter.name for parameter in kernel.parameters]
        bound = NativeCall(call, cost, Footprint(uses, rows), names)
        bound.owners = list(values.values())
        return bound

    def _blas_gemm(self, a: Any, b: Any, out: Any, **transposed: bool) -> NativeCall | None:
        dtypes = {matrix.dtype.name for matrix in (a, b, out)}
        if self.blas is None or len(dtypes) > 1 or not dtypes <= self.blas.addresses.keys():
            return None
        return self.blas_gemm(self.blas, a, b, out, **transposed)

    def blas_gemm(
        self,
        blas: Blas,
        a: Any,
        b: Any,
        out: Any,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        leaves_threads: bool = True,
    ) -> NativeCall:
        """Bind a matmul to a BLAS; no matrix may be empty.

        If ``leaves_threads``, a BLAS that can leaves threads to us.
        """
        addresses = [array.ctypes.data for array in (a, b, out)]
        m, n = out.shape
        k = len(a) if transpose_a else a.shape[1]
        function = getattr(self._library, f"gf_gemm_{out.dtype.name}_{blas.bits}")
        local_threads = blas.local_threads_address if leaves_threads else None
        slices = min(max(m * n * k // _SLICE, 1), _MOST_SLICES) if local_threads else 1
        width = _SLICE_GRAIN * math.ceil(max(m, n) / slices / _SLICE_GRAIN)
        slices = math.ceil(max(m, n) / width)
        packed = [
            CValue(pointer=blas.addresses[out.dtype.name]),
            CValue(pointer=local_threads),
            CValue(integer=_TRANSPOSE if transpose_a else _NO_TRANSPOSE),
            CValue(integer=_TRANSPOSE if transpose_b else _NO_TRANSPOSE),
            *(CValue(integer=size) for size in (m, n, k)),
            *(CValue(pointer=address) for address in addresses),
            *(CValue(integer=number) for number in (width, n > m)),
        ]
        names = (
            "function",
            "threads",
            "transpose_a",
            "transpose_b",
            "m",
            "n",
            "k",
            "a",
            "b",
            "out",
            "width",
            "by_column",
        )
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        call = CCall(address, (CValue * len(packed))(*packed), slices, 1, 1)
        uses = tuple(
            ArrayUse(address, address + array.nbytes, array is out, is_by_row=False)
            for address, array in zip(addresses, (a, b, out), strict=True)
        )
        footprint = Footprint(uses, is_lonely=not local_threads)
        bound = NativeCall(call, m * n * k // _MULTIPLICATIONS, footprint, names)
        bound.owners = [a, b, out]
        return bound

    def delays(self) -> tuple[float, float]:
        """Return the seconds for which programs that could use several threads have run, in this process, and for how
        many of them other work on the processors held them back."""
        run, held_back = ctypes.c_double(), ctypes.c_double()
        self._short.gf_delays(ctypes.byref(run), ctypes.byref(held_back))
        return run.value, held_back.value

    def program(self, calls: Sequence[NativeCall]) -> NativeProgram:
        """Combine several calls into one program."""
        return NativeProgram(self._library, self.threads_address, calls, self._short)

    def epochs(self, parts: Sequence[tuple[NativeProgram, int]], watched: WatchedEpochs) -> NativeEpochs:
        """Combine the programs of an epoch, each with how many times it runs."""
        return NativeEpochs(self._library, self.threads_address, parts, watched)


def _cost(kernel: Kernel, values: Mapping[str, Any], items: int) -> int:
    """Estimate the cost of a call on one thread, in elements read or written."""
    if kernel.loop == "BLOCKS":
        return int(values["rows"] * values["columns"] * values["depth"] // _MULTIPLICATIONS)
    if kernel.loop == "ROWS":
        return int(items * (_COST_PER_ROW + values.get("columns", values.get("x_words", 0))))
    arrays = [values[parameter.name] for parameter in kernel.parameters if parameter.is_pointer]
    return sum(array.size for array in arrays if array is not None)


def _row_form(
    op: Op, kernel: Kernel, arguments: Mapping[str, Any], values: Mapping[str, Any]
) -> tuple[int, int, int, Collection[str]]:
    """Return how a call is split by the rows of a batch: the number of rows, `per_row` and `per_item` of gf_call, and
    the names of the arrays of which it touches, for a row, only that row. No rows if it cannot or should not be."""
    if kernel.loop == "BLOCKS":
        # Each part packs the whole of b, which a large product does better once.
        is_small = values["rows"] * values["columns"] * values["depth"] <= _SMALL_GEMM
        if is_small and not values["transpose_a"]:
            return len(values["out"]), values["out"].itemsize, 0, ("a", "out")
    elif kernel.loop == "ROWS" and kernel.items == "rows":
        dimensions = op.dimensions(arguments)
        return values["rows"], 1, 1, [_CLOCK, *(name for name, sizes in dimensions.items() if sizes[0] == "rows")]
    elif kernel.loop in ("FOR", "FOURS"):
        arrays = [values.get(name) for name in kernel.arrays]
        first = arrays[0]
        if (
            first is not None
            and len(first)
            and all(array is not None and array.shape == first.shape for array in arrays)
        ):
            return len(first), first.size // len(first), 4 if kernel.loop == "FOURS" else 1, [_CLOCK, *kernel.arrays]
    return 0, 0, 1, ()


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
