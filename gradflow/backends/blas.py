"""The matrix products of the BLAS that NumPy has loaded, as functions that C can call."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

__all__ = ["Blas", "numpy_blas"]

# What OpenBLAS is called in NumPy's wheels, with 64-bit integers, and elsewhere, with 32-bit or 64-bit ones.
_SYMBOLS = (("scipy_cblas_{}gemm64_", 64), ("cblas_{}gemm64_", 64), ("scipy_cblas_{}gemm", 32), ("cblas_{}gemm", 32))


@dataclass(frozen=True)
class Blas:
    """A BLAS.

    Attributes:
        library: the file it was found in.
        bits: the width of its integers.
        addresses: of cblas_sgemm and cblas_dgemm, by "float32" and "float64".
    """

    library: Path
    bits: int
    addresses: dict[str, int]


@cache
def numpy_blas() -> Blas | None:
    """The BLAS inside NumPy's wheel; None where NumPy came with another one."""
    folder = Path(np.__file__).parent
    candidates = [*folder.parent.glob("numpy.libs/*openblas*"), *folder.glob(".dylibs/*openblas*")]
    for library in candidates:
        try:
            loaded = ctypes.CDLL(str(library))
        except OSError:
            continue
        for symbol, bits in _SYMBOLS:
            if hasattr(loaded, symbol.format("s")) and hasattr(loaded, symbol.format("d")):
                addresses = {
                    dtype: ctypes.cast(getattr(loaded, symbol.format(letter)), ctypes.c_void_p).value or 0
                    for dtype, letter in (("float32", "s"), ("float64", "d"))
                }
                return Blas(library, bits, addresses)
    return None
