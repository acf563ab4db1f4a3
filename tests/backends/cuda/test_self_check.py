"""The check of a device before its fast GEMMs are trusted, and the place where the result is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.backends.cuda import self_check
from gradflow.backends.cuda.device_cache import DeviceCache
from gradflow.backends.cuda.epilogues import EVERY_CLASS, gemm_class
from gradflow.backends.cuda.self_check import check_gemms

pytestmark = pytest.mark.gpu

PRECISIONS = ("float32", "float16", "tf32", "bfloat16")


@pytest.fixture
def simgpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The simulator, without faults afterwards."""
    module = pytest.importorskip("simgpu")
    yield module
    monkeypatch.delenv("SIMGPU_CUBLASLT", raising=False)
    module.clear()


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A GPU backend of its own, with an empty cache."""
    from gradflow.backends.cuda.backend import CupyBackend

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return CupyBackend()


def cached(backend: Any) -> dict[str, Any] | None:
    return DeviceCache("gemm-check.json", backend.gemm_identity).read()


def no_child(*args: Any, **kwargs: Any) -> Any:
    raise OSError("no process can be started")


def test_a_sound_device_is_trusted_and_remembered(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_gemms(backend)
    assert cached(backend) == {}
    monkeypatch.setattr(self_check, "wrong_classes", lambda backend: pytest.fail("it was checked here"))
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("it was checked again"))
    check_gemms(backend)
    check_gemms(type(backend)())


def test_every_class_that_is_wrong_is_found(backend: Any, simgpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.gemm_trials import first_error, gemm_classes

    classes = gemm_classes(backend)
    assert len(classes) == 268
    for name, problems in classes.items():
        epilogue, rows, columns, inner = problems[0].epilogue, problems[0].rows, problems[0].columns, problems[0].inner
        ones = "".join(letter for letter, size in (("m", columns), ("n", rows), ("k", inner)) if size == 1)
        monkeypatch.setenv("SIMGPU_CUBLASLT", f"{epilogue.lower()}/{ones}=wrong")
        error = first_error(backend, problems)
        assert error, name
        assert "off by" in error or "hides NaN" in error
        backend.refused_gemms.clear()


@pytest.mark.parametrize(
    ("fault", "refused", "error"),
    [
        ("bias/m=wrong", "BIAS, {}, 1 column", "out is off by"),
        ("drelu/=crash", "DRELU, {}", "the GPU stopped .*cudaErrorIllegalAddress"),
    ],
)
def test_a_class_that_is_wrong_or_crashes_is_separate_and_the_others_stay_fused(
    backend: Any, simgpu: Any, monkeypatch: pytest.MonkeyPatch, fault: str, refused: str, error: str
) -> None:
    monkeypatch.setenv("SIMGPU_CUBLASLT", fault)
    with pytest.warns(gf.SlowPathWarning, match=f"{refused.format('float32')}: {error}.* and 3 other classes"):
        check_gemms(backend)
    assert backend.refused_gemms.keys() == {refused.format(precision) for precision in PRECISIONS}
    assert cached(backend) == backend.refused_gemms
    monkeypatch.setattr("gradflow.network.get_backend", lambda *args, **kwargs: backend)
    network = gf.MLP([13, 8, 9, 1], seed=3)
    x = np.random.default_rng(1).normal(size=(20, 13))
    simgpu.reset()
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.05)).fit(x, x[:, :1], epochs=2, batch_size=8)
    stats = simgpu.stats()
    assert all(name.startswith("ltmatmul") and gemm["in_graph"] for name, gemm in stats["cublas"].items())
    epilogues = {name.rpartition(" ")[2] for name in stats["cublas"]}
    assert {"relu_aux_bias", "drelu", "bias", "bgrada"} - epilogues == {refused.partition(",")[0].lower()}
    monkeypatch.undo()
    reference = gf.MLP([13, 8, 9, 1], seed=3, backend="reference")
    gf.Trainer(reference, "mean_squared_error", gf.SGD(0.05)).fit(x, x[:, :1], epochs=2, batch_size=8)
    for name, weight in reference.get_weights().items():
        assert_allclose(network.get_weights()[name], weight, rtol=1e-4, atol=1e-6)


def test_signs_that_are_set_at_0_are_found(backend: Any, simgpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The derivative of ReLU is 0 there; only what reads the signs differs, so only that is refused."""
    from gradflow.backends.cuda.gemm_trials import first_error, gemm_classes

    monkeypatch.setenv("SIMGPU_CUBLASLT", "relu_aux_bias=zero")
    classes = gemm_classes(backend)
    names = [name for name in classes if name.startswith(("RELU_AUX", "DRELU"))]
    wrong = {name for name in names if first_error(backend, classes[name])}
    assert wrong == {f"DRELU, {precision}" for precision in PRECISIONS}


def test_a_device_with_a_wrong_class_is_not_checked_again(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"BIAS, float32, 1 row": "out is off by 1"}
    DeviceCache("gemm-check.json", backend.gemm_identity).add(wrong)
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("it was checked again"))
    with pytest.warns(gf.SlowPathWarning, match="BIAS, float32, 1 row: out is off by 1. They are computed another"):
        check_gemms(backend)
    assert backend.refused_gemms == wrong


def test_after_many_crashes_no_gemm_is_trusted(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def crash(device: int, checked: dict[str, str | None]) -> list[list[Any]]:
        started.append(checked.copy())
        return [["device", backend.gemm_identity], ["end", f"sound {len(started)}", None], ["begin", len(started)]]

    monkeypatch.setattr(self_check, "_lines_of_child", crash)
    with pytest.warns(gf.SlowPathWarning, match="it crashed the process, and 12 other"):
        check_gemms(backend)
    assert started[2] == {"sound 1": None, 1: "it crashed the process", "sound 2": None, 2: "it crashed the process"}
    assert len(started) == 12
    assert EVERY_CLASS in backend.refused_gemms
    a = backend.from_host(np.ones((3, 3), np.float32))
    assert backend.fast_gemm(a=a, b=a, out=backend.zeros((3, 3), np.float32)) is None
    assert list(backend.unsupported_gemms.values()) == ["the check crashed 12 times"]


def test_without_a_child_the_check_runs_in_this_process(
    backend: Any, simgpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMGPU_CUBLASLT", "relu_aux_bias/=wrong")
    expected = {gemm_class("RELU_AUX_BIAS", precision, (33, 136), 20) for precision in PRECISIONS}
    monkeypatch.setattr(subprocess, "run", no_child)
    with pytest.warns(gf.SlowPathWarning, match="self-check"):
        check_gemms(backend)
    assert cached(backend) == backend.refused_gemms
    assert backend.refused_gemms.keys() == expected


@pytest.mark.parametrize(
    "program",
    [{"executable": ""}, {"executable": None}, {"executable": "/opt/blender/blender"}, {"frozen": True}],
    ids=str,
)
def test_a_program_with_python_inside_is_not_started_again(
    program: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("it was started"))
    for name, value in program.items():
        monkeypatch.setattr(sys, name, value, raising=False)
    assert self_check._lines_of_child(0, {}) == []


def test_a_child_without_memory_checks_nothing(backend: Any, simgpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMGPU_FAIL", "malloc:-2")  # read when a process starts
    lines = self_check._lines_of_child(backend.device_number, {})
    assert lines[-1][0] == "unable"
    assert "memory ran out" in lines[-1][1]
    monkeypatch.setattr(self_check, "wrong_classes", lambda backend: {})
    check_gemms(backend)
    assert cached(backend) == {}


def test_a_script_is_not_run_again(simgpu: Any, tmp_path: Path) -> None:
    """Neither one that is read from standard input, nor a file without a guard for `__main__`."""
    import os

    script = "print('begun')\nimport gradflow as gf\nprint(gf.MLP([2, 3], backend='cupy').backend.name)\n"
    file = tmp_path / "script.py"
    file.write_text(script)
    for number, arguments in enumerate((["-"], [str(file)])):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / str(number))}
        done = subprocess.run(
            [sys.executable, *arguments], input=script, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == "begun\ncupy\n"
        assert (tmp_path / str(number) / "gradflow" / "gemm-check.json").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"checksum": 3}'])
def test_a_damaged_file_is_rewritten(backend: Any, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(self_check, "_found_by_children", lambda device, identity: {})
    path = DeviceCache("gemm-check.json", backend.gemm_identity).path
    path.parent.mkdir()
    path.write_text(content)
    check_gemms(backend)
    assert cached(backend) == {}


def test_entries_of_other_devices_stay(backend: Any) -> None:
    other, this = DeviceCache("gemm-check.json", "another device"), DeviceCache("gemm-check.json", "this one")
    assert other.add({"BIAS, float32": "out is off by 1"})
    assert this.read() is None
    assert this.add({"a": 1})
    assert this.add({"a": 2, "b": 3})  # what is known stays
    assert this.read() == {"a": 1, "b": 3}
    assert other.read() == {"BIAS, float32": "out is off by 1"}


def test_without_a_folder_for_the_file_nothing_is_kept(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = Path(DeviceCache("gemm-check.json", "").path.parent.parent) / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert not DeviceCache("gemm-check.json", "this one").add({})
    monkeypatch.delenv("XDG_CACHE_HOME")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert not DeviceCache("gemm-check.json", "this one").add({})
    assert DeviceCache("gemm-check.json", "this one").read() is None
