"""The model of steps on several ranks, and its page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from numpy.testing import assert_allclose

from benchmarks.networks import GPU_NETWORKS
from benchmarks.ranks import _FILE, ETHERNET, NVLINK, SYSTEMS, Link, Protocol, System, draw, markdown


def test_the_page_is_up_to_date() -> None:
    assert _FILE.read_text() == markdown(), "python -m benchmarks.ranks updates it"


def test_a_sum_takes_its_hops_and_its_bytes() -> None:
    protocol = Protocol(base=10e-6, hop=2e-6, bandwidth=1e9)
    assert_allclose(protocol.seconds(8_000_000, 4), 10e-6 + 6 * 2e-6 + 6 * 2e-3, rtol=1e-12)
    slower = Protocol(base=0.0, hop=0.0, bandwidth=1e6)
    link = Link("a link", (protocol, slower))
    assert link.seconds(8_000_000, 4) == protocol.seconds(8_000_000, 4)
    assert link.seconds(4, 4) == slower.seconds(4, 4)
    assert link.seconds(8_000_000, 1) == 0


def test_nccl_on_eight_gpus_takes_about_what_was_measured() -> None:
    """NVIDIA/nccl-tests#123: 10 µs for two, 33.7 µs for eight A100, with one channel."""
    assert 6e-6 < NVLINK.seconds(8, 2) < 10e-6
    assert 10e-6 < NVLINK.seconds(8, 8) < 33.7e-6


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.link.name)
def test_more_rows_never_make_ranks_less_worthwhile(system: System) -> None:
    for network in system.networks:
        worthwhile = [system.worthwhile(network, rows=rows) for rows in (1, 8, 64)]
        assert worthwhile == sorted(worthwhile)
        for ranks in system.sizes:
            assert system.hidden(network, ranks) <= system.step(network, ranks)


def test_ranks_without_a_cost_are_all_worthwhile() -> None:
    free = replace(SYSTEMS[0], link=Link("free", (Protocol(0.0, 0.0, 1e30),), most=8))
    assert free.worthwhile(GPU_NETWORKS["W"]) == 8
    slow = replace(SYSTEMS[0], link=ETHERNET)
    assert slow.worthwhile(GPU_NETWORKS["W"]) == 1


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 10_000
