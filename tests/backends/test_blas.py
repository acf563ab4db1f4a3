"""Finding the BLAS: the one that NumPy has loaded, or MKL if it is installed; and checking that it works as one."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from gradflow.backends import blas as blas_module
from gradflow.backends.blas import Blas, candidates, installed_mkl, numpy_blas
from gradflow.backends.cpu import native_program
from gradflow.backends.cpu.native import NativeLibrary, native_library
from gradflow.ops import OPS
from tests.cli.command import environment
from tests.kernels.c_library import COMPILER

needs_mkl = pytest.mark.skipif(
    not any(importlib.metadata.distributions(name="mkl")), reason="MKL is not installed: pip install mkl"
)


def in_wheel() -> bool:
    return any(Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"))


@pytest.fixture
def library() -> NativeLibrary:
    found = native_library()
    if found is None:
        pytest.skip("the C kernels were not built")
    return found


@pytest.fixture(params=["numpy", "mkl"])
def blas(request: pytest.FixtureRequest) -> Blas:
    """Each available BLAS."""
    found = numpy_blas() if request.param == "numpy" else installed_mkl()
    if found is None:
        pytest.skip("it was not found" if request.param == "numpy" else "MKL is not installed: pip install mkl")
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_gemms(library: NativeLibrary, blas: Blas, dtype: str, transposed: str) -> None:
    using = NativeLibrary(library.path, blas)
    assert using.blas is blas, "a transposed matmul came out wrong"
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(37, 53)).astype(dtype), rng.normal(size=(53, 29)).astype(dtype)
    out = np.full((37, 29), np.nan, dtype)
    arguments = {
        "a": np.ascontiguousarray(a.T) if "a" in transposed else a,
        "b": np.ascontiguousarray(b.T) if "b" in transposed else b,
        "out": out,
        "transpose_a": "a" in transposed,
        "transpose_b": "b" in transposed,
    }
    call = using.bind(OPS["gemm"], arguments)
    assert call is not None
    using.program([call])()
    # A sum of 53 products of numbers of about 1, in any order: at most 53 roundings, each of at most that size.
    assert_allclose(out, a.astype(np.float64) @ b.astype(np.float64), rtol=0, atol=53 * 15 * np.finfo(dtype).eps)


def test_it_describes_itself(blas: Blas) -> None:
    assert blas.bits in (32, 64)
    assert blas.path.is_file()
    assert blas.description
    assert blas.threads is None or blas.threads >= 1


@pytest.mark.skipif(not in_wheel(), reason="this NumPy is not from a wheel with OpenBLAS")
def test_numpys_wheel_brings_openblas_with_wide_integers() -> None:
    found = numpy_blas()
    assert found is not None
    assert found.path.parent.name == "numpy.libs"
    assert found.bits == 64
    assert found.description.startswith("OpenBLAS 0.")


@pytest.mark.skipif(not in_wheel() or sys.platform != "linux", reason="needs NumPy's wheel on Linux")
def test_without_the_wheels_folder_the_loaded_library_is_found() -> None:
    """As with conda's or Debian's NumPy, whose BLAS lies in a different folder."""
    assert numpy_blas() is not None
    assert numpy_blas().path in blas_module._loaded_files()  # type: ignore[union-attr]


_BLAS_IN_C = """
#include <stdatomic.h>
atomic_int products = 0, with_other_threads = 0;
volatile float tiny = 1e-40f, halved; /* below the smallest normal number: a processor that flushes reads 0 */
_Thread_local int threads = 4;
#ifdef MKL
int MKL_Set_Num_Threads_Local(int number) {
  const int before = threads;
  threads = number;
  return before;
}
int MKL_Get_Max_Threads(void) { return threads; }
void MKL_Get_Version_String(char *text, int size) { __builtin_snprintf(text, size, "Version 1.2-Product"); }
#endif
#define GEMM(name, element) \\
  void name(int order, int ta, int tb, INT m, INT n, INT k, element alpha, const element *a, INT lda, \\
            const element *b, INT ldb, element beta, element *c, INT ldc) { \\
    products++; \\
    if (threads != 1) with_other_threads++; \\
    halved = tiny / 2; \\
    for (INT i = 0; i < m; i++) \\
      for (INT j = 0; j < n; j++) { \\
        element sum = 0; \\
        for (INT l = 0; l < k; l++) \\
          sum += (ta == 112 ? a[l * lda + i] : a[i * lda + l]) * (TB == 112 ? b[j * ldb + l] : b[l * ldb + j]); \\
        c[i * ldc + j] = alpha * sum; \\
      } \\
  }
GEMM(S, float)
GEMM(D, double)
"""


def compiled_blas(
    folder: Path, file: str, symbol: str, width: str, transposed_b: str = "tb", is_mkl: bool = False
) -> Path:
    """Compile a small BLAS whose functions have another library's names, and MKL's functions besides gemm if asked."""
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    source, target = folder / "blas.c", folder / file
    source.write_text(_BLAS_IN_C)
    macros = [f"-DINT={width}", f"-DS={symbol.format('s')}", f"-DD={symbol.format('d')}", f"-DTB={transposed_b}"]
    macros += ["-DMKL"] if is_mkl else []
    subprocess.run([COMPILER, "-O1", "-fPIC", "-shared", *macros, str(source), "-o", str(target)], check=True)
    return target


@pytest.mark.parametrize(
    ("file", "symbol", "width", "bits"),
    [
        ("libopenblas.so", "cblas_{}gemm", "int", 32),
        ("libcblas.so.3", "cblas_{}gemm", "int", 32),
        ("libopenblas64_.so", "cblas_{}gemm64_", "long", 64),
        ("libmkl_rt.so.2", "cblas_{}gemm_64", "long", 64),
        ("libscipy_openblas.so", "scipy_cblas_{}gemm", "int", 32),
    ],
)
def test_the_function_name_determines_the_width_of_its_integers(
    library: NativeLibrary, tmp_path: Path, file: str, symbol: str, width: str, bits: int
) -> None:
    found = blas_module._loaded(compiled_blas(tmp_path, file, symbol, width))
    assert found is not None
    assert found.bits == bits
    assert NativeLibrary(library.path, found).blas is found
    assert found.threads is None
    assert found.description == file


def products_by_the_blas(library: NativeLibrary, size: int) -> int:
    """Return how many products the compiled BLAS computes for one matmul of a library."""
    assert library.blas is not None
    seen = ctypes.c_int.in_dll(ctypes.CDLL(str(library.blas.path)), "products")
    seen.value = 0
    a = np.ones((size, size), np.float32)
    call = library.bind(OPS["gemm"], OPS["gemm"].arguments(a, a, np.empty_like(a)))
    assert call is not None
    library.program([call])()
    return seen.value


def test_without_vector_instructions_large_gemms_use_the_blas(library: NativeLibrary, tmp_path: Path) -> None:
    found = blas_module._loaded(compiled_blas(tmp_path, "libopenblas.so", "cblas_{}gemm", "int"))
    baseline = NativeLibrary(library.path, found, "baseline")
    assert [products_by_the_blas(baseline, size) for size in (101, 102)] == [0, 1]


def test_with_vector_instructions_only_mkl_on_intels_processors_is_used(library: NativeLibrary, tmp_path: Path) -> None:
    instructions = [name for name in library.supported if name != "baseline"]
    if not instructions:
        pytest.skip("this processor has no vector instructions that the kernels know")
    for is_mkl in (False, True):
        path = compiled_blas(tmp_path, f"libblas{is_mkl}.so", "cblas_{}gemm", "int", is_mkl=is_mkl)
        found = blas_module._loaded(path)
        is_used = is_mkl and bool(library._library.gf_is_intel())
        for name in instructions:
            products = [products_by_the_blas(NativeLibrary(library.path, found, name), size) for size in (101, 102)]
            assert products == [0, 1 if is_used else 0]


@pytest.mark.parametrize("is_mkl", [False, True])
def test_a_blas_with_threads_of_its_own_does_not_flush_tiny_numbers(
    library: NativeLibrary, tmp_path: Path, is_mkl: bool
) -> None:
    """Threads that it starts in such a call would go on to flush those of the whole process."""
    found = blas_module._loaded(compiled_blas(tmp_path, "libblas.so", "cblas_{}gemm", "int", is_mkl=is_mkl))
    assert found is not None
    halved = ctypes.c_float.in_dll(ctypes.CDLL(str(found.path)), "halved")
    using = NativeLibrary(library.path, found)
    a = np.ones((2, 2), np.float32)
    for _ in range(2):
        halved.value = 1
        using.program([using.blas_gemm(found, a, a, np.empty_like(a))] * 2)()
        assert (halved.value == 0) == is_mkl


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="the processor's vendor is read from /proc/cpuinfo")
def test_intels_processors_are_known(library: NativeLibrary) -> None:
    assert bool(library._library.gf_is_intel()) == ("GenuineIntel" in Path("/proc/cpuinfo").read_text())


@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True)], ids=["NN", "TN", "NT"])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (700, 97, 401), (97, 700, 401), (1024, 33, 1024)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_blas_that_leaves_threads_to_us_computes_slices_on_one_thread_each(
    library: NativeLibrary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    transposed: tuple[bool, bool],
    m: int,
    n: int,
    k: int,
    dtype: str,
) -> None:
    monkeypatch.setattr(native_program, "processors", lambda: 3)
    found = blas_module._loaded(compiled_blas(tmp_path, "libmkl_rt.so", "cblas_{}gemm", "int", is_mkl=True))
    with_mkl = NativeLibrary(library.path, found)
    assert with_mkl.blas is found
    c = ctypes.CDLL(str(found.path))  # type: ignore[union-attr]
    with_other_threads = ctypes.c_int.in_dll(c, "with_other_threads")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    outs = []
    for level in (0, 2):
        out = np.full((m, n), np.nan, dtype)
        with_other_threads.value = 0
        call = with_mkl.blas_gemm(
            found,  # type: ignore[arg-type]
            np.ascontiguousarray(a.T) if transposed[0] else a,
            np.ascontiguousarray(b.T) if transposed[1] else b,
            out,
            transpose_a=transposed[0],
            transpose_b=transposed[1],
        )
        assert call.call.items == (1 if m * n * k < 1 << 22 else min(m * n * k >> 22, 16))
        program = with_mkl.program([call])
        program.pace.level = program.pace.tried = level
        program()
        assert with_other_threads.value == 0
        assert c.MKL_Get_Max_Threads() == 4
        outs.append(out)
    tolerance = 400 * np.finfo(dtype).eps
    assert_allclose(outs[0], a @ b, rtol=tolerance, atol=10 * tolerance)
    assert outs[0].tobytes() == outs[1].tobytes()


def test_plain_names_in_a_library_for_64_bits_are_not_trusted(tmp_path: Path) -> None:
    assert blas_module._loaded(compiled_blas(tmp_path, "libopenblas64.so.0", "cblas_{}gemm", "long")) is None


def test_a_blas_that_multiplies_wrongly_is_ignored(
    library: NativeLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = blas_module._loaded(compiled_blas(tmp_path, "libblas.so.3", "cblas_{}gemm", "int", transposed_b="112"))
    assert wrong is not None
    assert NativeLibrary(library.path, wrong).blas is None
    monkeypatch.setattr("gradflow.backends.cpu.native.candidates", lambda: iter([wrong]))
    chosen = native_library.__wrapped__()
    assert chosen is not None
    assert chosen.blas is None


def test_no_blas_without_a_library_or_gemm_functions(tmp_path: Path) -> None:
    text = tmp_path / "libopenblas.so"
    text.write_text("nothing")
    assert blas_module._loaded(text) is None
    assert blas_module._loaded(Path(ctypes.util.find_library("m") or "libm.so.6")) is None


@needs_mkl
def test_mkl_is_preferred_if_it_is_installed(library: NativeLibrary) -> None:
    first = next(candidates())
    assert "mkl_rt" in first.path.name
    assert library.blas == first
    assert first.description.startswith("MKL 20")


_TRAINED = """
import hashlib, numpy as np, gradflow as gf
junk = np.ones({junk}, np.uint8)  # arrays come to lie elsewhere
x = np.random.default_rng(0).normal(size=(256, 100)).astype(np.float32)
network = gf.MLP([100, 200, 10], backend="numpy")
trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", threads={threads})
trainer.fit(x, np.arange(256) % 10, epochs=3, batch_size=64, progress=False)
print(hashlib.sha256(np.array(network.parameters)).hexdigest())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_another_run_with_the_same_number_of_threads_gives_the_same_bits(library: NativeLibrary, threads: int) -> None:
    if library.blas is None or library.blas.threads is None:
        pytest.skip("no BLAS was found whose threads can be set")

    def bits(junk: int) -> str:
        code = _TRAINED.format(junk=junk, threads=threads)
        return subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
        ).stdout

    assert len({bits(junk) for junk in (16, 1000, 4112)}) == 1


@needs_mkl
def test_the_users_environment_does_not_change_the_width_of_mkls_integers(library: NativeLibrary) -> None:
    code = _TRAINED.format(junk=1, threads=1)
    changed = environment(MKL_INTERFACE_LAYER="ILP64")
    outputs = {
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        for env in (environment(), changed)
    }
    assert len(outputs) == 1
    assert "MKL_INTERFACE_LAYER" not in os.environ
