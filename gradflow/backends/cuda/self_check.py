"""Self-check on first use of a device: matmuls with epilogues are compared with the definitions before use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradflow.errors import BackendError, FileFormatError
from gradflow.files import read_json, write_json
from gradflow.ops import OPS

if TYPE_CHECKING:
    from gradflow.backends.cuda.backend import CupyBackend

# Rows, inputs, units, outputs, including a single output and batches of one row.
_SHAPES = ((64, 32, 48, 10), (33, 20, 40, 1), (1, 20, 40, 3), (7, 1, 5, 1))
_TOLERANCE = 1e-2
"""Wrong kernels are off by more than this, rounding from float32 to TF32 by less."""


def cache_file() -> Path:
    """Return the file that caches the results, in XDG_CACHE_HOME or else ~/.cache."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "gradflow" / "self-check.json"


def check_gemms(backend: CupyBackend) -> None:
    """Disable cuBLASLt on the backend, with a warning, if its results are wrong on this device.

    The check runs once for each device, driver and version of cuBLASLt and gradflow.
    """
    identity = backend.gemm_identity
    if identity is None:
        return
    known: dict[str, str | None] = {}
    with contextlib.suppress(OSError, FileFormatError):  # a damaged cache is recomputed
        known = read_json(cache_file())
    if identity not in known:
        known[identity] = disagreement(backend)
        with contextlib.suppress(OSError):  # without a cache, the check runs again
            cache_file().parent.mkdir(parents=True, exist_ok=True)
            write_json(cache_file(), known)
    if known[identity] is not None:
        backend.refuse_fast_gemms(BackendError(f"its self-check failed: {known[identity]}"))


def disagreement(backend: CupyBackend) -> str | None:
    """Compare a dense layer with ReLU, forward and backward, with its definition; return the first error, or None."""
    for shape in _SHAPES:
        rows, n_in, n, n_out = shape
        random = np.random.default_rng(0)
        host = {
            name: random.standard_normal(size).astype(np.float32)
            for name, size in {
                "x": (rows, n_in), "weight": (n_in, n), "bias": (n,), "y": (rows, n),
                "next_weight": (n, n_out), "next_bias": (n_out,), "z": (rows, n_out),
                "d_y": (rows, n), "d_weight": (n_in, n), "d_bias": (n,),
            }.items()
        }  # fmt: skip
        device = {name: backend.from_host(array) for name, array in host.items()}
        calls: list[tuple[Any, ...]] = [
            ("gemm", "x", "weight", "y", False, False), ("add_bias", "y", "bias", "y"), ("relu_forward", "y", "y"),
            ("gemm", "y", "next_weight", "z", False, False), ("add_bias", "z", "next_bias", "z"),
            ("gemm", "z", "next_weight", "d_y", False, True), ("relu_backward", "y", "d_y", "d_y"),
            ("gemm", "x", "d_y", "d_weight", True, False), ("column_sum", "d_y", "d_bias"),
        ]  # fmt: skip
        on_device = []
        for name, *names in calls:
            op = OPS[name]
            op.reference(*(host.get(key, key) for key in names))
            on_device.append((op, op.arguments(*(device.get(key, key) for key in names))))
        bound = backend.bind_all(on_device)
        with backend.running():
            for call in bound:
                call()
        for name, expected in host.items():
            error = abs(backend.to_host(device[name]) - expected).max() / abs(expected).max()
            if not error < _TOLERANCE:
                return f"{name} of a dense layer of {n_in} inputs and {n} units, {rows} rows, is off by {error:.2g}"
    return None
