"""The README's table shows the results, and the tables hold the medians."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose

from benchmarks import contention, long_run, report
from benchmarks.machine import RESULTS
from benchmarks.networks import NETWORKS
from benchmarks.peers import check_losses
from benchmarks.report import README, main, markdown, readme_table, readme_text, with_table, write_report
from tests.benchmarks.test_contention import result as contention_result
from tests.benchmarks.test_long_run import RESULT as LONG_RUN

CONTENTION = contention_result({("python", 2): {"gradflow": [0.1], "gradflow, one thread": [0.2]}})
_PAGES = {"peers": markdown, "contention": contention.markdown, "long_run": long_run.markdown}


def _result() -> dict[str, Any]:
    """Return what `benchmarks.peers` measures, with made-up times."""
    seconds = {
        "gradflow": [50e-6, 40e-6, 60e-6],
        "PyTorch": [700e-6, 600e-6, 900e-6],
        "JAX": [100e-6, 120e-6, 90e-6],
        "GEMMs, gradflow's BLAS": [40e-6, 40e-6, 40e-6],
    }
    peers = {"gradflow": 0.0, "PyTorch": 1e-7, "JAX": 2e-7}
    steps = {"network": "S", "loss_differences": peers, "seconds_per_step": seconds}
    memory = {
        "network": "S",
        "optimizer": "adam",
        "least_bytes": 1_000_000,
        "allocated_bytes": 1_150_000,
        "process_bytes": {"gradflow": 1_500_000, "PyTorch": None},
    }
    return {
        "machine": {
            "date": "2026-01-31",
            "processor": "Processor X",
            "cores": 2,
            "load_average": 0.9,
            "system": "Linux x86_64",
            "python": "3.11",
            "gradflow": "0.1",
            "kernels": "avx2",
            "blas": {"internal_api": "openblas", "version": "0.3", "architecture": "Zen", "num_threads": 2},
            "versions": {"numpy": "2.4"},
        },
        "rounds": 3,
        "left_out": {"scikit-learn": "not installed", "PyTorch, compiled": "no compiler"},
        "steps": [steps | {"optimizer": "sgd"}, steps | {"optimizer": "adam"}],
        "prediction": {"gradflow": [5e-6], "PyTorch": [20e-6]},
        "memory": [memory],
        "prediction_memory": {"rows": 1000, "input_bytes": 10**6, "output_bytes": 10**5, "beyond_bytes": 10**4},
        "first_step_seconds": [0.1, 0.2, 0.15],
    }


def test_the_readme_holds_the_figures_of_committed_results() -> None:
    readme = README.read_text()
    shown = re.search(r"\(benchmarks/results/(\S+)/peers\.md\)", readme)
    assert shown is not None
    assert with_table(readme, readme_text(RESULTS / shown[1])) == readme


@pytest.mark.parametrize(
    "path",
    [path for name in _PAGES for path in sorted(RESULTS.glob(f"*/{name}.json"))],
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_the_tables_are_those_of_the_committed_results(path: Path) -> None:
    assert _PAGES[path.stem](json.loads(path.read_text())) == path.with_suffix(".md").read_text()


def test_each_benchmark_with_results_has_a_line_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    folder = tmp_path / "results" / "machine"
    folder.mkdir(parents=True)
    (folder / "peers.json").write_text(json.dumps(_result()))
    first = readme_text(folder)
    assert first == f"{readme_table(_result())}\n\n[All figures](results/machine/peers.md)"
    (folder / "long_run.json").write_text(json.dumps(LONG_RUN))
    (folder / "contention.json").write_text(json.dumps(CONTENTION))
    assert readme_text(folder).splitlines() == [
        *first.splitlines(),
        "",
        f"- {contention.summary(CONTENTION)} [All figures](results/machine/contention.md)",
        f"- {long_run.summary(LONG_RUN)} [All figures](results/machine/long_run.md)",
    ]


def test_only_the_report_of_measured_machines_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no-machine"])
    assert "no-machine has no peers.json" in capsys.readouterr().err


def test_the_readmes_table_compares_with_the_best_peer() -> None:
    text = readme_table(_result())
    assert "Processor X, 2 cores" in text
    lines = text.splitlines()
    # JAX has the smallest median; the ratios to it are 2, 3 and 1.5.
    assert lines[-1] == "| S 64-128-64-10 (32) | 40.0 | 50.0 | 700 | 100 | 2.00 |"
    assert lines[-3] == ("| network (batch) | GEMMs alone | gradflow | PyTorch | JAX | best peer / gradflow |")


@pytest.mark.parametrize(("load", "is_busy"), [(None, False), (0.99, False), (1.0, True), (5.0, True)])
def test_a_busy_machine_is_reported(load: float | None, is_busy: bool) -> None:
    result = _result()
    result["machine"]["load_average"] = load
    assert ("was busy with other work" in readme_table(result)) == is_busy
    assert ("was busy with other work" in markdown(result)) == is_busy


def test_all_tables() -> None:
    text = markdown(_result())
    assert (
        "| S 64-128-64-10 (32), sgd | 50.0 [45.0, 55.0] | 700 [650, 800] | 100 [95.0, 110] | 40.0 [40.0, 40.0] |"
        in text
    )
    assert "| S 64-128-64-10 (32), sgd | 15.00 [14.50, 15.00] | 2.00 [1.75, 2.50] | 1.25 [1.12, 1.38] |" in text
    assert "| S 64-128-64-10 (32), adam | 1.00 | 1.15 (1.15x) | 1.50 (1.50x) | - |" in text
    assert "0.150 [0.125, 0.175] s" in text
    assert "Omitted: scikit-learn: not installed; PyTorch, compiled: no compiler." in text


def test_a_readme_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="must contain the lines"):
        with_table("# gradflow\n", "table")


def test_the_report_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_report(_result(), tmp_path)
    assert (tmp_path / "peers.md").read_text() == markdown(_result())
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")


def test_different_mathematics_is_found_before_anything_is_timed() -> None:
    ours = [2.0, 1.5, 1.25]
    near = [2.0, 1.5, 1.25 * (1 + 5e-5)]
    differences = check_losses({"gradflow": ours, "JAX": near}, NETWORKS["S"])
    assert differences["gradflow"] == 0
    assert_allclose(differences["JAX"], 1.25 * 5e-5 / 2, rtol=1e-9)
    for wrong in ([2.0, 1.5, 1.2503], [2.0, float("nan"), 1.25]):
        with pytest.raises(SystemExit, match="JAX does not train network S"):
            check_losses({"gradflow": ours, "JAX": wrong}, NETWORKS["S"])
    # scikit-learn's other output layer: only the first loss of T counts.
    assert check_losses({"gradflow": ours, "scikit-learn": [2.0, 9.0, 9.0]}, NETWORKS["T"])["scikit-learn"] == 0
    with pytest.raises(SystemExit, match="scikit-learn does not train network S"):
        check_losses({"gradflow": ours, "scikit-learn": [2.0, 9.0, 9.0]}, NETWORKS["S"])
