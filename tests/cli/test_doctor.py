"""``gradflow doctor``: it runs to the end, reports its findings, and notices faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.backends.reference import BoundCall
from gradflow.doctor import Check, Measurement, check_up
from gradflow.doctor.findings import checked
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


@pytest.mark.gpu
def test_findings_are_reported_as_they_come() -> None:
    told: list[Check | Measurement] = []
    found = check_up(quick=True, on_finding=told.append)
    assert told == [*found.checks, *found.measurements]
    assert found.problems == []
