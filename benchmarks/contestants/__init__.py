"""The contestants: each trains the same network on the same batches from the same weights.

A contestant's module is imported only in the process that runs it, so that the threads of different libraries do not
interfere.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from typing import Protocol

from benchmarks.networks import Network
from gradflow.backends.availability import gpu_problem
from gradflow.backends.cpu.native import native_library

__all__ = ["CONTESTANTS", "GEMMS", "GPU_CONTESTANTS", "PEERS", "Contestant", "contestant", "problem_with"]


class Contestant(Protocol):
    """A network with an optimizer in one library, ready to train."""

    def train(self) -> None:
        """Train on all batches of `Network.data` once, in order, and wait until all work is done."""

    def losses(self, steps: int) -> list[float]:
        """Return the mean loss of each of the given number of single steps over the first batches, starting from the
        initial weights.

        Must be called on a fresh contestant.
        """

    def predict_one(self) -> None:
        """Compute the logits for one row, from a NumPy array to a NumPy array."""


_MODULES = {  # name: module, class, required package
    "gradflow": ("with_gradflow", "Gradflow", "numpy"),
    "PyTorch": ("with_torch", "EagerTorch", "torch"),
    "PyTorch, compiled": ("with_torch", "CompiledTorch", "torch"),
    "JAX": ("with_jax", "Jax", "jax"),
    "scikit-learn": ("with_sklearn", "Sklearn", "sklearn"),
    "GEMMs, gradflow's BLAS": ("gemms", "GradflowGemms", "numpy"),
    "GEMMs, NumPy": ("gemms", "NumpyGemms", "numpy"),
}
_ON_ONE_THREAD = {
    "gradflow, one thread": ("with_gradflow", "GradflowOnOneThread", "numpy"),
    "PyTorch, one thread": ("with_torch", "EagerTorchOnOneThread", "torch"),
}
_ON_GPU = {
    "gradflow": ("on_gpu", "GradflowOnGpu", "cupy"),
    "PyTorch": ("torch_on_gpu", "EagerTorchOnGpu", "torch"),
    "PyTorch, compiled": ("torch_on_gpu", "CompiledTorchOnGpu", "torch"),
    "PyTorch, CUDA graph": ("torch_on_gpu", "GraphedTorchOnGpu", "torch"),
    "JAX": ("jax_on_gpu", "JaxOnGpu", "jax"),
}
CONTESTANTS = tuple(_MODULES)
"""Names of the contestants that train on the CPU with the threads that they choose."""
_MODULES |= _ON_ONE_THREAD
_MODULES |= {f"{name} (GPU)": entry for name, entry in _ON_GPU.items()}
GPU_CONTESTANTS = tuple(f"{name} (GPU)" for name in _ON_GPU)
"""Names of the contestants that train on a GPU; they also have `device_seconds`."""
GEMMS = tuple(name for name in CONTESTANTS if name.startswith("GEMMs"))
"""Contestants that only compute the GEMMs of a step: a lower bound for any implementation on the same BLAS."""
PEERS = tuple(name for name in CONTESTANTS if name not in (*GEMMS, "gradflow"))
"""The other libraries."""


def problem_with(name: str) -> str | None:
    """Return why a contestant cannot be measured here, or None if it can."""
    package = _MODULES[name][2]
    if importlib.util.find_spec(package) is None:
        return f"{package} is not installed; install the extra peers"
    if name in GPU_CONTESTANTS and (problem := _problem_on_gpu(package)):
        return problem
    if name == "PyTorch, compiled" and shutil.which("g++") is None and shutil.which("clang++") is None:
        return "torch.compile needs a C++ compiler, and there is none"
    if name == "GEMMs, gradflow's BLAS" and getattr(native_library(), "blas", None) is None:
        return "there is no BLAS that gradflow's compiled kernels can call; gradflow info says why"
    return None


def _problem_on_gpu(package: str) -> str | None:
    if problem := gpu_problem():
        return problem
    if package == "torch" and not importlib.import_module("torch").cuda.is_available():
        return "this PyTorch finds no GPU; install its build for CUDA"
    if package == "jax" and importlib.import_module("jax").default_backend() != "gpu":
        return "this JAX finds no GPU; install jax[cuda12]"
    return None


def contestant(name: str, network: Network, optimizer: str) -> Contestant:
    """Return a fresh contestant; imports its library."""
    module, class_name, _ = _MODULES[name]
    made: Contestant = getattr(importlib.import_module(f"benchmarks.contestants.{module}"), class_name)(
        network, optimizer
    )
    return made
