"""The kernels compiled by the C compiler, called over ranges of their items."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.kernel_sources import Kernel, kernels, source_text
from gradflow.ops import Array
from gradflow.optimizers.base import FACTORS

COMPILER = shutil.which(os.environ.get("CC", "cc"))
_FLAGS = (
    "-O2",
    "-fopenmp-simd",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-Wframe-larger-than=16384",  # a thread's stack may be small
    "-shared",
    *os.environ.get("CFLAGS", "").split(),
)

_FOLDER = tempfile.TemporaryDirectory(prefix="gradflow-kernels-")

_SCALARS: dict[str, Any] = {
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
    "int32": ctypes.c_int,
    "int64": ctypes.c_longlong,
    "uint32": ctypes.c_uint,
    "uint64": ctypes.c_ulonglong,
}


def _blocks(rows: int, columns: int) -> int:
    """Return the number of blocks of a GEMM's result, as kernels/layers/gemm.c divides it."""
    return -(-rows // 64) * -(-columns // 128) if rows > 192 else min(rows, 1) * -(-columns // 32)


# Number of items of a kernel's range if it is neither `rows` nor `n`.
_ITEMS = {
    "adapt_scaling": lambda sizes: 1,
    "record_scaled_update": lambda sizes: 1,
    "advance": lambda sizes: 1,
    "advance_part": lambda sizes: 1,
    "advance_scheduled": lambda sizes: 1,
    "gemm": lambda sizes: _blocks(sizes["rows"], sizes["columns"]),
    "dropout": lambda sizes: -(-sizes["n"] // 4),
}


def items(kernel: Kernel, sizes: Mapping[str, int]) -> int:
    """Return the number of items in the whole range of a kernel."""
    if kernel.loop == "COLUMN_BLOCKS":
        return sizes["columns"]
    if kernel.name in _ITEMS:
        return _ITEMS[kernel.name](sizes)
    by_rows = any(parameter.name == "rows" for parameter in kernel.parameters)
    return sizes["rows"] if by_rows else sizes["n"]


def real_dtype(kernel: Kernel, arguments: Mapping[str, Array]) -> np.dtype:
    """Return the element type of a call: that of the first array declared `real`."""
    reals = [p.name for p in kernel.parameters if p.is_pointer and p.c_type == "real"]
    return next((arguments[name].dtype for name in reals if arguments[name] is not None), np.dtype(np.float32))


@cache
def compiled(file: Path, real: np.dtype) -> ctypes.CDLL:
    """Compile a kernel file into a shared library, once per element type and without a warning."""
    assert COMPILER is not None
    source = Path(_FOLDER.name) / f"{file.stem}_{real.name}.c"
    library = source.with_suffix(".so")
    source.write_text(source_text(file, real.name))
    done = subprocess.run(
        [COMPILER, *_FLAGS, str(source), "-o", str(library), "-lm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{file.name} for {real.name}:\n{done.stderr}"
    return ctypes.CDLL(str(library))


def run_kernel(
    name: str,
    sizes: Mapping[str, int],
    arguments: Mapping[str, Any],
    *,
    cuts: tuple[float, ...] = (),
    only: int | None = None,
) -> None:
    """Run a kernel on NumPy arrays over its whole range, in one call or split at the given fractions of the range.

    With ``only``, run just one of these parts, counted from 0.
    """
    kernel = kernels("c")[name]
    values = {**sizes, **arguments}
    real = real_dtype(kernel, values)
    function = getattr(compiled(kernel.file, real), name)
    function.restype = None
    packed = []
    for parameter in kernel.parameters:
        value, dtype = values[parameter.name], np.dtype(parameter.dtype(real.name))
        if not parameter.is_pointer:
            packed.append(_SCALARS[dtype.name](value))
        elif value is None:
            packed.append(ctypes.c_void_p())
        else:
            assert parameter.c_type == "gf_word" or value.dtype == dtype, (name, parameter.name, value.dtype)
            packed.append(ctypes.c_void_p(value.ctypes.data))
    end = items(kernel, sizes)
    bounds = [0, *(int(fraction * end) for fraction in cuts), end]
    if kernel.loop == "FOR" and "n_decayed" in values:
        # Weights and biases, and parameters with other factors, separately (optimizers/update.h).
        table = values["hyper"][int(values["hyper"][FACTORS]) :]
        ends = table[1 : 1 + 3 * int(table[0]) : 3].astype(int).tolist() if values["hyper"][FACTORS] else []
        bounds = sorted({*bounds, values["n_decayed"], *ends})
    parts = list(pairwise(bounds))
    # The last part first: this shows whether one part writes into another.
    for first, last in reversed(parts if only is None else [parts[only]]):
        function(ctypes.c_longlong(first), ctypes.c_longlong(last), *packed)
