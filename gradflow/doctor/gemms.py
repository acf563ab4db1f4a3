"""Comparison of matmuls and their epilogues with NumPy in float64."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.doctor.findings import Check, checked
from gradflow.layers.dense import add_bias, column_sum, gemm
from gradflow.layers.relu import relu_backward, relu_forward
from gradflow.ops import Array
from gradflow.program import Recorder

_SHAPES = ((1, 7, 1), (32, 64, 10), (33, 65, 129), (128, 784, 512), (256, 1024, 1))
"""Rows, inputs and outputs of a layer, including one output, one row, and odd sizes."""


def check_gemms(backend: ReferenceBackend, *, quick: bool) -> Iterator[Check]:
    """Check the matmuls of a dense layer, forward and backward, as in a training step: with their epilogues.

    Args:
        backend: the backend to check.
        quick: True for small layers only.
    """
    for (rows, n_in, n_out), dtype in product(_SHAPES[:3] if quick else _SHAPES, ("float32", "float64")):
        name = f"layer {n_in}-{n_out}, batch {rows}, {dtype}"
        yield checked("products", name, partial(_check_layer, backend, rows, n_in, n_out, dtype))


def _check_layer(backend: ReferenceBackend, rows: int, n_in: int, n_out: int, dtype: str) -> None:
    """Check a step of a dense layer with ReLU that follows another layer with ReLU."""
    random = np.random.default_rng(0)
    host = {
        "x": np.maximum(random.standard_normal((rows, n_in)), 0),
        "weight": random.standard_normal((n_in, n_out)),
        "bias": random.standard_normal(n_out),
        "d_y": random.standard_normal((rows, n_out)),
    }
    host = {name: array.astype(dtype) for name, array in host.items()}
    on_device: dict[str, Array] = {name: backend.from_host(array) for name, array in host.items()}
    made = {
        "y": backend.empty((rows, n_out), dtype),
        "d_weight": backend.empty((n_in, n_out), dtype),
        "d_bias": backend.empty(n_out, dtype),
        "d_x": backend.empty((rows, n_in), dtype),
    }
    recorder = Recorder(backend)
    x, weight, d_y, y, d_x = on_device["x"], on_device["weight"], on_device["d_y"], made["y"], made["d_x"]
    recorder(gemm, x, weight, y)
    recorder(add_bias, y, on_device["bias"], y)
    recorder(relu_forward, y, y)
    recorder(gemm, x, d_y, made["d_weight"], transpose_a=True)
    recorder(column_sum, d_y, made["d_bias"])
    recorder(gemm, d_y, weight, d_x, transpose_b=True)
    recorder(relu_backward, x, d_x, d_x)
    recorder.program().run()
    exact: dict[str, Any] = {name: array.astype(np.float64) for name, array in host.items()}
    expected = {
        "y": np.maximum(exact["x"] @ exact["weight"] + exact["bias"], 0),
        "d_weight": exact["x"].T @ exact["d_y"],
        "d_bias": exact["d_y"].sum(axis=0),
        "d_x": np.where(exact["x"] > 0, exact["d_y"] @ exact["weight"].T, 0),
    }
    # Sums of `terms` products: each is rounded by at most a unit in the last place of a sum of this size.
    terms = {"y": n_in + 1, "d_weight": rows, "d_bias": rows, "d_x": n_out}
    for name, array in made.items():
        size = np.sqrt(terms[name]) * 4
        allowed = (terms[name] + 4) * np.finfo(dtype).eps * size
        np.testing.assert_allclose(backend.to_host(array), expected[name], rtol=0, atol=allowed, err_msg=name)
