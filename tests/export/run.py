"""ONNX models, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

import gradflow as gf

_LEAST = {"float32": 1e-30, "float64": 1e-290}
"""Kernels and runtimes turn numbers that are not much smaller into 0."""


def run(network: gf.Sequential | gf.Ensemble, x: Any) -> list[np.ndarray]:
    """Return the outputs of the ONNX model of a network or an ensemble, for one tensor or for columns by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    content = gf.export.onnx_model(network).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, dict(x) if isinstance(x, Mapping) else {"x": x})
    return outputs


def ulps(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, in units of the last place of the largest expected value of its row.

    The other values of a row may be sums of larger terms, whose rounding they share.
    """
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    size = abs(expected).max(axis=1, keepdims=True)
    unit = np.spacing(np.maximum(size, np.array(_LEAST[expected.dtype.name], expected.dtype)))
    return float((abs(found.astype(np.float64) - expected.astype(np.float64)) / unit).max())
