"""Availability of the GPU backend, and the reason if it cannot be used."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

from gradflow.installation import cupy_conflict, pip_install_for_gpu, replace_cupy

_COMPUTE_CAPABILITY = (75, 76)  # cudaDevAttrComputeCapabilityMajor, ...Minor
_LEAST_OF_CUDA_13 = (7, 5)

FORKED = (
    "CUDA does not work in a process that was forked after its parent used a GPU; start processes with "
    "multiprocessing.get_context('spawn')"
)
"""The remedy for CUDA's "initialization error"."""


@cache
def gpu_problem() -> str | None:
    """Return the reason why the GPU cannot be used, with the remedy; None if it can."""
    problem = _problem()
    conflict = cupy_conflict() if problem else None
    return f"{problem}. {conflict}" if conflict else problem


def _problem() -> str | None:
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; with an NVIDIA GPU: {pip_install_for_gpu()}"
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken installation can raise anything
        return f"CuPy is installed but cannot be imported: {error}"
    return diagnose(cupy.cuda.runtime)


def diagnose(runtime: Any) -> str | None:
    """Return the reason why a CUDA runtime (``cupy.cuda.runtime``) cannot run kernels; None if it can."""
    try:
        driver = runtime.driverGetVersion()
    except Exception:
        driver = 0
    if driver == 0:
        return "no NVIDIA driver was found; install the driver for your GPU (nvidia-smi shows it once it works)"
    needed = runtime.runtimeGetVersion()
    if driver // 1000 < needed // 1000:
        other = replace_cupy(driver // 1000)
        return (
            f"the NVIDIA driver is too old: it supports CUDA {_version(driver)}, and this CuPy needs CUDA "
            f"{needed // 1000}; update the driver" + (f", or install a CuPy that supports it: {other}" if other else "")
        )
    try:
        count = runtime.getDeviceCount()
    except Exception as error:
        if "cudaErrorInitializationError" in str(error):
            return FORKED
        return f"the NVIDIA driver is installed, but finds no usable GPU: {error}"
    if count == 0:
        return "the NVIDIA driver is installed, but finds no GPU; CUDA_VISIBLE_DEVICES may hide it"
    major, minor = (runtime.deviceGetAttribute(attribute, 0) for attribute in _COMPUTE_CAPABILITY)
    if needed // 1000 >= 13 and (major, minor) < _LEAST_OF_CUDA_13:
        return (
            f"the GPU has compute capability {major}.{minor}, and CUDA 13 needs "
            f"{'.'.join(map(str, _LEAST_OF_CUDA_13))} or more; install a CuPy for CUDA 12: {replace_cupy(12)}"
        )
    return None


def _version(number: int) -> str:
    """Format a CUDA version number: 12040 as "12.4"."""
    return f"{number // 1000}.{number % 1000 // 10}"
