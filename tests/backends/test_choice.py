"""Choosing a backend, and the reasons given if one cannot be used."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow import backends
from gradflow.backends import availability, get_backend
from gradflow.backends.availability import diagnose


def runtime(
    *, driver: Any = 12080, needed: int = 12090, count: Any = 1, compute_capability: tuple[int, int] = (9, 0)
) -> Any:
    """A CUDA runtime that returns this; an exception is raised instead."""

    def answer(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return SimpleNamespace(
        driverGetVersion=lambda: answer(driver),
        runtimeGetVersion=lambda: needed,
        getDeviceCount=lambda: answer(count),
        deviceGetAttribute=lambda attribute, device: compute_capability[attribute - 75],
    )


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"driver": 0}, "no NVIDIA driver was found"),
        ({"driver": RuntimeError("libcuda.so.1: cannot open")}, "no NVIDIA driver was found"),
        ({"driver": 11080}, "too old: it supports CUDA 11.8, and this CuPy needs CUDA 12; update the driver"),
        ({"count": 0}, "finds no GPU; CUDA_VISIBLE_DEVICES may hide it"),
        ({"count": RuntimeError("cudaErrorNoDevice")}, "finds no usable GPU: cudaErrorNoDevice"),
    ],
)
def test_each_cause_has_its_own_message(kwargs: dict[str, Any], words: str) -> None:
    assert words in str(diagnose(runtime(**kwargs)))


@pytest.mark.parametrize(("least", "needed"), [((7, 5), 13000), ((6, 1), 12090)])
def test_cuda_13_needs_turing(least: tuple[int, int], needed: int) -> None:
    assert diagnose(runtime(driver=13000, needed=needed, compute_capability=least)) is None


def test_a_gpu_that_is_too_old_for_cuda_13_needs_cupy_for_cuda_12(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.installation.installed_cupy", lambda: "cupy-cuda13x")
    problem = diagnose(runtime(driver=13000, needed=13000, compute_capability=(7, 0)))
    assert problem is not None
    assert problem.startswith("the GPU has compute capability 7.0, and CUDA 13 needs 7.5 or more; install a CuPy")
    assert "pip uninstall cupy-cuda13x, then pip install" in problem
    assert "[cuda12]" in problem


def test_a_problem_with_two_cupys_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "_problem", lambda: "CuPy is installed but cannot be imported: no module")
    monkeypatch.setattr("gradflow.installation._installed_cupys", lambda: ["cupy-cuda12x", "cupy-cuda13x"])
    assert availability.gpu_problem.__wrapped__() == (
        "CuPy is installed but cannot be imported: no module. cupy-cuda12x and cupy-cuda13x overwrite each other's "
        "files: pip uninstall cupy-cuda12x cupy-cuda13x, then install one again"
    )
    monkeypatch.setattr(availability, "_problem", lambda: None)
    assert availability.gpu_problem.__wrapped__() is None


def test_a_working_gpu_has_no_problem() -> None:
    assert diagnose(runtime()) is None
    assert diagnose(runtime(driver=13000)) is None


def test_missing_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability.importlib.util, "find_spec", lambda name: None)
    assert "CuPy is not installed; with an NVIDIA GPU: pip install" in str(availability.gpu_problem.__wrapped__())


def test_auto_takes_numpy_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADFLOW_BACKEND", raising=False)
    monkeypatch.setattr(backends, "gpu_problem", lambda: "no GPU here")
    assert get_backend("auto").name == "numpy"
    with pytest.raises(gf.BackendError, match="backend 'cupy' cannot be used: no GPU here"):
        get_backend("cupy")


@pytest.mark.gpu
def test_auto_takes_cupy_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADFLOW_BACKEND", raising=False)
    assert get_backend("auto").name == "cupy"
    assert gf.MLP([228, 100, 4]).backend.name == "numpy"  # 23,304 parameters
    assert gf.MLP([230, 100, 4]).backend.name == "cupy"  # 23,504
    monkeypatch.setenv("GRADFLOW_BACKEND", "cupy")
    assert gf.MLP([2, 1]).backend.name == "cupy"


@pytest.mark.gpu
def test_a_fit_of_large_batches_on_the_cpu_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADFLOW_BACKEND", raising=False)
    x, y = np.zeros((5000, 29)), np.zeros(5000)

    def fit(rows: int, **kwargs: Any) -> None:
        network = gf.MLP([29, 20, 1], **kwargs)  # 621 parameters
        gf.Trainer(network, "mean_squared_error", "sgd").fit(x[:rows], y[:rows], epochs=1, batch_size=None)

    fit(4830)
    fit(5000, backend="numpy")
    fit(5000, device="cpu")
    with pytest.warns(gf.SlowPathWarning, match="steps on 5,000 rows may be faster on the GPU"):
        fit(5000)


def test_environment_decides_what_auto_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLOW_BACKEND", "reference")
    assert get_backend("auto").name == "reference"
    assert get_backend("numpy").name == "numpy"
    monkeypatch.setenv("GRADFLOW_BACKEND", "nupmy")
    with pytest.raises(gf.DataError, match=r"unknown backend 'nupmy'\. Did you mean 'numpy'"):
        get_backend("auto")


def test_unknown_backend_suggests_the_nearest() -> None:
    with pytest.raises(
        gf.DataError, match=r"unknown backend 'cpu': 'numpy' computes on the CPU, 'cupy' on an NVIDIA GPU"
    ):
        get_backend("cpu")
    with pytest.raises(gf.DataError, match="Did you mean 'cupy'"):
        gf.MLP([2, 1], backend="cuppy")


def test_device_selects_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLOW_BACKEND", "reference")
    assert get_backend(device="cpu").name == "numpy"
    assert get_backend("reference", device="cpu").name == "reference"
    monkeypatch.setattr(backends, "gpu_problem", lambda: "no GPU here")
    with pytest.raises(gf.BackendError, match="backend 'cupy' cannot be used: no GPU here"):
        gf.MLP([2, 1], device="cuda:1")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA", 1, "cuda:1 "])
def test_unknown_devices(device: Any) -> None:
    with pytest.raises(gf.DataError, match="device must be 'cpu', 'cuda' or, for one of several GPUs, 'cuda:1', got"):
        get_backend(device=device)


@pytest.mark.parametrize(("name", "device"), [("numpy", "cuda"), ("reference", "cuda:1"), ("cupy", "cpu")])
def test_a_backend_on_a_device_that_it_does_not_run_on(name: str, device: str) -> None:
    with pytest.raises(gf.DataError, match=f"backend '{name}' does not run on device '{device}'; omit one of the two"):
        gf.MLP([2, 1], backend=name, device=device)
