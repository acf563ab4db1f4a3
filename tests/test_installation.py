"""Hints name commands that work: for this installation, from any folder, and for the installed CuPy."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gradflow import installation
from gradflow.backends.availability import diagnose
from gradflow.installation import pip_install, pip_install_for_gpu, pip_reinstall, update_command

CLONE = "/home/me/my clones/gradflow"


def installed(
    monkeypatch: pytest.MonkeyPatch, *, clone: str | None = None, origin: Any = None, cupy: str | None = None
) -> None:
    """Pretend that gradflow and CuPy were installed in this way."""

    def distributions(*, name: str) -> list[Any]:
        if name == "gradflow-mlp":
            return [SimpleNamespace(read_text=lambda file: origin and json.dumps(origin))]
        return [object()] if name == cupy else []

    monkeypatch.setattr(importlib.metadata, "distributions", distributions)
    monkeypatch.setattr(installation, "_clone", lambda: clone and Path(clone))


@pytest.mark.parametrize(
    ("how", "command"),
    [
        ({"clone": CLONE}, f"pip install -e '{CLONE}[plot]'"),
        ({}, "pip install 'gradflow-mlp[plot]'"),
        ({"origin": {"url": "file:///home/me/my%20clones/gradflow"}}, f"pip install '{CLONE}[plot]'"),
        ({"origin": {"url": "file:///tmp/gradflow_mlp-1.whl"}}, "pip install '/tmp/gradflow_mlp-1.whl[plot]'"),
        (
            {"origin": {"url": "https://host/gradflow", "vcs_info": {"vcs": "git", "commit_id": "1"}}},
            "pip install 'gradflow-mlp[plot] @ git+https://host/gradflow'",
        ),
        (
            {"origin": {"url": "https://host/gradflow_mlp-1.whl", "archive_info": {}}},
            "pip install 'gradflow-mlp[plot] @ https://host/gradflow_mlp-1.whl'",
        ),
    ],
)
def test_an_extra_comes_from_where_gradflow_came_from(
    how: dict[str, Any], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, **how)
    assert pip_install("plot") == command


def test_a_clone_is_named_by_its_folder_and_built_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, clone=CLONE)
    assert pip_reinstall().endswith(f" -e '{CLONE}'")
    assert update_command() == f"git pull in {CLONE}, then pip install -e ."
    installed(monkeypatch)
    assert update_command() == "pip install -U gradflow-mlp"


def test_this_clone_is_found() -> None:
    folder = Path(__file__).parents[1]
    if Path(installation.__file__).parents[1] == folder:
        assert f"{folder}[plot]" in pip_install("plot")


@pytest.mark.parametrize(
    ("cupy", "command"),
    [
        (None, "pip install 'gradflow-mlp[cuda12]' (or [cuda13], to match the driver)"),
        ("cupy-cuda12x", "pip install 'gradflow-mlp[cuda12]'"),
        ("cupy-cuda13x", "pip install 'gradflow-mlp[cuda13]'"),
        (
            "cupy",
            "pip install nvidia-cublas-cu12 (or nvidia-cublas, for CUDA 13)",
        ),  # built from source, for any CUDA: it has no extra of its own
    ],
)
def test_no_second_cupy_is_installed_over_the_first(
    cupy: str | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, cupy=cupy)
    assert pip_install_for_gpu() == command


@pytest.mark.parametrize(
    ("driver", "ending"),
    [
        (
            12040,
            "update the driver, or install a CuPy that supports it: pip uninstall cupy-cuda13x, then pip install "
            "'gradflow-mlp[cuda12]'",
        ),
        (11080, "update the driver"),
    ],
)
def test_a_cupy_that_is_too_new_for_the_driver_goes_first(
    driver: int, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, cupy="cupy-cuda13x")
    runtime = SimpleNamespace(driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13000)
    assert str(diagnose(runtime)).endswith(ending)
