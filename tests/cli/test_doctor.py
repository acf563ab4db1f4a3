"""``gradflow doctor``: it runs to the end, reports its findings, and notices faults."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.backends.reference import BoundCall
from gradflow.doctor import Check, Measurement, check_up
from gradflow.doctor.findings import checked
from gradflow.doctor.gemms import check_gemms
from gradflow.doctor.kernels import check_kernels
from gradflow.ops import OPS, Op
from tests.cli.command import gradflow


def test_without_a_gpu_it_says_what_is_missing(tmp_path: Path) -> None:
    if gpu_problem() is None:
        pytest.skip("there is a GPU")
    done = gradflow("doctor", "--json", tmp_path / "doctor.json")
    assert done.returncode == 2, done.stderr
    assert "no GPU can be used: " in done.stdout
    assert gpu_problem() in " ".join(done.stdout.split())
    assert not (tmp_path / "doctor.json").exists()


@pytest.mark.gpu
def test_it_runs_to_the_end(tmp_path: Path) -> None:
    done = gradflow("doctor", "--quick", "--json", tmp_path / "doctor.json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "doctor.json").read_text())
    assert {check["name"] for check in found["checks"] if check["group"] == "kernels"} == OPS.keys()
    assert {check["group"] for check in found["checks"]} == {"kernels", "products", "training"}
    assert all(check["problem"] is None for check in found["checks"])
    checks = {check["name"] for check in found["checks"]}
    for precision in ("float32", "tf32", "float16", "bfloat16"):
        assert f"layers 65-129-10, batch 33, ReLU, {precision}" in checks
        assert f"NaN among pre-activations, {precision}" in checks
        assert f"GELU, {precision}: with epilogues as without" in checks
    assert found["omitted"] == []
    assert "cuBLASLt" in found["matmuls"]
    groups = {one["group"] for one in found["measurements"]}
    assert groups == {"memory", "products", "launches", "epilogues", "steps"}
    assert all(one["value"] > 0 for one in found["measurements"])
    assert found["device"]["name"] in done.stdout
    assert found["warnings"] == []
    for group in groups:
        assert group in done.stdout


@pytest.mark.gpu
def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("cupy")
    bind = backend.bind

    def wrong(op: Op, arguments: dict[str, Any]) -> BoundCall:
        return bind(OPS["relu_forward"] if op.name == "selu_forward" else op, arguments)

    monkeypatch.setattr(backend, "bind", wrong)
    failed = [check.name for check in check_kernels(backend, quick=True) if check.problem]
    assert failed == ["selu_forward"]


@pytest.mark.gpu
def test_all_kernels_are_compiled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.modules import KernelModules

    wanted: list[set[str]] = []
    compiled = KernelModules.compile

    def compile_all(self: KernelModules, pairs: Iterable[Any]) -> None:
        listed = list(pairs)
        wanted.append({kernel.name for kernel, _ in listed})
        compiled(self, listed)

    monkeypatch.setattr(KernelModules, "compile", compile_all)
    assert next(check_kernels(get_backend("cupy"), quick=True)).problem is None
    assert len(wanted[0]) > 80


def test_the_definitions_pass_their_own_check() -> None:
    assert [check for check in check_kernels(get_backend("reference"), quick=True) if check.problem] == []


def test_any_exception_of_a_comparison_is_its_finding() -> None:
    def fail() -> None:
        np.testing.assert_array_equal(1, 2)

    assert checked("group", "name", lambda: None) == Check("group", "name")
    problem = checked("group", "name", fail).problem
    assert problem is not None
    assert problem.startswith("AssertionError: ")
    assert "\n" not in problem


def _zeros(array: Any) -> Any:
    """Return zeros on the device: memory that is merely other may hold what was right before."""
    backend = get_backend("cupy")
    zeros = backend.zeros(array.shape, array.dtype)
    backend.synchronize()
    return zeros


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("epilogue", "fault", "activation"),
    [
        ("RELU_AUX_BIAS", lambda given: given | {"epilogue": "RELU_AUX"}, "ReLU"),
        ("DRELU", lambda given: given | {"auxiliary": _zeros(given["auxiliary"])}, "ReLU"),
        ("BGRADA", lambda given: given | {"vector": _zeros(given["vector"])}, "ReLU"),
        ("DGELU", lambda given: given | {"auxiliary": _zeros(given["auxiliary"])}, "GELU"),
    ],
)
def test_a_wrong_epilogue_is_found(
    epilogue: str, fault: Callable[[dict[str, Any]], dict[str, Any]], activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gradflow.backends.cuda.cublaslt import CublasLt

    right = CublasLt.gemm

    def wrong(self: CublasLt, *args: Any, **given: Any) -> Any:
        return right(self, *args, **(fault(given) if given.get("epilogue") == epilogue else given))

    monkeypatch.setattr(CublasLt, "gemm", wrong)
    failed = {check.name for check in check_gemms(get_backend("cupy"), quick=True) if check.problem}
    for precision in ("float32", "tf32", "float16", "bfloat16"):
        assert f"layers 32-48-10, batch 64, {activation}, {precision}" in failed
    assert not any("float64" in name or "random" in name for name in failed)


@pytest.mark.gpu
def test_findings_are_reported_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.doctor.report.check_kernels", lambda backend, quick: iter(()))
    told: list[Check | Measurement] = []
    found = check_up(quick=True, on_finding=lambda finding, so_far: told.append(finding))
    assert told == [*found.checks, *found.measurements]
    assert found.problems == []


@pytest.mark.gpu
def test_it_ends_when_the_time_is_up() -> None:
    found = check_up(quick=True, budget=0)
    assert len(found.checks) == 1
    assert found.omitted == ["products", "training", "kernels", "speed", "steps"]


@pytest.mark.gpu
def test_an_error_of_a_measurement_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.doctor import speed

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no more\nmemory")

    monkeypatch.setattr(speed, "step_traffic", fail)
    for name in ("check_gemms", "check_kernels"):
        monkeypatch.setattr(f"gradflow.doctor.report.{name}", lambda backend, quick: iter(()))
    found = check_up(quick=True)
    assert found.problems == [Check("steps", "to the end", "RuntimeError: no more memory")]


@pytest.mark.gpu
def test_findings_so_far_survive_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    command = [sys.executable, "-m", "gradflow", "doctor", "--json", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not file.exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    found = json.loads(file.read_text())
    assert found["checks"]
    assert found["omitted"]


def test_a_device_without_a_known_peak_says_so() -> None:
    pytest.importorskip("cupy")
    from gradflow.doctor.device import Device

    known = Device("a GPU", "90", 13000, 13000, 1, 1e12, 1e12)
    assert known.why_no_peak == ""
    assert "compute capability 130 is not known" in replace(known, compute_capability="130", peak_rate=None).why_no_peak
    assert "memory" in replace(known, peak_bandwidth=None).why_no_peak
