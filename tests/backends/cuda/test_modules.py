"""Compilation of kernels: several modules at once, and the same error whichever fails first."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import gradflow as gf
from gradflow.backends.kernel_sources import Form, kernels

pytestmark = pytest.mark.gpu

NAMES = ("relu_forward", "tanh_forward", "add_bias")  # of three files


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Any:
    import cupy

    from gradflow.backends.cuda.modules import KernelModules

    return KernelModules(cupy.cuda.Device())


def wanted(*names: str) -> list[tuple[Any, Any]]:
    return [(kernels("cuda")[name], Form("float32")) for name in names]


def test_modules_are_compiled_at_once_and_only_once(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together, compiled = threading.Barrier(2, timeout=60), []

    class Module:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            self.code = code

        def compile(self) -> None:
            compiled.append(self.code)
            together.wait()  # for another thread that compiles too

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("cupy.RawModule", Module)
    modules.compile(wanted(*NAMES[:2], NAMES[0]))
    modules.compile(wanted(*NAMES[:2]))
    assert len(compiled) == len(set(compiled)) == 2


@pytest.mark.parametrize("fails_last", NAMES)
def test_the_error_is_that_of_the_first_kernel_of_the_program(
    modules: Any, monkeypatch: pytest.MonkeyPatch, fails_last: str
) -> None:
    others = threading.Semaphore(0)

    class Module:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            self._is_last = f"GF_KERNEL({fails_last}," in code or f" {fails_last}(" in code

        def compile(self) -> None:
            if self._is_last:
                # The failure of the first one may end the compilation before the third begins.
                for _ in NAMES[1:] if fails_last == NAMES[0] else NAMES[:1]:
                    assert others.acquire(timeout=60)
            else:
                others.release()
            raise RuntimeError("no compiler")

    monkeypatch.setattr("os.cpu_count", lambda: 3)
    monkeypatch.setattr("cupy.RawModule", Module)
    first = kernels("cuda")[NAMES[0]].file.name
    with pytest.raises(gf.BackendError, match=rf"{first} could not be compiled for float32: no compiler\nIf NVRTC"):
        modules.compile(wanted(*NAMES))


def test_each_thread_that_compiles_uses_the_device_of_the_backend(
    modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = threading.local()
    compiled = []

    class Device:
        def __enter__(self) -> None:
            current.device = self

        def __exit__(self, *_: object) -> None:
            current.device = None

    class Module:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            pass

        def compile(self) -> None:
            compiled.append(current.device)

    device = Device()
    monkeypatch.setattr(modules, "_device", device)
    monkeypatch.setattr("cupy.RawModule", Module)
    modules.compile(wanted(*NAMES))
    assert compiled == [device] * 3
