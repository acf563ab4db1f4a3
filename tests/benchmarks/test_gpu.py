"""python -m benchmarks.gpu: it survives its contestants, keeps its budget, and reports if there is no GPU."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from numpy.testing import assert_allclose

from benchmarks import gpu_worker
from benchmarks.contestants import GPU_CONTESTANTS, contestant
from benchmarks.gpu import OURS, main, markdown
from benchmarks.gpu_worker import Contestants
from benchmarks.networks import GPU_NETWORKS, Network
from gradflow.backends.availability import gpu_problem
from tests.benchmarks.fake_contestants import CASES, FACTS, run
from tests.benchmarks.test_contention import MACHINE

_NETWORK = Network("test", (6, 8, 5, 3), batch_size=4, steps=10)


def _written(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "gpu.json").read_text())
    assert (folder / "gpu.md").read_text() == markdown(result)
    return result


def test_without_a_gpu_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if gpu_problem() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit) as ended:
        main(["--output", str(tmp_path)])
    assert ended.value.code == 2
    assert str(gpu_problem()) in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_table_has_ratios_within_the_rounds() -> None:
    case = {
        "network": "T",
        "optimizer": "adam",
        "seconds_per_step": {OURS: [1e-6, 2e-6, 3e-6], "PyTorch": [4e-6, 8e-6, 6e-6]},
        "loss_differences": {OURS: 0.0, "PyTorch": 1e-3, "gradflow, TF32": 1e-3},
        "left_out": {},
        "reports": {},
    }
    lines = markdown(FACTS | {"steps": [case], "not_measured": ["L, adam"]}).splitlines()
    assert "| T 16-64-64-2 (256) | adam | gradflow | 2.0 | 1.5 to 2.5 | 1.00 |" in lines
    assert "| T 16-64-64-2 (256) | adam | PyTorch | 6.0 | 5.0 to 7.0 | 4.00 |" in lines
    assert lines[-3:] == [
        "- left out: JAX: jax is not installed",
        "- T, adam: losses differ: PyTorch: by 1.0e-03 of the first, over 10 steps",
        "- not measured, since the time was up: L, adam",
    ]


def test_a_contestant_that_fails_is_left_out_of_the_case(tmp_path: Path) -> None:
    run(tmp_path, "Steady", "FailsOnB", "DiesWhenTimed", budget=None)
    result = _written(tmp_path)
    measured = [set(case["seconds_per_step"]) for case in result["steps"]]
    assert measured == [{OURS, "FailsOnB"}, {OURS}, {OURS, "FailsOnB"}]
    of_a, of_b, _ = (case["left_out"] for case in result["steps"])
    assert of_a == {"DiesWhenTimed": "the process ended with 9 before it answered"}
    assert of_b.keys() == {"DiesWhenTimed", "FailsOnB"}
    assert of_b["FailsOnB"] == "MemoryError: out of memory"
    assert result["not_measured"] == []
    for case in result["steps"]:
        for seconds in case["seconds_per_step"].values():
            assert_allclose(seconds, [0.01 / 5] * 3, rtol=1e-12)


def test_without_gradflow_the_others_are_measured(tmp_path: Path) -> None:
    run(tmp_path, "FailsOnB", "Steady", budget=None, cases=CASES[1:2])
    (case,) = _written(tmp_path)["steps"]
    assert case["left_out"] == {OURS: "MemoryError: out of memory"}
    assert len(case["seconds_per_step"]["Steady"]) == 3


def test_slow_paths_and_other_mathematics_are_in_the_result(tmp_path: Path) -> None:
    run(tmp_path, "OnASlowPath", "Other", budget=None, cases=CASES[:1])
    text = (tmp_path / "gpu.md").read_text()
    assert "- A, adam: gradflow: SlowPathWarning: cuBLASLt cannot be used\n" in text
    assert "- A, adam: gradflow: (2, 4) and (4, 3): no algorithm\n" in text
    assert "- A, adam: losses differ: Other: by 5.0e-04 of the first, over 10 steps\n" in text
    assert _written(tmp_path)["steps"][0]["loss_differences"][OURS] == 0


def test_a_contestant_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Contestants._call

    def impatient(self: Contestants, name: str, limit: float, method: str, *arguments: Any) -> Any:
        hangs = (name, method, self.case) == ("HangsOnB", "seconds_per_step", "B")
        if method == "losses":
            self.case = arguments[0].name
        return call(self, name, 0.5 if hangs else limit, method, *arguments)

    monkeypatch.setattr(Contestants, "case", "", raising=False)
    monkeypatch.setattr(Contestants, "_call", impatient)
    run(tmp_path, "Steady", "HangsOnB", budget=None, rounds=2)
    result = _written(tmp_path)
    assert [set(case["seconds_per_step"]) for case in result["steps"]] == [{OURS, "HangsOnB"}, {OURS}, {OURS}]
    assert "no answer within" in result["steps"][1]["left_out"]["HangsOnB"]
    assert "no answer within" in result["left_out"]["HangsOnB"]
    assert result["not_measured"] == []


def test_the_budget_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which each look takes two seconds, and nothing else any time."""
    now = itertools.count(0.0, 2.0)
    clock = SimpleNamespace(monotonic=lambda: next(now), perf_counter=time.perf_counter)
    monkeypatch.setattr(gpu_worker, "time", clock)
    run(tmp_path, "Steady", budget=600, rounds=10**6)
    assert [case["network"] for case in _written(tmp_path)["steps"]] == ["A", "B", "C"]
    assert next(now) < 700


def test_without_time_nothing_is_measured(tmp_path: Path) -> None:
    run(tmp_path, "Steady", budget=0)
    assert not (tmp_path / "gpu.json").exists()


def test_what_was_measured_survives_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.fake_contestants", str(tmp_path), "Steady", "HangsOnB"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            while not (tmp_path / "gpu.md").exists():
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(0.5)  # it may be in the middle of the next case
        finally:
            process.send_signal(signal.SIGKILL)
    assert _written(tmp_path)["steps"][0]["seconds_per_step"].keys() == {OURS, "HangsOnB"}
    ended = time.monotonic() + 120
    while _members(process.pid):  # the contestants end with it, the one that hangs too
        assert time.monotonic() < ended
        time.sleep(0.01)


def _members(session: int) -> list[int]:
    """Return the running processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, _, _, of_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and int(of_session) == session and state != "Z":
            found.append(int(entry.name))
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", [name for name in GPU_CONTESTANTS if name.startswith("gradflow")])
def test_gradflow_on_the_gpu_trains_as_on_the_cpu(name: str, optimizer: str) -> None:
    on_gpu, on_cpu = GPU_CONTESTANTS[name].load()(_NETWORK, optimizer), contestant("gradflow", _NETWORK, optimizer)
    assert_allclose(on_gpu.losses(10), on_cpu.losses(10), rtol=1e-5 if name == OURS else 2e-2)
    assert on_gpu.device_seconds() > 0
    assert on_gpu.report()["unsupported"] == {}


@pytest.mark.gpu
def test_it_runs_unattended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.machine", lambda: MACHINE)  # which itself needs the extra bench
    # Without the other libraries, which would compile their steps.
    ours = [name for name in GPU_CONTESTANTS if name.startswith("gradflow")]
    main(["--quick", "--networks", "S", "--contestants", *ours, "--output", str(tmp_path)])
    result = _written(tmp_path)
    assert [case["optimizer"] for case in result["steps"]] == ["sgd", "adam"]
    assert result["gpu"]["nvrtc"]
    for case in result["steps"]:
        assert case["left_out"] == {}
        assert case["loss_differences"][OURS] == 0
        assert case["seconds_per_step"].keys() == set(ours)
        assert all(second > 0 for seconds in case["seconds_per_step"].values() for second in seconds)
        for report in case["reports"].values():
            assert report["warnings"] == []
            assert "cuBLASLt" in report["matmuls"]


def test_the_networks_of_the_gpu_have_one_that_matmuls_limit() -> None:
    assert list(GPU_NETWORKS) == ["T", "S", "M", "L", "W"]
    assert GPU_NETWORKS["W"].gemm_flops == 11 * 2 * 4096**3
