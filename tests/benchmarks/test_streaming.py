"""The streaming benchmark runs, and its table reports the measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.streaming import KINDS, main, text

RESULT = {
    "machine": {
        "processor": "P",
        "cores": 2,
        "blas": {"internal_api": "openblas", "version": "1"},
        "kernels": "avx2",
        "date": "today",
    },
    "rounds": 3,
    "networks": [
        {
            "network": "S",
            "threads": 2,
            "seconds_per_step": {"memory": [1e-5, 2e-5, 4e-5], "npy": [2e-5, 2e-5, 5e-5]},
            "reading_seconds_per_batch": {"npy": [1e-6, 1e-6, 2e-6]},
        }
    ],
}


def test_ratios_are_formed_within_the_rounds() -> None:
    lines = text(RESULT).splitlines()
    assert "| memory | 20.0 | 1.00 (1.00 to 1.00) |  |" in lines
    # 2, 1 and 1.25 times as long; the ratio of the medians would be 1.
    assert "| npy | 20.0 | 1.25 (1.12 to 1.62) | 1.0 |" in lines


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.streaming.machine", lambda: RESULT["machine"])  # which itself needs the extra bench
    main(["--quick", "--rounds", "2", "--networks", "T", "--output", str(tmp_path)])
    result = json.loads((tmp_path / "streaming.json").read_text())
    assert len({measured["threads"] for measured in result["networks"]}) == len(result["networks"]) in (1, 2)
    for measured in result["networks"]:
        assert list(measured["seconds_per_step"]) == list(KINDS)
        assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in measured["seconds_per_step"].values())
    assert (tmp_path / "streaming.md").read_text() in capsys.readouterr().out
