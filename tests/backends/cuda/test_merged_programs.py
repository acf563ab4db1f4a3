"""Programs of one shape, each kernel of which is launched once for all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.errors import BackendError
from gradflow.layers.dense import gemm
from gradflow.ops import OPS
from gradflow.training.step.training_step import TrainingStep

pytestmark = pytest.mark.gpu

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((150, 6)).astype(np.float32)
LABELS = (X[:, 0] * X[:, 1] > 0).astype(np.int64)

SETTINGS: dict[str, tuple[list[int], dict[str, Any], Any, list[gf.Optimizer], int]] = {
    "adam": (
        [6, 70, 40, 2],
        {},
        "softmax_cross_entropy",
        [gf.Adam(0.01), gf.Adam(0.03), gf.Adam(0.002, beta1=0.8)],
        32,
    ),
    "sgd": (
        [6, 40, 2],
        {"activation": "gelu", "dropout": 0.2},
        "softmax_cross_entropy",
        [gf.SGD(0.1), gf.SGD(0.3)],
        32,
    ),
    "scheduled": (
        [6, 8, 2],
        {"activation": "tanh"},
        gf.SoftmaxCrossEntropy(focal_gamma=2.0),
        [gf.AdamW(gf.OneCycleSchedule(0.01)), gf.AdamW(gf.OneCycleSchedule(0.02))],
        50,
    ),
    "whole": ([6, 5, 2], {"activation": "selu"}, "softmax_cross_entropy", [gf.Lion(0.01), gf.Lion(0.003)], 150),
}


def steps_of(name: str, backend: str, dtype: str) -> list[TrainingStep]:
    sizes, settings, loss, optimizers, batch_size = SETTINGS[name]
    networks = [gf.MLP(sizes, backend=backend, dtype=dtype, seed=seed, **settings) for seed in range(len(optimizers))]
    return [
        TrainingStep.of(
            network, loss, optimizer, X.astype(dtype), LABELS, batch_size=batch_size, l2=1e-3, clip_norm=0.5
        )
        for network, optimizer in zip(networks, optimizers, strict=True)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SETTINGS)
def test_epochs_are_those_of_each_network_alone(name: str, dtype: str) -> None:
    steps = steps_of(name, "cupy", dtype)
    parts = list(zip(*[step.epoch.programs() or [] for step in steps], strict=True))
    assert parts
    backend = get_backend("cupy")
    merged = [(backend.merged([program.ops or [] for program, _ in part], 4), part[0][1]) for part in parts]
    for epoch in range(2):
        for step in steps:
            step.update.begin_epoch(epoch, gf.History(), 0)
            step.epoch.metrics.reset()
        for replay, times in merged:
            replay(times)
    for step, alone in zip(steps, steps_of(name, "numpy", dtype), strict=True):
        for epoch in range(2):
            alone.update.begin_epoch(epoch, gf.History(), 0)
            assert alone.run()
        tolerance = 2e-4 if dtype == "float32" else 1e-9
        losses = backend.to_host(step.epoch.results.losses)
        np.testing.assert_allclose(losses, alone.epoch.results.losses, rtol=tolerance, atol=tolerance)
        status, expected = step.status.read(), alone.status.read()
        assert status[:4] == expected[:4]
        np.testing.assert_allclose(status.training, expected.training, rtol=tolerance)


def test_launches_do_not_depend_on_the_number_of_networks() -> None:
    simgpu = pytest.importorskip("simgpu")
    counts = []
    for members in (2, 9):
        steps = [steps_of("adam", "cupy", "float32")[0] for _ in range(members)]
        program, times = (steps[0].epoch.programs() or [])[0]
        ops = [(step.epoch.programs() or [])[0][0].ops or [] for step in steps]
        replay = get_backend("cupy").merged(ops, 4)
        simgpu.reset()
        replay(times)
        stats = simgpu.stats()
        counts.append((stats["graph_launches"], sum(kernel["count"] for kernel in stats["kernels"].values())))
        assert (stats["h2d"]["count"], stats["syncs"]) == (0, 0)
        assert counts[-1][1] <= times * len(program.ops or [])
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("members", "alike", "width", "batch_size", "way"),
    [
        (1, 1, 100, 32, "alone"),
        (20, 1, 100, 32, "block"),
        (20, 20, 30, 32, "block"),
        (20, 20, 256, 128, "merged"),
        (20, 1, 512, 256, "alone"),
        (20, 20, 512, 256, "merged"),
        (64, 64, 256, 128, "merged"),
        (20, 20, 3000, 1024, "alone"),
    ],
)
def test_the_way_depends_on_the_size_and_the_number_of_networks(
    members: int, alike: int, width: int, batch_size: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = get_backend("cupy")
    monkeypatch.setattr(backend, "_device", type("Device", (), {"attributes": {"MultiProcessorCount": 132}}))
    a, b, out = (
        np.broadcast_to(np.float32(0), shape) for shape in ((batch_size, width), (width, width), (batch_size, width))
    )
    ops = [(gemm, gemm.arguments(a, b, out))] * 6 + [(OPS["relu_forward"], {"x": out, "y": out})] * 3
    assert backend.fastest_way(ops, members, alike) == way
    assert get_backend("numpy").fastest_way(ops, members, alike) == "alone"


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(BackendError, match="the 'numpy' backend runs programs in turn, not side by side"):
        get_backend("numpy").merged([])
    backend = get_backend("cupy")
    square, wide = backend.zeros((4, 4), np.float32), backend.zeros((4, 5), np.float32)
    with pytest.raises(BackendError, match="only if they have the same kernels with the same sizes"):
        backend.merged([[(gemm, gemm.arguments(square, other, other))] for other in (square, wide)])
    with pytest.raises(BackendError, match="in float32 or in float64, but the arrays are"):
        backend.merged([[(gemm, gemm.arguments(*[backend.zeros((4, 4), np.float16)] * 3))]])
    unknown = gemm._replace(name="unheard_of")
    with pytest.raises(BackendError, match="op 'unheard_of' has no kernel that can run for several programs"):
        backend.merged([[(unknown, gemm.arguments(square, square, square))]])
