"""The contestants: each trains the same network on the same batches from the same weights.

A contestant's module is imported only in the process that runs it, so that the threads of different libraries do not
interfere.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from typing import NamedTuple, Protocol

from benchmarks.networks import Network
from gradflow.backends.cpu.native import native_library
from gradflow.installation import installed_cupy

__all__ = [
    "CONTESTANTS",
    "GEMMS",
    "GPU_CONTESTANTS",
    "PEERS",
    "Contestant",
    "Entry",
    "GpuContestant",
    "contestant",
    "jax_for_gpu",
    "missing_package",
    "problem_with",
]


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


class GpuContestant(Contestant, Protocol):
    """A contestant with all of its arrays on a GPU; creating one raises an error where its library finds none."""

    def device_seconds(self) -> float:
        """Return the time to train on all batches once."""


class Entry(NamedTuple):
    """The class of a contestant: its name, its module, and the package that the module requires."""

    module: str
    class_name: str
    package: str

    def load(self) -> type:
        """Return the class; imports its library."""
        loaded: type = getattr(importlib.import_module(self.module), self.class_name)
        return loaded


def _entry(module: str, class_name: str, package: str) -> Entry:
    return Entry(f"{__name__}.{module}", class_name, package)


_ENTRIES = {
    "gradflow": _entry("with_gradflow", "Gradflow", "numpy"),
    "PyTorch": _entry("with_torch", "EagerTorch", "torch"),
    "PyTorch, compiled": _entry("with_torch", "CompiledTorch", "torch"),
    "JAX": _entry("with_jax", "Jax", "jax"),
    "scikit-learn": _entry("with_sklearn", "Sklearn", "sklearn"),
    "GEMMs, gradflow's BLAS": _entry("gemms", "GradflowGemms", "numpy"),
    "GEMMs, NumPy": _entry("gemms", "NumpyGemms", "numpy"),
}
_ON_ONE_THREAD = {
    "gradflow, one thread": _entry("with_gradflow", "GradflowOnOneThread", "numpy"),
    "PyTorch, one thread": _entry("with_torch", "EagerTorchOnOneThread", "torch"),
}
GPU_CONTESTANTS = {
    "gradflow": _entry("on_gpu", "GradflowOnGpu", "cupy"),
    "gradflow, TF32": _entry("on_gpu", "GradflowInTf32", "cupy"),
    "gradflow, bfloat16": _entry("on_gpu", "GradflowInBfloat16", "cupy"),
    "PyTorch": _entry("torch_on_gpu", "EagerTorchOnGpu", "torch"),
    "PyTorch, CUDA graph": _entry("torch_on_gpu", "GraphedTorchOnGpu", "torch"),
    "PyTorch, bfloat16": _entry("torch_on_gpu", "AutocastTorchOnGpu", "torch"),
    "PyTorch, CUDA graph, bfloat16": _entry("torch_on_gpu", "GraphedAutocastTorchOnGpu", "torch"),
    "JAX": _entry("jax_on_gpu", "JaxOnGpu", "jax"),
    "JAX, scan": _entry("jax_on_gpu", "ScannedJaxOnGpu", "jax"),
    "PyTorch, compiled": _entry("torch_on_gpu", "CompiledTorchOnGpu", "torch"),
}
"""The contestants that train on a GPU, each a `GpuContestant`; the one that takes long to prepare comes last."""
CONTESTANTS = tuple(_ENTRIES)
"""Names of the contestants that train on the CPU with the threads that they choose."""
_ENTRIES |= _ON_ONE_THREAD
GEMMS = tuple(name for name in CONTESTANTS if name.startswith("GEMMs"))
"""Contestants that only compute the GEMMs of a step: a lower bound for any implementation on the same BLAS."""
PEERS = tuple(name for name in CONTESTANTS if name not in (*GEMMS, "gradflow"))
"""The other libraries."""


def problem_with(name: str) -> str | None:
    """Return why a contestant cannot be measured on the CPU here, or None if it can."""
    if problem := missing_package(_ENTRIES[name]):
        return problem
    if name == "PyTorch, compiled" and shutil.which("g++") is None and shutil.which("clang++") is None:
        return "torch.compile needs a C++ compiler, and there is none"
    if name == "GEMMs, gradflow's BLAS" and getattr(native_library(), "blas", None) is None:
        return "there is no BLAS that gradflow's compiled kernels can call; gradflow info says why"
    return None


def missing_package(entry: Entry) -> str | None:
    """Return the reason if the package of a contestant is missing; None if it is installed."""
    is_installed = importlib.util.find_spec(entry.package) is not None
    return None if is_installed else f"{entry.package} is not installed; install the extra peers"


def jax_for_gpu() -> str:
    """Return the requirement for a JAX with the CUDA of the installed CuPy."""
    return "jax[cuda13]" if installed_cupy() == "cupy-cuda13x" else "jax[cuda12]"


def contestant(name: str, network: Network, optimizer: str) -> Contestant:
    """Return a fresh contestant that trains on the CPU; imports its library."""
    made: Contestant = _ENTRIES[name].load()(network, optimizer)
    return made
