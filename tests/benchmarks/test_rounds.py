"""Rounds, medians and ratios."""

from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from benchmarks import rounds
from benchmarks.rounds import Spread, ratios, rounds_in_turn, spread


def test_everyone_runs_once_per_round_and_no_one_always_follows_the_same_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_PAUSE", 0)
    called: list[str] = []
    seconds = {"a": 1.0, "b": 2.0, "c": 3.0}

    def runner(name: str) -> float:
        called.append(name)
        return seconds[name] + len(called)

    measured = rounds_in_turn({name: lambda name=name: runner(name) for name in seconds}, 20)
    turns = ["".join(called[start : start + 3]) for start in range(0, 60, 3)]
    assert {"".join(sorted(turn)) for turn in turns} == {"abc"}
    assert set(turns) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    for name, of_name in measured.items():
        places = [place for place, caller in enumerate(called, start=1) if caller == name]
        assert of_name == [seconds[name] + place for place in places]


def test_the_spread_is_median_and_quartiles() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(median=3, low=2, high=4)
    assert spread([7.0]) == Spread(7, 7, 7)
    with pytest.raises(ValueError, match="at least one value"):
        spread([])


def test_ratios_are_formed_round_by_round() -> None:
    # Both are ten times slower in the second round; the ratio stays the same.
    assert_allclose(ratios([2.0, 20.0, 3.0], [1.0, 10.0, 1.0]), [2, 2, 3], rtol=1e-15)
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])
