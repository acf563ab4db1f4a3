"""The estimates for GPUs: their counts are those of the simulated GPU, and the page is up to date."""

from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from benchmarks.contestants import GPU_CONTESTANTS
from benchmarks.gpu_estimates import _FILE, CARDS, Card, counted, estimate, markdown
from benchmarks.networks import Network
from gradflow.doctor.traffic import CallTraffic, StepTraffic


def test_the_page_is_up_to_date() -> None:
    assert _FILE.read_text() == markdown(), "python -m benchmarks.gpu_estimates updates it"


def test_a_launch_takes_what_takes_longest() -> None:
    card = Card("a card", bandwidth=1e12 / 0.9, rates={"float32": 1e13 / 0.75}, source="nowhere")
    calls = (
        CallTraffic("small", 100, 100, 0, 0),
        CallTraffic("memory", 6_000_000, 4_000_000, 0, 0),
        CallTraffic("matmul", 1000, 1000, 10**9, 0),
    )
    seconds, limit = estimate(StepTraffic(calls), card, "float32")
    assert_allclose(seconds, 2e-6 + 1e-5 + 1e-4, rtol=1e-12)
    assert limit == "matmuls"
    assert estimate(StepTraffic(calls[:1]), card, "float32") == (2e-6, "launches")


def test_cards_are_faster_in_less_precision() -> None:
    for card in CARDS:
        assert card.rates["float32"] <= card.rates["tf32"] <= card.rates["bfloat16"]


@pytest.mark.gpu
@pytest.mark.parametrize("contestant", ["gradflow", "gradflow, TF32", "gradflow, bfloat16"])
def test_counts_are_those_of_the_simulated_gpu(contestant: str) -> None:
    simgpu = pytest.importorskip("simgpu")
    made = GPU_CONTESTANTS[contestant].load()
    found = []
    for steps in (2, 3):
        trained = made(Network("", (6, 16, 8, 3), batch_size=8, steps=steps), "adam")
        trained.train()
        simgpu.reset()
        trained.train()
        stats = simgpu.stats()
        gemms = stats["cublas"].values()
        launches = sum(one["count"] for one in stats["kernels"].values()) + sum(one["device_kernels"] for one in gemms)
        found.append((launches, sum(one["flops"] for one in gemms)))
    expected = counted(Network("", (6, 16, 8, 3), batch_size=8, steps=2), made.precision)
    assert found[1][0] - found[0][0] == len(expected.calls)
    assert found[1][1] - found[0][1] == expected.flops
