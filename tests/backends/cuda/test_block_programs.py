"""Epochs of several networks side by side, each in one thread block, in one launch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.errors import BackendError
from gradflow.layers.dense import gemm
from gradflow.program import Program
from gradflow.training.step.training_step import TrainingStep

pytestmark = pytest.mark.gpu

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((150, 6)).astype(np.float32)
LABELS = (X[:, 0] * X[:, 1] > 0).astype(np.int64)

MEMBERS: dict[str, tuple[list[int], dict[str, Any], Any, gf.Optimizer, int]] = {
    "adam": ([6, 16, 2], {}, "softmax_cross_entropy", gf.Adam(0.01), 32),
    "sgd": ([6, 40, 24, 2], {"activation": "gelu", "dropout": 0.2}, "softmax_cross_entropy", gf.SGD(0.1), 32),
    "scheduled": (
        [6, 8, 2],
        {"activation": "tanh"},
        gf.SoftmaxCrossEntropy(focal_gamma=2.0),
        gf.AdamW(gf.OneCycleSchedule(0.01)),
        50,
    ),
    "clipped": ([6, 70, 2], {"seed": 3}, "softmax_cross_entropy", gf.RMSprop(0.01), 64),
    "whole": ([6, 5, 2], {"activation": "selu"}, "softmax_cross_entropy", gf.Lion(0.01), 150),
}


def step_of(name: str, backend: str, dtype: str) -> TrainingStep:
    sizes, settings, loss, optimizer, batch_size = MEMBERS[name]
    network = gf.MLP(sizes, backend=backend, dtype=dtype, **settings)
    return TrainingStep.of(
        network, loss, optimizer, X.astype(dtype), LABELS, batch_size=batch_size, l2=1e-3, clip_norm=0.5
    )


def epochs_side_by_side(steps: list[TrainingStep], epochs: int) -> None:
    parts = [step.epoch.programs() or [] for step in steps]
    programs: list[Program] = [program for of_step in parts for program, _ in of_step]
    places = {id(program): place for place, program in enumerate(programs)}
    together = get_backend("cupy").block_programs([program.ops or [] for program in programs])
    for epoch in range(epochs):
        for step in steps:
            step.update.begin_epoch(epoch, gf.History(), 0)
            step.epoch.metrics.reset()
        together.run([[(places[id(program)], times) for program, times in of_step] for of_step in parts])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_epochs_are_those_of_each_network_alone(dtype: str) -> None:
    steps = [step_of(name, "cupy", dtype) for name in MEMBERS]
    epochs_side_by_side(steps, 2)
    for name, step in zip(MEMBERS, steps, strict=True):
        alone = step_of(name, "numpy", dtype)
        for epoch in range(2):
            alone.update.begin_epoch(epoch, gf.History(), 0)
            assert alone.run()
        tolerance = 2e-4 if dtype == "float32" else 1e-9
        losses = get_backend("cupy").to_host(step.epoch.results.losses)
        np.testing.assert_allclose(losses, alone.epoch.results.losses, rtol=tolerance, atol=tolerance)
        status, expected = step.status.read(), alone.status.read()
        assert status[:4] == expected[:4]
        np.testing.assert_allclose(status.training, expected.training, rtol=tolerance)


def test_an_epoch_of_all_is_one_launch() -> None:
    simgpu = pytest.importorskip("simgpu")
    parts = [step_of("adam", "cupy", "float32").epoch.programs() or [] for _ in range(7)]
    together = get_backend("cupy").block_programs([program.ops or [] for of_step in parts for program, _ in of_step])
    place = iter(range(100))
    blocks = [[(next(place), times) for _, times in of_step] for of_step in parts]
    simgpu.reset()
    together.run(blocks)
    stats = simgpu.stats()
    assert {name: kernel["count"] for name, kernel in stats["kernels"].items()} == {"run_programs": 1}
    assert (stats["h2d"]["count"], stats["syncs"]) == (1, 0)


def test_what_a_thread_block_cannot_run_is_refused() -> None:
    with pytest.raises(BackendError, match="the 'numpy' backend runs programs in turn, not side by side"):
        get_backend("numpy").block_programs([])
    backend = get_backend("cupy")
    a = backend.zeros((4, 4), np.float32)
    with pytest.raises(BackendError, match="in float32 or in float64, but the arrays are"):
        backend.block_programs([[(gemm, gemm.arguments(*[backend.zeros((4, 4), np.float16)] * 3))]])
    wide = backend.zeros((4, 4), np.float64)
    calls = [(gemm, gemm.arguments(a, a, backend.zeros((4, 4), np.float32))), (gemm, gemm.arguments(wide, wide, wide))]
    with pytest.raises(BackendError, match="'float32', 'float64'"):
        backend.block_programs([calls])
    unknown = gemm._replace(name="unheard_of")
    with pytest.raises(BackendError, match="op 'unheard_of' has no kernel that a thread block can run by itself"):
        backend.block_programs([[(unknown, gemm.arguments(a, a, a))]])
