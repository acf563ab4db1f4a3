"""The measurement of what layer statistics cost."""

from __future__ import annotations

import pytest

from benchmarks import rounds
from benchmarks.layer_statistics import measure
from benchmarks.networks import NETWORKS


@pytest.mark.parametrize(("name", "apart"), [("T", 100), ("M", 20)])
def test_added_time_is_spread_over_the_steps_between(name: str, apart: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_PAUSE", 0)
    cost = measure(NETWORKS[name], "relu", rounds=1, seconds=0)
    assert cost.step > 0
    assert cost.at_cadence.median == pytest.approx(cost.added.median / apart)
