"""Every CUDA file compiles with CUDA's own compiler, without a warning, for every supported architecture."""

from __future__ import annotations

from itertools import product

import pytest

from gradflow.backends.kernel_sources import (
    Form,
    block_kernels,
    block_program_text,
    form_text,
    kernel_folder,
    source_text,
)
from tests.kernels.nvrtc import compile_cuda, cuda_version, version

pytestmark = pytest.mark.nvrtc

FILES = sorted(path.relative_to(kernel_folder()).as_posix() for path in kernel_folder().rglob("*.cu"))
ARCHITECTURES = (75, 80, 90, 100, 120)


def compile_for(source: str, architecture: int) -> tuple[str | None, str]:
    return compile_cuda(source, (f"--gpu-architecture=compute_{architecture}", "--std=c++17"))


@pytest.mark.parametrize("name", FILES)
def test_compiles_without_a_warning(name: str) -> None:
    path = kernel_folder() / name
    for dtype, architecture in product(("float32", "float64"), ARCHITECTURES):
        ptx, log = compile_for(source_text(path, dtype), architecture)
        assert ptx is not None, f"compute_{architecture}, {dtype}:\n{log}"
        assert log.strip() == "", f"compute_{architecture}, {dtype}:\n{log}"


@pytest.mark.parametrize(("dtype", "architecture"), [("float32", 75), ("float32", 90), ("float64", 120)])
def test_all_kernels_compile_for_one_thread_block(dtype: str, architecture: int) -> None:
    ptx, log = compile_for(block_program_text(tuple(block_kernels()), dtype), architecture)
    assert ptx is not None, log
    assert log.strip() == ""


@pytest.mark.parametrize("name", block_kernels())
def test_each_kernel_compiles_for_many_members(name: str) -> None:
    for dtype, architecture in (("float32", 75), ("float64", 120)):
        ptx, log = compile_for(form_text(block_kernels()[name], Form(dtype, is_of_members=True)), architecture)
        assert ptx is not None, log
        assert log.strip() == ""
        assert f".entry {name}(" in ptx


def test_all_files_are_compiled_by_the_compiler_of_cupys_cuda() -> None:
    assert len(FILES) > 40
    assert version()[0] == cuda_version()


def test_errors_and_warnings_are_seen() -> None:
    ptx, log = compile_for('extern "C" __global__ void broken() { missing(); }', 75)
    assert ptx is None
    assert "missing" in log
    ptx, log = compile_for('extern "C" __global__ void idle() { int unused; }', 75)
    assert ptx is not None
    assert "unused" in log
