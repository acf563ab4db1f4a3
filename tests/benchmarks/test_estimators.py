"""python -m benchmarks.estimators: its table, and a short run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
from benchmarks.estimators import OURS, THEIRS, main, markdown, summary
from tests.benchmarks.test_contention import MACHINE

RESULT = {
    "machine": MACHINE,
    "seeds": 2,
    "data_sets": [
        {
            "name": "iris",
            "scores": {OURS: [0.9, 0.8], THEIRS: [0.8, 0.8]},
            "seconds": {OURS: [0.1, 0.2], THEIRS: [0.5, 1.2]},
            "search_seconds": {OURS: [1.0], THEIRS: [4.0]},
        },
        {
            "name": "wine",
            "scores": {OURS: [0.5, 0.5], THEIRS: [0.9, 0.9]},
            "seconds": {OURS: [0.1, 0.1], THEIRS: [0.2, 0.2]},
            "search_seconds": {OURS: [1.0], THEIRS: [3.0]},
        },
    ],
}


def test_fits_and_searches_are_compared_round_by_round() -> None:
    lines = markdown(RESULT).splitlines()
    assert "| iris | 0.850 ± 0.071 | 0.800 ± 0.000 | yes | 0.15 | 0.85 | 5.5 | 1.00 | 4.00 | 4.0 |" in lines
    assert "| wine | 0.500 ± 0.000 | 0.900 ± 0.000 | no | 0.10 | 0.20 | 2.0 | 1.00 | 3.00 | 3.0 |" in lines
    assert "2.0 to 5.5 times as fast, a grid search 3.0 to 4.0 times; scores are as good on 1 of 2" in summary(RESULT)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.estimators.machine", lambda: MACHINE)  # which itself needs the extra bench
    monkeypatch.setattr("benchmarks.estimators._EPOCHS", 5)
    main(["--quick", "--output", str(tmp_path)])
    result = json.loads((tmp_path / "estimators.json").read_text())
    (entry,) = result["data_sets"]
    assert {len(scores) for scores in entry["scores"].values()} == {2}
    assert all(score > 0 for scores in entry["scores"].values() for score in scores)
    assert (tmp_path / "estimators.md").read_text() == markdown(result)
