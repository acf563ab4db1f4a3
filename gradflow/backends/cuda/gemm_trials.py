"""Trials of the matmuls that training uses: each epilogue, compared with the ops that it replaces."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradflow.backends.cuda.epilogues import gemm_class, n_sign_bytes
from gradflow.ops import OPS, Array

if TYPE_CHECKING:
    from gradflow.backends.cuda.backend import CupyBackend

_ROWS, _COLUMNS, _INNER = 33, 136, 20
"""Sizes where they are not 1: more columns than the 128 signs of a block, and a multiple of 8, as for GELU."""

_LARGE_INNER = 8192
"""Rows of a batch for which the sum in a weight gradient is split."""

_FORWARD = ("BIAS", "RELU_BIAS", "RELU_AUX_BIAS", "RELU", "RELU_AUX", "GELU_BIAS", "GELU_AUX", "GELU_AUX_BIAS")
_TOLERANCE = 1e-2
"""Wrong kernels are off by more than this, rounding to TF32 or 16 bits by less."""


class Problem(NamedTuple):
    """A matmul (rows, inner) times (inner, columns) with an epilogue."""

    epilogue: str
    precision: str
    rows: int = _ROWS
    columns: int = _COLUMNS
    inner: int = _INNER
    transpose_a: bool = False
    transpose_b: bool = False

    @property
    def class_name(self) -> str:
        """The name of its class."""
        return gemm_class(self.epilogue, self.precision, (self.rows, self.columns), self.inner)


def gemm_classes(backend: CupyBackend) -> dict[str, list[Problem]]:
    """Return the trials of each class of matmuls that training uses on the backend's device."""
    problems = []
    for precision in _precisions(backend):
        for rows, columns, inner in product((_ROWS, 1), (_COLUMNS, 1), (_INNER, 1)):
            sizes = (rows, columns, inner)
            transposes = ((False, False), (False, True), (True, False))
            problems += [Problem("DEFAULT", precision, *sizes, *transposed) for transposed in transposes]
            names = [name for name in _FORWARD if columns > 1 or "GELU_AUX" not in name]
            problems += [Problem(name, precision, *sizes) for name in names]
        problems += [Problem(name, precision, transpose_b=True) for name in ("DRELU", "DGELU")]
        problems += [Problem("BGRADA", precision, inner=inner, transpose_a=True) for inner in (_INNER, _LARGE_INNER)]
    classes: dict[str, list[Problem]] = {}
    for problem in problems:
        classes.setdefault(problem.class_name, []).append(problem)
    return classes


def _precisions(backend: CupyBackend) -> list[str]:
    precisions = ["float32", "float16"]
    if backend.is_ampere_or_later:
        precisions.append("tf32")
        with suppress(ImportError):  # which training in bfloat16 needs
            importlib.import_module("ml_dtypes")
            precisions.append("bfloat16")
    return precisions


def first_error(backend: CupyBackend, problems: Iterable[Problem]) -> str | None:
    """Return the first error in the results of matmuls; None if all are right, or cuBLASLt has no plan for them.

    From then on the backend does not use their class, which other trials may depend on.
    """
    for problem in problems:
        if error := _Trial(backend, problem).error():
            backend.refused_gemms[problem.class_name] = error
            return error
    return None


class _Trial:
    """A matmul of random factors. Column 0 before the epilogue is 0 and the last row NaN, where there are others."""

    def __init__(self, backend: CupyBackend, problem: Problem) -> None:
        self._backend = backend
        self._problem = problem
        self._dtype = np.dtype("float32" if problem.precision == "tf32" else problem.precision)
        self._random = np.random.default_rng(1)

    def error(self) -> str | None:
        epilogue, _, rows, columns, inner, *_ = self._problem
        a, b, bias = self._normal(rows, inner), self._normal(inner, columns), self._normal(columns)
        is_forward = epilogue in ("DEFAULT", *_FORWARD)
        if is_forward and columns > 1:
            b[:, 0] = bias[0] = 0
        if is_forward and rows > 1:
            a[-1, 0] = np.nan
        is_gradient_of_weights = self._problem.transpose_a
        out = self._backend.empty((rows, columns), np.float32 if is_gradient_of_weights else self._dtype)
        plain = a.astype(np.float64) @ b.astype(np.float64)
        if plain.size == 1:  # a single result is negative, since ReLU keeps others
            a, plain = (-a, -plain) if plain > 0 else (a, plain)
        further = self._further(plain, b, bias)
        if further is None:
            return None
        expected, arguments, also_expected = further
        if not self._run(epilogue, a, b, out, **arguments):
            return None
        for name, values in {"out": expected, **also_expected}.items():
            actual = self._backend.to_host({"out": out, **arguments}[name]).astype(np.float64)
            may_be_0 = "RELU" in epilogue and is_forward  # in place of a NaN
            if difference := _difference(actual, values, inner, may_be_0):
                return f"{name} {difference}"
        return None

    def _further(
        self, plain: np.ndarray, b: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, dict[str, Array], dict[str, np.ndarray]] | None:
        """Return the expected result, the arrays of the epilogue, and what is expected of those.

        None if the signs that DRELU reads cannot be made.
        """
        epilogue, backend = self._problem.epilogue, self._backend
        arguments: dict[str, Array] = {}
        if "BIAS" in epilogue:
            arguments["vector"] = backend.from_host(bias)
            plain = plain + bias
        if "RELU_AUX" in epilogue:
            arguments["auxiliary"] = backend.empty(n_sign_bytes(*plain.shape), np.uint8)
        match epilogue:
            case "DRELU":
                made = self._signs()
                return made and (np.where(made[0] > 0, plain, 0), {"auxiliary": made[1]}, {})
            case "DGELU":
                x = self._normal(*plain.shape)
                gradient = np.empty_like(plain)
                OPS["gelu_tanh_backward"].reference(x.astype(np.float64), plain, gradient)
                return gradient, {"auxiliary": backend.from_host(x)}, {}
            case "BGRADA":
                sums = backend.empty(plain.shape[1], np.float32)
                return plain, {"vector": sums}, {"vector": b.astype(np.float64).sum(axis=0)}
            case _ if "GELU" in epilogue:
                y = np.empty_like(plain)
                OPS["gelu_tanh_forward"].reference(plain, y)
                if "AUX" not in epilogue:
                    return y, arguments, {}
                return y, {**arguments, "auxiliary": backend.empty(plain.shape, self._dtype)}, {"auxiliary": plain}
            case _:
                return (np.maximum(plain, 0) if "RELU" in epilogue else plain), arguments, {}

    def _signs(self) -> tuple[np.ndarray, Array] | None:
        """Return values, and their signs from a forward epilogue; None if no such epilogue can be used.

        The values are whole numbers, many of them 0: rounding to TF32 or 16 bits changes none, hence no sign.
        """
        rows, columns, inner = self._problem[2:5]
        x, weight = (
            self._random.integers(-2, 3, shape).astype(self._dtype) for shape in ((rows, inner), (inner, columns))
        )
        bias = np.zeros(columns, self._dtype)
        vector, y = self._backend.from_host(bias), self._backend.empty((rows, columns), self._dtype)
        signs = self._backend.empty(n_sign_bytes(rows, columns), np.uint8)
        forward = self._problem._replace(transpose_b=False)
        for epilogue, arguments in (("RELU_AUX_BIAS", {"vector": vector}), ("RELU_AUX", {})):
            trial = _Trial(self._backend, forward._replace(epilogue=epilogue))
            if trial._run(epilogue, x, weight, y, auxiliary=signs, **arguments):
                return x.astype(np.float64) @ weight.astype(np.float64), signs
        return None

    def _run(self, epilogue: str, a: np.ndarray, b: np.ndarray, out: Array, **arguments: Array) -> bool:
        """Run the matmul; return False if cuBLASLt has no plan for it."""
        problem = self._problem
        call = self._backend.fast_gemm(
            a=self._backend.from_host(a.T if problem.transpose_a else a),
            b=self._backend.from_host(b.T if problem.transpose_b else b),
            out=out,
            transpose_a=problem.transpose_a,
            transpose_b=problem.transpose_b,
            tf32=problem.precision == "tf32",
            epilogue=epilogue,
            **arguments,
        )
        with self._backend.running():
            if call is not None:
                call()
            self._backend.synchronize()  # raises here if the matmul lost the device, even while it was planned
        return call is not None

    def _normal(self, *shape: int) -> Any:
        return self._random.standard_normal(shape).astype(self._dtype)


def _difference(actual: np.ndarray, expected: np.ndarray, terms: int, may_be_0: bool) -> str | None:
    """Return the difference of sums of ``terms`` products from the expected ones; None if they are near enough."""
    nan = np.isnan(expected)
    if not (np.isnan(actual[nan]) | (may_be_0 & (actual[nan] == 0))).all():
        return "hides NaN"
    error = abs(actual - expected)[~nan]
    if (error <= _TOLERANCE * (1 + np.sqrt(terms) + abs(expected[~nan]))).all():
        return None
    return f"is off by {error.max():.2g}"
