"""Comparison of matmuls and their epilogues with NumPy in float64, as a training step uses them in each precision.

The values are small integers. Their matmuls are exact in every precision, in any order of summation, so that each
element is compared, not a norm; and many pre-activations are exactly zero, where a derivative of ReLU can go wrong.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from gradflow.backends.cuda.epilogues import TF32
from gradflow.backends.reference import ReferenceBackend
from gradflow.doctor.findings import Check, checked
from gradflow.errors import BackendError
from gradflow.layers.dense import add_bias, column_sum, gemm
from gradflow.layers.gelu import gelu_tanh_backward, gelu_tanh_forward
from gradflow.layers.relu import relu_backward, relu_forward
from gradflow.ops import Array
from gradflow.program import Recorder

_SIZES = (
    (1, 7, 5, 3),
    (7, 1, 5, 1),
    (64, 32, 48, 10),
    (33, 65, 129, 10),
    (100, 70, 1000, 129),
    (128, 784, 512, 256),
    (65_536, 64, 64, 64),
)
"""Rows, inputs, units and outputs of two layers: one of each, odd ones, widths above the 128 bits of a row of signs,
and weight gradients that are sums over many rows."""
_N_QUICK = 4

_GELU_TOLERANCES = {"float32": 1e-2, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 3e-2}
"""Of the largest element: cuBLASLt does not say how exact its GELU is."""


def precisions(backend: ReferenceBackend) -> dict[str, tuple[str, Any]]:
    """Return the precisions that can be used on a device: the name of the matmul, and the dtype of activations."""
    found: dict[str, tuple[str, Any]] = {
        "float64": (gemm.name, np.float64),
        "float32": (gemm.name, np.float32),
        "tf32": (TF32, np.float32),
        "float16": (gemm.name, np.float16),
    }
    with contextlib.suppress(BackendError):
        backend.check_precision("bfloat16")
        found["bfloat16"] = gemm.name, importlib.import_module("ml_dtypes").bfloat16
    return found


def check_gemms(backend: ReferenceBackend, *, quick: bool) -> Iterator[Check]:
    """Check the matmuls of dense layers, forward and backward, as in a training step: with their epilogues.

    Args:
        backend: the backend to check.
        quick: True for small layers only.
    """
    yield from _check_precise(backend)
    for sizes in _SIZES[: _N_QUICK if quick else None]:
        rows, *widths = sizes
        layers = f"layers {'-'.join(map(str, widths))}, batch {rows}"
        for precision in precisions(backend):
            name = f"{layers}, ReLU, {precision}"
            yield checked("products", name, partial(_check_relu, backend, sizes, precision))
            if precision in _GELU_TOLERANCES:
                name = f"{layers}, GELU, {precision}"
                yield checked("products", name, partial(_check_gelu, backend, sizes, precision))
    for precision in precisions(backend):
        name = f"NaN among pre-activations, {precision}"
        yield checked("products", name, partial(_check_nan, backend, _SIZES[3], precision))


def _check_precise(backend: ReferenceBackend) -> Iterator[Check]:
    """Check that matmuls of float32 and float64 are not computed in less."""
    for name in ("float32", "float64"):
        yield checked("products", f"300 x 500 x 200 of random numbers, {name}", partial(_check_rounding, backend, name))


def _check_rounding(backend: ReferenceBackend, dtype: str) -> None:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(dtype) for shape in ((300, 500), (500, 200)))
    out = backend.empty((300, 200), dtype)
    recorder = Recorder(backend)
    recorder(gemm, backend.from_host(a), backend.from_host(b), out)
    recorder.program().run()
    # Sums of 500 products: each is rounded by at most half a unit in the last place of a sum of this size.
    allowed = 500 * np.finfo(dtype).eps * np.sqrt(500)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(backend.to_host(out), expected, rtol=0, atol=allowed)


def _check_relu(backend: ReferenceBackend, sizes: tuple[int, int, int, int], precision: str) -> None:
    host = _integers(*sizes)
    actual = _computed(backend, host, precision, relu_forward, relu_backward)
    expected = _expected(host, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0))
    for name, array in actual.items():
        epsilon = 2.0**-7 if array.dtype.name == "bfloat16" else float(np.finfo(array.dtype).eps)
        np.testing.assert_allclose(array.astype(np.float64), expected[name], rtol=epsilon, atol=0, err_msg=name)


def _check_gelu(backend: ReferenceBackend, sizes: tuple[int, int, int, int], precision: str) -> None:
    host = _integers(*sizes)
    host["x"] /= 4  # pre-activations where GELU bends, still exact
    actual = _computed(backend, host, precision, gelu_tanh_forward, gelu_tanh_backward)
    expected = _expected(host, _gelu, _gelu_derivative)
    for name, array in actual.items():
        size = abs(expected[name]).max()
        error = abs(array.astype(np.float64) - expected[name]).max()
        assert error <= _GELU_TOLERANCES[precision] * size, (
            f"{name} is off by {error / size:.2g} of its largest element"
        )


def _check_nan(backend: ReferenceBackend, sizes: tuple[int, int, int, int], precision: str) -> None:
    """Check that NaN in one unit, where an epilogue may write 0, leaves the outputs and gradients of others alone."""
    host, unit = _integers(*sizes), 3
    host["bias"][unit] = np.nan
    actual = _computed(backend, host, precision, relu_forward, relu_backward)
    expected = _expected(host, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0))
    outputs = actual["h"][:, unit].astype(np.float64)
    assert np.all(np.isnan(outputs)) or np.all(outputs == 0), f"outputs of NaN: {outputs[:3]}"
    for name in ("h", "d_h", "d_weight"):
        computed, defined = (
            np.delete(array.astype(np.float64), unit, axis=1) for array in (actual[name], expected[name])
        )
        np.testing.assert_array_equal(computed, defined, err_msg=name)


def _integers(rows: int, n_in: int, n: int, n_out: int) -> dict[str, np.ndarray]:
    """Return inputs and parameters of two layers, and dL/dz, of -1, 0 and 1."""
    random = np.random.default_rng(0)
    shapes = {
        "x": (rows, n_in), "weight": (n_in, n), "bias": (n,),
        "next_weight": (n, n_out), "next_bias": (n_out,), "d_z": (rows, n_out),
    }  # fmt: skip
    return {name: random.integers(-1, 2, shape).astype(np.float64) for name, shape in shapes.items()}


def _computed(
    backend: ReferenceBackend, host: Mapping[str, np.ndarray], precision: str, forward: Any, backward: Any
) -> dict[str, np.ndarray]:
    """Return what a step of two layers writes on the backend: as in training, gradients are not in 16 bits."""
    product, dtype = precisions(backend)[precision]
    matmul = gemm._replace(name=product)
    a: dict[str, Array] = {name: backend.from_host(array.astype(dtype)) for name, array in host.items()}
    (rows, n_in), (n, n_out) = host["x"].shape, host["next_weight"].shape
    wide = np.float64 if dtype is np.float64 else np.float32
    made: dict[str, Array] = {
        "h": backend.empty((rows, n), dtype),
        "z": backend.empty((rows, n_out), dtype),
        "d_h": backend.empty((rows, n), dtype),
        "d_next_weight": backend.empty((n, n_out), wide),
        "d_next_bias": backend.empty(n_out, wide),
        "d_weight": backend.empty((n_in, n), wide),
        "d_bias": backend.empty(n, wide),
    }
    h, z, d_h = made["h"], made["z"], made["d_h"]
    pre = h if forward is relu_forward else backend.empty((rows, n), dtype)
    ops = Recorder(backend)
    ops(matmul, a["x"], a["weight"], pre)
    ops(add_bias, pre, a["bias"], pre)
    ops(forward, pre, h)
    ops(matmul, h, a["next_weight"], z)
    ops(add_bias, z, a["next_bias"], z)
    ops(matmul, h, a["d_z"], made["d_next_weight"], transpose_a=True)
    ops(column_sum, a["d_z"], made["d_next_bias"])
    ops(matmul, a["d_z"], a["next_weight"], d_h, transpose_b=True)
    ops(backward, pre, d_h, d_h)
    ops(matmul, a["x"], d_h, made["d_weight"], transpose_a=True)
    ops(column_sum, d_h, made["d_bias"])
    ops.program().run()
    return {name: backend.to_host(array) for name, array in made.items()}


@np.errstate(invalid="ignore")
def _expected(host: Mapping[str, np.ndarray], activation: Any, derivative: Any) -> dict[str, np.ndarray]:
    """Return the same in float64 by NumPy."""
    pre = host["x"] @ host["weight"] + host["bias"]
    h = activation(pre)
    d_h = host["d_z"] @ host["next_weight"].T * derivative(pre)
    return {
        "h": h,
        "z": h @ host["next_weight"] + host["next_bias"],
        "d_h": d_h,
        "d_next_weight": h.T @ host["d_z"],
        "d_next_bias": host["d_z"].sum(axis=0),
        "d_weight": host["x"].T @ d_h,
        "d_bias": d_h.sum(axis=0),
    }


def _gelu(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = x * (1 + np.tanh(_inner(x))) / 2
    return y


def _gelu_derivative(x: np.ndarray) -> np.ndarray:
    tanh = np.tanh(_inner(x))
    slope = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    y: np.ndarray = (1 + tanh) / 2 + x * (1 - tanh**2) / 2 * slope
    return y


def _inner(x: np.ndarray) -> np.ndarray:
    y: np.ndarray = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return y
