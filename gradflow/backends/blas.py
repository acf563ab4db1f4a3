"""The BLAS used for matmuls, as functions that C can call, and the number of its threads.

It is MKL if the distribution ``mkl`` is installed (the extra ``mkl``), otherwise the BLAS that NumPy has loaded.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gradflow.errors import BackendError

# The names of gemm and the width of its integers, which only the name reveals. MKL's 64-bit names come before its plain
# ones, whose width depends on MKL_INTERFACE_LAYER.
_GEMMS = (
    ("scipy_cblas_{}gemm64_", 64),
    ("cblas_{}gemm64_", 64),
    ("cblas_{}gemm_64", 64),
    ("scipy_cblas_{}gemm", 32),
    ("cblas_{}gemm", 32),
)
# The functions that read and set the number of threads.
_THREADS = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)
# The function that sets it for the calling thread alone. OpenBLAS's of a similar name sets it for the process.
_LOCAL_THREADS = "MKL_Set_Num_Threads_Local"
_VERSIONS = (
    "scipy_openblas_get_config64_",
    "openblas_get_config64_",
    "scipy_openblas_get_config",
    "openblas_get_config",
)
# The modules of the functions that the workers of process pools run, and the variables that set the number of threads.
_POOLS = ("multiprocessing.pool", "concurrent.futures.process")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_REPRODUCIBLE_ON_THIS_PROCESSOR = 2  # MKL_CBWR_AUTO


class Blas(NamedTuple):
    """A loaded BLAS.

    Attributes:
        path: the file of the library.
        bits: the width of its integers.
        addresses: the addresses of cblas_sgemm and cblas_dgemm, by "float32" and "float64".
    """

    path: Path
    bits: int
    addresses: dict[str, int]

    @property
    def description(self) -> str:
        """Its name and, if known, its version: "OpenBLAS 0.3.31"."""
        library = ctypes.CDLL(str(self.path))
        for name in _VERSIONS:
            if hasattr(library, name):
                config = getattr(library, name)
                config.restype = ctypes.c_char_p
                return " ".join(config().decode().split()[:2])
        if hasattr(library, "MKL_Get_Version_String"):
            text = ctypes.create_string_buffer(200)
            library.MKL_Get_Version_String(text, 200)
            version = re.search(rb"Version (\S+?)-", text.value)
            return f"MKL {version[1].decode()}" if version else "MKL"
        return self.path.name

    @property
    def threads(self) -> int | None:
        """Its maximum number of threads; None if unknown."""
        library = ctypes.CDLL(str(self.path))
        for name, _ in _THREADS:
            if hasattr(library, name):
                return int(getattr(library, name)())
        return None

    @property
    def threads_address(self) -> int | None:
        """The address of its C function that returns the maximum number of threads; None if it has none."""
        library = ctypes.CDLL(str(self.path))
        for name, _ in _THREADS:
            if hasattr(library, name):
                return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        return None

    @property
    def local_threads_address(self) -> int | None:
        """The address of its C function that sets the threads of the calling thread alone, and returns their previous
        number; None if it has none."""
        library = ctypes.CDLL(str(self.path))
        if not hasattr(library, _LOCAL_THREADS):
            return None
        return ctypes.cast(getattr(library, _LOCAL_THREADS), ctypes.c_void_p).value

    def set_threads(self, threads: int) -> None:
        """Set the number of threads, for the whole process.

        Raises:
            BackendError: if it has no known function for that.
        """
        library = ctypes.CDLL(str(self.path))
        for _, name in _THREADS:
            if hasattr(library, name):
                getattr(library, name)(ctypes.c_int(threads))
                return
        raise BackendError(
            f"threads={threads}: {self.path.name} has no function known to gradflow that sets its threads; leave "
            "threads out, and set them by the library's own environment variable before Python starts"
        )


class _ThreadRequest:
    """The number of threads that one context requests; compared by identity, since several may request the same."""

    def __init__(self, threads: int) -> None:
        self.threads = threads


# The number applies to the whole process: contexts overlap if several threads train, and end in any order.
_REQUESTS: dict[Path, list[_ThreadRequest]] = {}
_BEFORE_REQUESTS: dict[Path, int | None] = {}
_REQUESTS_LOCK = threading.Lock()


@contextmanager
def using_threads(blas: Blas | None, threads: int | None) -> Iterator[None]:
    """Context in which the BLAS uses ``threads`` threads, in the whole process; None leaves the number unchanged.

    If contexts overlap, the latest one decides; when all have ended, the original number is restored.

    Raises:
        BackendError: if the number cannot be set.
    """
    if threads is None:
        yield
        return
    if blas is None:
        raise BackendError(
            f"threads={threads}: this backend has no BLAS on the CPU whose threads gradflow can set; leave threads out"
        )
    request = _ThreadRequest(threads)
    with _REQUESTS_LOCK:
        if not _REQUESTS.get(blas.path):
            _BEFORE_REQUESTS[blas.path] = blas.threads
        blas.set_threads(threads)
        _REQUESTS.setdefault(blas.path, []).append(request)
    try:
        yield
    finally:
        with _REQUESTS_LOCK:
            requests = _REQUESTS[blas.path]
            requests.remove(request)
            remaining = requests[-1].threads if requests else _BEFORE_REQUESTS[blas.path]
            if remaining is not None:
                blas.set_threads(remaining)


def candidates() -> Iterator[Blas]:
    """Yield every available BLAS, the preferred one first."""
    for blas in (installed_mkl(), numpy_blas()):
        if blas is not None:
            yield blas


@cache
def installed_mkl() -> Blas | None:
    """Return MKL from the distribution ``mkl``; None if it is not installed.

    It uses Intel's OpenMP threads, which is its default and works in forked processes (GNU's hangs there).
    """
    import importlib.metadata  # slower than the rest of this module, and only training needs it

    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if re.fullmatch(r"(lib)?mkl_rt(\.so|\.dylib|\.dll|\.\d+)+", file.name):
            path = Path(str(file.locate())).resolve()
            if (blas := _loaded(path)) is not None:
                # NumPy aligns arrays to 16 bytes only; without this, MKL's order of summation depends on the alignment.
                ctypes.CDLL(str(path)).MKL_CBWR_Set(_REPRODUCIBLE_ON_THIS_PROCESSOR)
                return blas
    return None


@cache
def numpy_blas() -> Blas | None:
    """Return the BLAS that NumPy uses: the one in its wheel, or one loaded in this process; None if unknown."""
    folder = Path(np.__file__).parent
    bundled = [*folder.parent.glob("numpy.libs/*openblas*"), *folder.glob(".dylibs/*openblas*")]
    for path in [*bundled, *_loaded_files()]:
        if (blas := _loaded(path)) is not None:
            return blas
    return None


def _loaded_files() -> list[Path]:
    """Return the files loaded in this process that are named like a BLAS, if the system lists them (Linux)."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(Path(line.split(maxsplit=5)[5]) for line in lines if line.endswith(".so") or ".so." in line)
    return [path for path in paths if re.match(r"lib(scipy_openblas|openblas|mkl_rt|cblas|blas|blis)", path.name)]


def _loaded(path: Path) -> Blas | None:
    """Load the BLAS in a file; None if that fails, or if it has no gemm of known integer width."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    for name, bits in _GEMMS:
        if hasattr(library, name.format("s")) and hasattr(library, name.format("d")):
            if bits == 32 and "64" in path.name.partition(".")[0]:
                return None  # some builds with 64-bit integers use the plain names
            functions = {"float32": name.format("s"), "float64": name.format("d")}
            addresses = {
                dtype: ctypes.cast(getattr(library, function), ctypes.c_void_p).value or 0
                for dtype, function in functions.items()
            }
            blas = Blas(path, bits, addresses)
            _share_in_pools(blas)
            return blas
    return None


def _share_in_pools(blas: Blas) -> None:
    """Give the BLAS one thread in this process if it is a worker of a pool, one of several, and in forked workers.

    A number of threads in the environment is left as it is; joblib, Dask and Ray set one for their workers.
    """
    import multiprocessing.util  # gradflow itself is imported faster without it

    def limit(_: object = None) -> None:
        worker = getattr(multiprocessing.current_process(), "_target", None)
        if getattr(worker, "__module__", None) in _POOLS and not any(name in os.environ for name in THREAD_VARIABLES):
            with suppress(BackendError):
                blas.set_threads(1)

    multiprocessing.util.register_after_fork(_share_in_pools, limit)
    limit()
