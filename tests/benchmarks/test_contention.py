"""python -m benchmarks.contention: its table, its time limit, and a short run."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from benchmarks import rounds
from benchmarks.busy import KINDS, busy_processes
from benchmarks.contention import CONTENDERS, main, markdown, summary
from benchmarks.networks import NETWORKS, Network
from benchmarks.worker import Worker, WorkerError

_OURS, _BASE, _TORCH, *_ = CONTENDERS
MACHINE: dict[str, Any] = {
    "processor": "P", "cores": 2, "system": "Linux", "python": "3.11", "versions": {}, "gradflow": "0.1.0",
    "kernels": "avx2", "date": "2026-01-01", "load_average": 0.0,
    "blas": {"internal_api": "openblas", "version": "0.3", "architecture": "Haswell", "num_threads": 2},
}  # fmt: skip


def result(cases: dict[tuple[str, int], dict[str, list[float | None]]]) -> dict[str, Any]:
    """Return what is measured of one network beside each load."""
    listed = [
        {"network": "small", "busy": kind, "processes": number, "seconds_per_epoch": seconds}
        for (kind, number), seconds in cases.items()
    ]
    return {"machine": MACHINE, "rounds": 3, "limit": 60.0, "cases": listed}


def test_times_are_compared_with_one_thread_beside_the_same_load() -> None:
    cases: dict[tuple[str, int], dict[str, list[float | None]]] = {
        ("", 0): {_OURS: [0.001, 0.002, 0.009], _BASE: [0.004, 0.004, 0.001], _TORCH: [0.0402]},
        ("python", 4): {_OURS: [0.02], _BASE: [0.01], _TORCH: [50.0, None]},
        ("numpy", 4): {_OURS: [0.02], _BASE: [None], _TORCH: [None]},
    }
    lines = markdown(result(cases)).splitlines()
    assert "| busy | gradflow | gradflow, one thread | PyTorch |" in lines
    assert "| nothing else | 2.00 (0.50) | 4.00 (1.00) | 40.2 (10.05) |" in lines
    assert "| 4 x python | 20.0 (2.00) | 10.0 (1.00) | > 60,000 (> 6,000.00) |" in lines
    assert "| 4 x numpy | 20.0 | > 60,000 | > 60,000 |" in lines


def test_the_sentence_has_the_extremes() -> None:
    cases: dict[tuple[str, int], dict[str, list[float | None]]] = {
        ("", 0): {_OURS: [9.0], _BASE: [1.0], _TORCH: [1.0]},
        ("python", 1): {_OURS: [1.0], _BASE: [2.0], _TORCH: [12.0]},
        ("numpy", 4): {_OURS: [30.0], _BASE: [15.0], _TORCH: [None]},
    }
    text = summary(result(cases))
    assert text == (
        "Beside 1 to 4 busy processes, an epoch takes 0.50 to 2.00 times as long by default as on one thread; "
        "in the fastest other library 2.00 to 12.00 times as long."
    )
    ours = {load: {name: seconds[name] for name in (_OURS, _BASE)} for load, seconds in cases.items()}
    assert summary(result(ours)) == text.partition(";")[0] + "."


def test_an_epoch_beyond_the_limit_is_stopped() -> None:
    long = Network("test", (64, 512, 512, 10), batch_size=128, steps=2000)
    with Worker("gradflow", long, "sgd") as worker:
        with pytest.raises(TimeoutError, match="no answer within"):
            worker.seconds_per_epoch(0, 0.01)
        with pytest.raises((WorkerError, OSError)):
            worker.seconds_per_step()


def test_a_short_fit_is_as_many_epochs_as_take_the_time() -> None:
    with Worker("gradflow, one thread", NETWORKS["S"], "adam") as worker:
        assert worker.seconds_per_epoch(0.01, 600) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_busy_processes_work_until_the_context_ends(kind: str) -> None:
    before = multiprocessing.active_children()
    with busy_processes(kind, 2):
        started = [child for child in multiprocessing.active_children() if child not in before]
        assert len(started) == 2
    assert all(child.exitcode for child in started)  # killed: 0 would mean that they had ended by themselves


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.contention.machine", lambda: MACHINE)  # which itself needs the extra bench
    monkeypatch.setattr(rounds, "_PAUSE", 0)
    names = [_OURS, _BASE]
    main(["--quick", "--networks", "small", "--busy", "python", "--contestants", *names, "--output", str(tmp_path)])
    written = json.loads((tmp_path / "contention.json").read_text())
    assert [(case["busy"], case["processes"]) for case in written["cases"]] == [("", 0), ("python", 1)]
    for case in written["cases"]:
        assert list(case["seconds_per_epoch"]) == names
        assert all(len(seconds) == 1 for seconds in case["seconds_per_epoch"].values())
    assert (tmp_path / "contention.md").read_text() == markdown(written)
    assert markdown(written) in capsys.readouterr().out


def test_a_contestant_that_cannot_keep_the_limit_is_stopped_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.contention.machine", lambda: MACHINE)
    monkeypatch.setattr(rounds, "_PAUSE", 0)
    names = [_OURS, _BASE]
    options = ["--quick", "--networks", "large", "--busy", "python", "--limit", "1e-6", "--rounds", "2"]
    main([*options, "--contestants", *names, "--output", str(tmp_path)])
    for case in json.loads((tmp_path / "contention.json").read_text())["cases"]:
        assert case["seconds_per_epoch"] == {name: [None, None] for name in names}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--contestants", _OURS], f"--contestants must include '{_BASE}'"),
        (["--contestants", _BASE, _TORCH], f"--contestants must include '{_OURS}'"),
        (["--loads", "0"], "--loads must be 0 and more, with one above 0"),
        (["--loads", "-1", "1"], "--loads must be 0 and more, with one above 0"),
        (["--rounds", "-1"], "--rounds at least 1"),
    ],
)
def test_options_that_leave_nothing_to_compare_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(options)
    assert message in capsys.readouterr().err
