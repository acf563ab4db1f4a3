"""Whole training steps on the CPU, by network, optimizer, dtype and kernels: python -m pytest benchmarks/test_steps.py.

A run is one epoch over the network's data, shuffling included, as in `Trainer.fit`.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import gradflow as gf
from benchmarks.networks import NETWORKS
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import native_library
from gradflow.training.step.training_step import TrainingStep

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=3, warmup=True, warmup_iterations=1)


@pytest.mark.parametrize("kernels", ["compiled", "NumPy", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["gradient_descent", "sgd", "adam", "adamw"])
@pytest.mark.parametrize("name", NETWORKS)
def test_step(benchmark: BenchmarkFixture, name: str, optimizer: str, dtype: str, kernels: str) -> None:
    described = NETWORKS[name]
    backend = "reference" if kernels == "reference" else "numpy"
    network = gf.MLP(list(described.sizes), dtype=dtype, backend=backend)
    if kernels == "compiled" and native_library() is None:
        pytest.skip("gradflow was installed without compiled kernels")
    if kernels == "NumPy":
        network.backend = NumpyBackend(None)  # users choose this with GRADFLOW_NATIVE=0 for a whole process
    step = TrainingStep.of(
        network, "softmax_cross_entropy", optimizer, *described.data(), batch_size=described.batch_size
    )
    benchmark(step.run)
    if benchmark.stats is None:
        return  # --benchmark-disable ran it once, to check that it works
    seconds = benchmark.stats["median"] / described.steps
    benchmark.extra_info |= {
        "µs per step": round(1e6 * seconds, 1),
        "GFLOP/s of the GEMMs": round(described.gemm_flops / seconds / 1e9, 2),
    }
