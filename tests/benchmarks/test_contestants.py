"""Contestants train the same network: their losses agree, and a wrong one is found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks.contestants import CONTESTANTS, GEMMS, contestant, jax_for_gpu, problem_with
from benchmarks.contestants.gemms import GradflowGemms, NumpyGemms
from benchmarks.networks import NETWORKS, Network
from benchmarks.worker import Worker, WorkerError
from gradflow.backends.cpu.native import native_library

_NETWORK = Network("test", (6, 8, 5, 3), batch_size=4, steps=10)
_REGRESSION = Network("test", (6, 8, 5, 1), batch_size=4, steps=10)


def _losses_in_numpy(network: Network, optimizer: str) -> list[float]:
    """Train ten steps in float64; written for networks of three layers."""
    parameters = [array.astype(np.float64) for pair in network.initial_parameters() for array in pair]
    m, v = ([np.zeros_like(w) for w in parameters] for _ in range(2))
    measured = []
    for step, (x, targets) in enumerate(network.batches(), start=1):
        w1, b1, w2, b2, w3, b3 = parameters
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        outputs = h2 @ w3 + b3
        if network.is_regression:
            d3 = (outputs - targets) / len(x)
            measured.append(((outputs - targets) ** 2).mean() / 2)
        else:
            d3 = np.exp(outputs)
            d3 /= d3.sum(axis=1, keepdims=True)
            rows = np.arange(len(x))
            measured.append(-np.log(d3[rows, targets]).mean())
            d3[rows, targets] -= 1
            d3 /= len(x)
        d2 = (d3 @ w3.T) * (h2 > 0)
        d1 = (d2 @ w2.T) * (h1 > 0)
        gradients = [x.T @ d1, d1.sum(axis=0), h1.T @ d2, d2.sum(axis=0), h2.T @ d3, d3.sum(axis=0)]
        for index, g in enumerate(gradients):
            if optimizer == "sgd":
                parameters[index] -= 0.01 * g
                continue
            m[index] = 0.9 * m[index] + 0.1 * g
            v[index] = 0.999 * v[index] + 0.001 * g**2
            root = np.sqrt(v[index] / (1 - 0.999**step)) + 1e-8
            parameters[index] -= 0.001 * m[index] / (1 - 0.9**step) / root
    return measured


@pytest.mark.parametrize("network", [_NETWORK, _REGRESSION], ids=["classes", "values"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.peers] if name == "PyTorch" else [])
        for name in CONTESTANTS
        if name not in (*GEMMS, "PyTorch, compiled")
    ],
)
def test_ten_steps_give_the_same_losses(name: str, optimizer: str, network: Network) -> None:
    if problem := problem_with(name):
        pytest.skip(problem)
    with Worker(name, network, optimizer) as worker:
        measured = worker.losses(10)
        # float32 sums of at most eight terms: some 1e-7 in each of ten steps.
        assert_allclose(measured, _losses_in_numpy(network, optimizer), rtol=2e-6)
        assert worker.seconds_per_step() > 0
        assert worker.seconds_per_prediction() > 0


@pytest.mark.skipif(native_library() is None, reason="gradflow's own gemm is one of the compiled kernels")
def test_the_gemms_are_those_of_the_step() -> None:
    for kind in (GradflowGemms, NumpyGemms):
        gemms = kind(_NETWORK, "sgd")
        flops = 0
        gemms.train()
        for a, b, out, transpose_a, transpose_b in gemms._gemms:
            left, right = a.T if transpose_a else a, b.T if transpose_b else b
            # At most eight terms, each of a few units.
            assert_allclose(out, left.astype(np.float64) @ right, rtol=1e-5, atol=1e-5)
            flops += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        assert flops == _NETWORK.gemm_flops


def test_jax_is_suggested_for_the_cuda_of_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    for cupy, jax in (("cupy-cuda12x", "jax[cuda12]"), ("cupy-cuda13x", "jax[cuda13]")):
        monkeypatch.setattr("benchmarks.contestants.installed_cupy", lambda cupy=cupy: cupy)
        assert jax_for_gpu() == jax


def test_requirements_of_a_network() -> None:
    small = NETWORKS["S"]
    assert small.n_parameters == contestant("gradflow", small, "adam")._network.n_parameters
    activations = 32 * (64 + 128 + 64 + 10)
    assert small.least_bytes("adam") == 4 * (4 * small.n_parameters + activations)
    assert small.least_bytes("sgd") == 4 * (2 * small.n_parameters + activations)
    x, labels = small.data()
    assert x.shape == (small.steps * small.batch_size, 64)
    assert (labels.min(), labels.max()) == (0, 9)
    assert_allclose(np.concatenate([batch for batch, _ in small.batches()]), x, rtol=0)


def test_a_contestant_that_cannot_be_made_says_why() -> None:
    with pytest.raises(WorkerError, match="KeyError: 'adagrad'"):
        Worker("gradflow", _NETWORK, "adagrad")
