"""python -m benchmarks.pack: its tables, and a short run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.networks import Network
from benchmarks.pack import LOOP, PACK, SKLEARN, THREADS, compare, keep_others, main, markdown, with_gradflow
from tests.benchmarks.test_contention import MACHINE

RESULT: dict[str, Any] = {
    "machine": MACHINE,
    "candidates": 4,
    "packs": [{"network": "T 16-2 (64)", "members": 8, "seconds": {PACK: [0.002, 0.004], LOOP: [0.004, 0.016]}}],
    "searches": [
        {
            "data": "digits",
            "seconds": {PACK: [1.0, 1.0], SKLEARN: [12.0, 14.0]},
            "scores": {PACK: 0.9751, SKLEARN: 0.9747},
        }
    ],
}


def test_times_are_compared_round_by_round() -> None:
    lines = markdown(RESULT).splitlines()
    assert "| T 16-2 (64) | 8 | gradflow, pack | 3.00 [2.50, 3.50] | 1.00 |" in lines
    assert "| T 16-2 (64) | 8 | gradflow, loop | 10.00 [7.00, 13.00] | 3.00 |" in lines
    assert "| digits | gradflow, pack | 1.0 [1.0, 1.0] | 1.0 | 0.975 |" in lines
    assert "| digits | scikit-learn, joblib | 13.0 [12.5, 13.5] | 13.0 | 0.975 |" in lines
    assert "quartiles of 2 rounds" in markdown(RESULT)


def test_results_of_an_earlier_run_are_kept(tmp_path: Path) -> None:
    (tmp_path / "pack.json").write_text(json.dumps(RESULT))
    (earlier,), searches = RESULT["packs"], RESULT["searches"]
    again = {**earlier, "seconds": {PACK: [0.001]}}
    other = {**earlier, "members": 64}
    result = {**RESULT, "packs": [again, other], "searches": []}
    keep_others(result, tmp_path)
    assert result["packs"] == [again, other]
    assert result["searches"] == searches
    assert "Kept from an earlier run: " in markdown(result)
    result = {**RESULT, "packs": [other], "searches": []}
    keep_others(result, tmp_path)
    assert result["packs"] == [earlier, other]


def test_contestants_of_gradflow_have_the_same_losses() -> None:
    network = Network("T", (4, 8, 3), batch_size=16, steps=5)
    losses = [with_gradflow(contestant, network, 3, 2) for contestant in (PACK, THREADS, LOOP)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == pytest.approx(losses[2], rel=1e-6)


def test_other_losses_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {PACK: 0.5, LOOP: 0.51}
    monkeypatch.setattr("benchmarks.pack.in_process", lambda given: {"seconds": 1.0, "loss": losses[given[1]]})
    network = Network("T", (4, 8, 3), batch_size=16, steps=5)
    with pytest.raises(SystemExit, match=r"gradflow, loop has the loss 0.51 .* and the pack 0.5"):
        compare(network, 1, [PACK, LOOP], 1)


@pytest.mark.thorough
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.pack.machine", lambda: MACHINE)  # which itself needs the extra bench
    arguments = ["--members", "2", "--networks", "T", "--contestants", LOOP, "--rounds", "1", "--searches", "0"]
    main([*arguments, "--output", str(tmp_path)])
    result = json.loads((tmp_path / "pack.json").read_text())
    ((entry,), searches) = result["packs"], result["searches"]
    assert set(entry["seconds"]) == {PACK, LOOP}
    assert searches == []
    assert (tmp_path / "pack.md").read_text() == markdown(result)
