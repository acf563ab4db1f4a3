"""The check of a device before its fast GEMMs are trusted, and the place where the result is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gradflow as gf
from gradflow.backends.cuda import self_check
from gradflow.backends.cuda.self_check import cache_file, check_gemms, disagreement
from gradflow.files import read_json

pytestmark = pytest.mark.gpu


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from gradflow.backends.cuda.backend import CupyBackend

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return CupyBackend()


def test_a_sound_device_is_trusted_and_remembered(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_gemms(backend)
    assert read_json(cache_file()) == {backend.gemm_identity: None}
    monkeypatch.setattr(self_check, "disagreement", lambda backend: pytest.fail("it was computed again"))
    check_gemms(backend)


@pytest.mark.parametrize("epilogue", ["RELU_AUX_BIAS", "DRELU", "BGRADA", "BIAS"])
def test_a_wrong_epilogue_is_found(backend: Any, monkeypatch: pytest.MonkeyPatch, epilogue: str) -> None:
    from gradflow.backends.cuda.cublaslt import CublasLt

    gemm = CublasLt.gemm

    def forgetful(self: CublasLt, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("epilogue") == epilogue:
            kwargs |= {"epilogue": "DEFAULT", "vector": None, "auxiliary": None}
        return gemm(self, *args, **kwargs)

    monkeypatch.setattr(CublasLt, "gemm", forgetful)
    with pytest.warns(gf.SlowPathWarning, match="its self-check failed: .* is off by"):
        check_gemms(backend)
    assert disagreement(backend) is None  # the plain path is correct
    with pytest.warns(gf.SlowPathWarning, match="its self-check failed"):
        check_gemms(type(backend)())  # cached


def test_a_damaged_file_is_rewritten(backend: Any) -> None:
    cache_file().parent.mkdir()
    cache_file().write_text("{")
    check_gemms(backend)
    assert backend.gemm_identity in read_json(cache_file())
