"""python -m benchmarks.accuracy: its reports of scores and times, and a short run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy import is_as_good, markdown

_MACHINE = {
    "processor": "a processor", "cores": 2, "system": "Linux", "python": "3.11", "versions": {}, "gradflow": "0.1.0",
    "kernels": "avx2", "date": "2026-01-01", "load_average": 0.0,
    "blas": {"internal_api": "openblas", "version": "0.3", "architecture": "Haswell", "num_threads": 2},
}  # fmt: skip


def test_as_good_is_within_the_spread_of_the_differences() -> None:
    theirs = [0.9, 0.8, 0.7, 0.6]
    assert is_as_good(theirs, theirs)
    assert is_as_good([0.88, 0.83, 0.67, 0.6], theirs)
    # Always slightly lower, but by less than the scores differ from seed to seed.
    assert not is_as_good([0.889, 0.791, 0.69, 0.59], theirs)


def test_scores_are_compared_seed_by_seed_and_times_round_by_round() -> None:
    entry = {
        "name": "iris",
        "scores": {"gradflow": [0.875, 1.0, 0.75], "scikit-learn": [1.0, 1.0, 0.5]},
        "seconds": {"gradflow": [0.001, 0.01, 0.002], "scikit-learn": [0.002, 0.02, 0.008]},
    }
    lines = markdown({"machine": _MACHINE, "seeds": 3, "data_sets": [entry]}).splitlines()
    assert (
        "- iris: gradflow is as good as each within the spread over seeds; "
        "the fastest other, scikit-learn, takes 2.00 times as long"
    ) in lines
    assert ("| scikit-learn | 0.8333 ± 0.2887 | 0.0417 ± 0.1909 | 1 / 1 / 1 | 8.0 [5.0, 14.0] | 2.00 |") in lines


@pytest.mark.peers
def test_it_runs_unattended(tmp_path: Path) -> None:
    # PyTorch's threads would wait for each other when tests run in parallel.
    peers = ["PyTorch, one thread", "scikit-learn"]
    options = ["--data-sets", "iris", "--seeds", "2", "--peers", *peers, "--output", str(tmp_path)]
    # A process of its own: threadpoolctl fails if other tests have loaded a library that only looks like a BLAS.
    subprocess.run([sys.executable, "-m", "benchmarks.accuracy", *options], check=True)
    (entry,) = json.loads((tmp_path / "accuracy.json").read_text())["data_sets"]
    assert set(entry["scores"]) == {"gradflow", *peers}
    # A network that learns nothing has an accuracy of one third.
    assert all(score > 0.8 for scores in entry["scores"].values() for score in scores)
    assert {path.name for path in tmp_path.iterdir()} == {"accuracy.json", "accuracy.md", "accuracy.png"}
