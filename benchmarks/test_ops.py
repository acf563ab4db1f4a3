"""Every op on the CPU, by kernels, dtype and size: python -m pytest benchmarks/test_ops.py.

Besides the time, each result contains the bytes per second that the op moves or, for GEMMs, the operations per second,
and the ratio to a plain copy or to NumPy's own GEMM on this machine.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.limits import bytes_moved, copy_rate, gemm_rate, square_matrices
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import native_library
from gradflow.layers.dense import gemm
from gradflow.ops import OPS
from gradflow.testing import CASES, Draw

_COLUMNS = 256
_ROWS = (32, 4096, 32768)  # 32 kB, 4 MB and 32 MB in float32
_WIDTHS = (64, 256, 1024)

pytestmark = pytest.mark.benchmark(max_time=0.1, min_rounds=3, calibration_precision=10)


class _LargeDraw(Draw):
    """Ordinary values in arrays of a given size."""

    def __init__(self, dtype: str, rows: int) -> None:
        super().__init__(dtype, "large", "ordinary")
        self.rows, self.columns, self.n = rows, _COLUMNS, rows * _COLUMNS


@pytest.fixture(params=["compiled", "NumPy"])
def backend(request: pytest.FixtureRequest) -> NumpyBackend:
    """The CPU backend, with and without compiled kernels."""
    if request.param == "NumPy":
        return NumpyBackend(None)
    native = native_library()
    if native is None:
        pytest.skip("gradflow was installed without compiled kernels")
    return NumpyBackend(native)


@pytest.mark.parametrize("rows", _ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(OPS.keys() - {"gemm"}))
def test_op(benchmark: BenchmarkFixture, backend: NumpyBackend, name: str, dtype: str, rows: int) -> None:
    case = CASES[name]
    arguments = case.make(_LargeDraw(dtype, rows), **case.variants[0])
    with backend.running():
        benchmark(backend.bind(OPS[name], arguments))
    if benchmark.stats is None:
        return  # --benchmark-disable ran it once, to check that it works
    n_bytes = bytes_moved(OPS[name], arguments)
    rate = n_bytes / benchmark.stats["median"]
    benchmark.extra_info |= {
        "bytes": n_bytes,
        "GB/s": round(rate / 1e9, 3),
        "ratio to a copy": round(rate / copy_rate(n_bytes), 3),
    }


@pytest.mark.parametrize("transposed", ["none", "a", "b"])
@pytest.mark.parametrize("width", _WIDTHS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gemm(benchmark: BenchmarkFixture, backend: NumpyBackend, dtype: str, width: int, transposed: str) -> None:
    a, b = square_matrices(dtype, width)
    arguments = {"a": a, "b": b, "out": np.empty_like(a)}
    flags = {} if transposed == "none" else {f"transpose_{transposed}": True}
    with backend.running():
        benchmark(backend.bind(gemm, arguments | flags))
    if benchmark.stats is None:
        return
    rate = 2 * width**3 / benchmark.stats["median"]
    benchmark.extra_info |= {
        "GFLOP/s": round(rate / 1e9, 2),
        "ratio to NumPy's GEMM": round(rate / gemm_rate(dtype, width), 3),
    }
