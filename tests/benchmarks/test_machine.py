"""Each machine has its own folder of results."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from benchmarks import machine
from benchmarks.machine import RESULTS, results_folder, slug


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "intel-xeon-platinum-8370c"),
        ("12th Gen Intel(R) Core(TM) i7-1260P", "12th-gen-intel-core-i7-1260p"),
        ("AMD EPYC 7763 64-Core Processor", "amd-epyc-7763"),
        ("AMD EPYC", "amd-epyc"),
        ("aarch64", "aarch64"),
    ],
)
def test_names_of_folders_are_readable(processor: str, name: str) -> None:
    assert slug(processor, "avx512", "16") == f"{name}-avx512-16"


@pytest.mark.parametrize(
    ("library", "name"),
    [
        (SimpleNamespace(supported=["avx512", "avx2", "baseline"], instructions="avx512"), "brand-x-avx512-4"),
        (SimpleNamespace(supported=["avx512", "avx2", "baseline"], instructions="avx2"), "brand-x-avx512-4-avx2"),
        (SimpleNamespace(supported=["avx2", "baseline"], instructions="avx2"), "brand-x-avx2-4"),
        (None, "brand-x-none-4"),
    ],
)
def test_the_instruction_set_is_in_the_name(library: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "native_library", lambda: library)
    monkeypatch.setattr(machine, "_processor", lambda: "Brand(R) X Processor")
    monkeypatch.setattr(machine, "processors", lambda: 4)
    assert results_folder() == RESULTS / name


def test_the_machine_of_each_folder_is_described() -> None:
    described = re.findall(r"^\| `(\S+)` \|", (RESULTS / "README.md").read_text(), re.MULTILINE)
    assert {path.name for path in RESULTS.iterdir() if path.is_dir()} <= set(described)
