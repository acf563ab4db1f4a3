"""NVIDIA's library cuBLASLt, called directly: as many of its functions as matmuls need.

cuda-pathfinder, which CuPy itself needs, finds the file: in NVIDIA's wheels, a conda environment or the system, or in
the process if it is loaded. Numbers of attributes and epilogues are those of cublasLt.h, the same since CUDA 11.4.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

EPILOGUES = {
    "DEFAULT": 1,
    "RELU": 2,
    "BIAS": 4,
    "RELU_BIAS": 6,
    "GELU_BIAS": 36,
    "RELU_AUX": 130,
    "RELU_AUX_BIAS": 134,
    "DRELU": 136,
    "GELU_AUX": 160,
    "GELU_AUX_BIAS": 164,
    "DGELU": 192,
    "BGRADA": 256,
}
"""Its epilogues, by name."""

_DESC_ATTRIBUTES = {
    "TRANSA": (3, ctypes.c_int32),
    "TRANSB": (4, ctypes.c_int32),
    "EPILOGUE": (7, ctypes.c_uint32),
    "BIAS_POINTER": (8, ctypes.c_void_p),
    "EPILOGUE_AUX_POINTER": (11, ctypes.c_void_p),
    "EPILOGUE_AUX_LD": (12, ctypes.c_int64),
}
_PREFERENCE_ATTRIBUTES = {
    "MAX_WORKSPACE_BYTES": (1, ctypes.c_uint64),
    "MIN_ALIGNMENT_A_BYTES": (5, ctypes.c_uint32),
    "MIN_ALIGNMENT_B_BYTES": (6, ctypes.c_uint32),
    "MIN_ALIGNMENT_C_BYTES": (7, ctypes.c_uint32),
    "MIN_ALIGNMENT_D_BYTES": (8, ctypes.c_uint32),
}
_NOT_SUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
_MOST_ALGORITHMS = 8  # proposals of the heuristic for a matmul


class Algorithm(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm, and the workspace that it needs."""

    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]

    @property
    def name(self) -> str:
        """The algorithm in hexadecimal, which means the same in every process with this version of the library."""
        return bytes(self.algorithm).hex()


class CublasLtError(Exception):
    """A function of cuBLASLt failed.

    Args:
        message: the name of the status.
        status: the cublasStatus_t that it returned.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class CublasLtLibrary:
    """The functions. Descriptors are integers, which the caller destroys.

    Raises:
        Exception: whatever cuda-pathfinder or the loader raises if there is no such library.
    """

    def __init__(self) -> None:
        pathfinder = importlib.import_module("cuda.pathfinder")
        self._c = ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
        self._c.cublasLtGetVersion.restype = ctypes.c_size_t
        self._c.cublasLtGetStatusName.restype = ctypes.c_char_p
        pointer, number, integer = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self._c.cublasLtMatmul.argtypes = [*[pointer] * 14, number, pointer]
        self._c.cublasLtMatmulAlgoGetHeuristic.argtypes = [*[pointer] * 7, integer, pointer, pointer]

    @property
    def version(self) -> int:
        """Its version, such as 120900."""
        return int(self._c.cublasLtGetVersion())

    def handle(self) -> int:
        """Create a handle."""
        return self._created("cublasLtCreate")

    def matmul_desc(self, compute: int, scale: int) -> int:
        """Create the description of a matmul, from its cublasComputeType_t and the cudaDataType of its scalars."""
        return self._created("cublasLtMatmulDescCreate", ctypes.c_int(compute), ctypes.c_int(scale))

    def set_attributes(self, description: int, **attributes: int) -> None:
        """Set attributes of the description of a matmul."""
        self._set("cublasLtMatmulDesc", description, _DESC_ATTRIBUTES, attributes)

    def destroy_matmul_desc(self, description: int) -> None:
        """Destroy the description of a matmul."""
        self._c.cublasLtMatmulDescDestroy(ctypes.c_void_p(description))

    def matrix_layout(self, dtype: int, rows: int, columns: int, stride: int) -> int:
        """Create the layout of a column-major matrix of a cudaDataType."""
        sizes = ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(stride)
        return self._created("cublasLtMatrixLayoutCreate", ctypes.c_int(dtype), *sizes)

    def destroy_matrix_layout(self, layout: int) -> None:
        """Destroy the layout of a matrix."""
        self._c.cublasLtMatrixLayoutDestroy(ctypes.c_void_p(layout))

    def algorithms(
        self, handle: int, description: int, layouts: tuple[int, int, int], **preferences: int
    ) -> list[Algorithm]:
        """Return the algorithms that its heuristic proposes for layouts of A, B, and of C and D, the best first.

        Raises:
            CublasLtError: if it knows none.
        """
        preference = self._created("cublasLtMatmulPreferenceCreate")
        found, results = ctypes.c_int(), (Algorithm * _MOST_ALGORITHMS)()
        try:
            self._set("cublasLtMatmulPreference", preference, _PREFERENCE_ATTRIBUTES, preferences)
            of_a, of_b, of_out = layouts
            status = self._c.cublasLtMatmulAlgoGetHeuristic(
                *(handle, description, of_a, of_b, of_out, of_out, preference),
                *(_MOST_ALGORITHMS, results, ctypes.byref(found)),
            )
        finally:
            self._c.cublasLtMatmulPreferenceDestroy(ctypes.c_void_p(preference))
        usable = [result for result in results[: found.value] if not result.state]
        self._check(status or (0 if usable else _NOT_SUPPORTED))
        return usable

    def matmul(self, *arguments: Any) -> None:
        """Run a matmul: the arguments of cublasLtMatmul, addresses and descriptors as integers.

        Raises:
            CublasLtError: if it fails.
        """
        self._check(self._c.cublasLtMatmul(*arguments))

    def _created(self, function: str, *arguments: Any) -> int:
        created = ctypes.c_void_p()
        self._check(getattr(self._c, function)(ctypes.byref(created), *arguments))
        assert created.value is not None
        return created.value

    def _set(self, kind: str, descriptor: int, known: dict[str, tuple[int, Any]], attributes: dict[str, int]) -> None:
        for name, value in attributes.items():
            number, c_type = known[name]
            of_c = c_type(value)
            size = ctypes.c_size_t(ctypes.sizeof(of_c))
            status = getattr(self._c, f"{kind}SetAttribute")(
                ctypes.c_void_p(descriptor), ctypes.c_int(number), ctypes.byref(of_c), size
            )
            self._check(status)

    def _check(self, status: int) -> None:
        if status:
            raise CublasLtError(self._c.cublasLtGetStatusName(ctypes.c_int(status)).decode(), status)
