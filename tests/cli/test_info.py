"""``gradflow info``."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends.availability import gpu_problem
from gradflow.backends.blas import installed_mkl
from gradflow.backends.cpu import native
from gradflow.backends.cpu.native import native_library, native_problem
from gradflow.backends.cpu.processors import processors
from gradflow.backends.kernel_sources import kernel_folder
from gradflow.cli import threads
from gradflow.cli.threads import ThreadGain
from gradflow.installation import pip_install
from tests.cli.command import gradflow


def _facts(**changes: str) -> dict[str, Any]:
    done = gradflow("info", "--json", **changes)
    assert (done.returncode, done.stderr) == (0, "")
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_json_has_versions_and_places() -> None:
    facts = _facts()
    assert facts["gradflow"] == gf.__version__
    assert facts["python"] == platform.python_version()
    assert facts["numpy"] == np.__version__
    assert facts["blas"]["name"] == np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    assert facts["kernels"] == str(kernel_folder())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or processors() == 1, reason="needs two processors to use one")
def test_processors_are_those_that_this_process_may_use() -> None:
    facts, allowed = _facts(), os.sched_getaffinity(0)
    assert facts["processors"] == processors()
    assert facts["processors_of_machine"] == os.cpu_count()
    os.sched_setaffinity(0, {min(allowed)})
    try:
        facts, table = _facts(), gradflow("info", COLUMNS="300").stdout
    finally:
        os.sched_setaffinity(0, allowed)
    assert (facts["processors"], facts["why_fewer_processors"]) == (1, "affinity")
    assert f"1 of {os.cpu_count()} (affinity)" in table


@pytest.mark.skipif(gpu_problem() is None, reason="there is a GPU")
def test_without_a_gpu_it_says_why_not() -> None:
    facts = _facts()
    assert facts["backend"] == "numpy"
    assert facts["reason"] == f"not cupy: {gpu_problem()}"
    assert facts["gpus"] == []
    assert facts["products_without_plan"] == {}


@pytest.mark.gpu
def test_with_a_gpu_it_is_chosen_and_named() -> None:
    import cupy

    facts = _facts()
    assert facts["backend"] == "cupy"
    assert facts["cupy"] == cupy.__version__
    assert "a GPU is available; for networks of fewer than 23,438 parameters numpy is selected" in facts["reason"]
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    gpu = facts["gpus"][0]
    assert gpu["name"] == properties["name"].decode()
    assert gpu["memory_bytes"] == properties["totalGlobalMem"]
    assert gpu["compute_capability"].replace(".", "") == cupy.cuda.Device(0).compute_capability
    assert len(facts["gpus"]) == cupy.cuda.runtime.getDeviceCount()
    assert all(facts["products_without_plan"].values())  # each with its reason
    table = gradflow("info", COLUMNS="300").stdout
    assert gpu["name"] in table
    assert gpu["tf32_speedup"] is None or f"up to {gpu['tf32_speedup']} times as fast" in table


@pytest.mark.parametrize(
    ("capability", "speedup"), [((7, 5), None), ((8, 0), 8), ((8, 9), 2), ((9, 0), 7), ((10, 0), 14), ((12, 0), 2)]
)
def test_gain_from_tf32(capability: tuple[int, int], speedup: int | None) -> None:
    from gradflow.cli.info import _precisions, _tf32_speedup

    assert _tf32_speedup(*capability) == speedup
    assert ("too old" in _precisions(speedup)) == (speedup is None)


def test_cpu_path_is_named() -> None:
    chosen = os.environ.get("GRADFLOW_NATIVE", "")  # the command would otherwise run without it
    cpu, library = _facts(GRADFLOW_NATIVE=chosen)["cpu"], native_library()
    if library is None:
        pytest.skip("the C kernels were not built")
    assert cpu["kernels"] == "compiled"
    assert cpu["instructions"] == library.instructions
    assert cpu["library"] == str(library.path)
    table = gradflow("info", COLUMNS="300", GRADFLOW_NATIVE=chosen).stdout
    assert f"compiled, for {library.instructions}: {library.path}" in table
    if library.blas is None:
        assert "np.matmul" in table
        return
    blas = cpu["blas"]
    assert (blas["name"], blas["path"]) == (library.blas.description, str(library.blas.path))
    assert (blas["integer_bits"], blas["called_by"]) == (library.blas.bits, "compiled kernels")
    assert f"{blas['name']}, {blas['integer_bits']}-bit integers, {blas['threads']} threads" in table


@pytest.mark.parametrize(
    ("gain", "text"),
    [
        (ThreadGain(2, 1.94, 0.0), "2 threads: 1.9 times as fast as one"),
        (ThreadGain(8, 7.0, 4.0), "8 threads: 7.0 times as fast as one"),
        (ThreadGain(8, 1.31, 0.4), "8 threads: 1.3 times as fast as one"),
        (ThreadGain(8, 1.31, 3.26), "8 threads: 1.3 times as fast as one: other work keeps 3.3 of 9 processors busy"),
        (ThreadGain(2, 0.3, 0.98), "2 threads: no faster than one: other work keeps 1.0 of 9 processors busy"),
        (ThreadGain(2, 1.04, 0.1), "2 threads: no faster than one"),
        (ThreadGain(2, 1.04, None), "2 threads: no faster than one"),
    ],
)
def test_gain_from_threads_names_other_work_if_there_is_some(
    gain: ThreadGain, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "processors", lambda: 9)
    assert str(gain) == text


def test_gain_from_threads_is_measured() -> None:
    chosen = os.environ.get("GRADFLOW_NATIVE", "")
    library, gain = native_library(), _facts(GRADFLOW_NATIVE=chosen)["cpu"]["threads"]
    if library is None or library.blas is None or min(library.blas.threads or 1, processors()) == 1:
        assert gain is None
        return
    assert gain["threads"] == min(library.blas.threads or 1, processors(), 16)
    assert gain["speedup"] > 0
    assert (gain["busy_elsewhere"] is None) == (not Path("/proc/stat").exists())
    assert f"{gain['threads']} threads: " in gradflow("info", COLUMNS="300", GRADFLOW_NATIVE=chosen).stdout


def test_one_thread_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    library = native_library()
    if library is None:
        pytest.skip("the C kernels were not built")
    monkeypatch.setattr(threads, "processors", lambda: 1)
    assert threads.thread_gain(library) is None


def test_without_the_kernels_it_says_why_and_what_to_do() -> None:
    cpu = _facts(GRADFLOW_NATIVE="0")["cpu"]
    assert (cpu["kernels"], cpu["instructions"], cpu["library"], cpu["threads"]) == ("NumPy", None, None, None)
    assert cpu["blas"] is None or cpu["blas"]["called_by"] == "NumPy"
    assert cpu["faster"] == ["GRADFLOW_NATIVE=0 disables the compiled kernels; unset it"]
    assert cpu["faster"][0] in gradflow("info", COLUMNS="300", GRADFLOW_NATIVE="0").stdout


@pytest.mark.parametrize(("files", "says"), [([], "were not built; install a C compiler"), ([b""], "cannot be used: ")])
def test_each_problem_with_the_kernels_has_its_remedy(
    files: list[bytes], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in files:
        (tmp_path / "_native.so").write_bytes(content)
    monkeypatch.delenv("GRADFLOW_NATIVE", raising=False)
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    monkeypatch.setattr(native, "native_library", native_library.__wrapped__)
    problem = native.native_problem()
    assert problem is not None
    assert says in problem
    assert "pip install" in problem


@pytest.mark.skipif(native_problem() is not None, reason="the C kernels were not built")
def test_mkl_is_named_if_it_is_missing() -> None:
    is_missing = installed_mkl() is None and platform.machine() in ("x86_64", "AMD64")
    assert any(pip_install("mkl") in remedy for remedy in _facts()["cpu"]["faster"]) == is_missing


def test_the_environment_variable_is_named_as_the_reason() -> None:
    facts = _facts(GRADFLOW_BACKEND="reference")
    assert facts["backend"] == "reference"
    assert "GRADFLOW_BACKEND=reference" in facts["reason"]


def test_an_unusable_choice_is_shown_and_does_not_end_the_command() -> None:
    facts = _facts(GRADFLOW_BACKEND="cuda")
    assert facts["backend"] is None
    assert "GRADFLOW_BACKEND=cuda" in facts["reason"]
    assert "'cupy' on an NVIDIA GPU" in facts["reason"]


def test_table_shows_the_same_facts() -> None:
    facts, table = _facts(), gradflow("info", COLUMNS="300").stdout
    for value in (facts["gradflow"], facts["python"], facts["numpy"], facts["blas"]["version"], facts["backend"]):
        assert value in table
    assert facts["reason"] in table
    assert facts["kernels"] in table


def test_table_shows_brackets_as_they_are() -> None:
    """Names of extras contain brackets, which rich would interpret as markup."""
    assert "GRADFLOW_BACKEND=[bold]" in gradflow("info", COLUMNS="300", GRADFLOW_BACKEND="[bold]").stdout
