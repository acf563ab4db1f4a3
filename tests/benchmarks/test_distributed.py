"""The benchmark of several ranks runs, and its table reports the measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.distributed import main, text
from tests.distributed.ranks import ENVIRONMENT, needs_mpi

RESULT = {
    "machine": {
        "processor": "P",
        "cores": 2,
        "system": "Linux",
        "python": "3.13",
        "versions": {"numpy": "2"},
        "blas": {"internal_api": "openblas", "version": "1", "architecture": "Haswell", "num_threads": 2},
        "gradflow": "0",
        "kernels": "avx2",
        "date": "today",
        "load_average": 0.1,
    },
    "rounds": 3,
    "networks": [
        {
            "network": "M",
            "seconds_per_step": {"1 rank, 1 thread": [0.02, 0.03, 0.01], "2 ranks, 1 thread each": [0.01, 0.02, 0.005]},
        }
    ],
}


def test_ratios_are_formed_within_the_rounds() -> None:
    lines = text(RESULT).splitlines()
    assert "| M | 1 rank, 1 thread | 20.00 | 1.00 [1.00, 1.00] |" in lines
    assert "| M | 2 ranks, 1 thread each | 10.00 | 2.00 [1.75, 2.00] |" in lines


@needs_mpi
@pytest.mark.thorough
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.distributed.machine", lambda: RESULT["machine"])
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    main(["--quick", "--networks", "T", "--output", str(tmp_path)])
    (measured,) = json.loads((tmp_path / "distributed.json").read_text())["networks"]
    ways = ["1 rank, 1 thread", "2 ranks, 1 thread each", "1 rank, 2 threads"]
    assert list(measured["seconds_per_step"]) == ways
    assert all(seconds > 0 for (seconds,) in measured["seconds_per_step"].values())
    assert "| T 16-64-64-2 (256) | 2 ranks, 1 thread each |" in (tmp_path / "distributed.md").read_text()
