"""CUDA's runtime compiler and assembler, from their wheels: they need neither a GPU nor a driver."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LocalMemory:
    """Bytes per thread that do not stay in registers: arrays and variables, and registers stored and loaded."""

    frame: int
    spill_stores: int
    spill_loads: int


def missing_wheel() -> str | None:
    """Return the wheel that must be installed to compile kernels, or None if all are installed."""
    if _nvrtc() is None:
        return "nvidia-cuda-nvrtc-cu12"
    if _ptxas() is None:
        return "nvidia-cuda-nvcc-cu12"
    return None


def _nvrtc() -> Path | None:
    return _in_wheel("nvidia.cuda_nvrtc", "lib/libnvrtc.so.12", "bin/nvrtc64_120_0.dll")


def _ptxas() -> Path | None:
    return _in_wheel("nvidia.cuda_nvcc", "bin/ptxas", "bin/ptxas.exe")


def _in_wheel(package: str, *names: str) -> Path | None:
    if importlib.util.find_spec("nvidia") is None or (spec := importlib.util.find_spec(package)) is None:
        return None
    folders = spec.submodule_search_locations or ()
    return next((path for folder in folders for name in names if (path := Path(folder) / name).is_file()), None)


@cache
def _library() -> ctypes.CDLL:
    path = _nvrtc()
    assert path is not None
    return ctypes.CDLL(str(path))


def compile_cuda(source: str, options: tuple[str, ...]) -> tuple[str | None, str]:
    """Compile CUDA C++ source; return the PTX, or None if it does not compile, and the compiler's log, often empty."""
    library, program = _library(), ctypes.c_void_p()
    created = library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    assert created == 0, f"nvrtcCreateProgram: error {created}"
    try:
        encoded = [option.encode() for option in options]
        status = library.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
        ptx = _text(library.nvrtcGetPTXSize, library.nvrtcGetPTX, program) if status == 0 else None
        return ptx, _text(library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog, program)
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(get_size: Any, get_text: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    assert get_size(program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert get_text(program, text) == 0
    return text.value.decode()


def local_memory(ptx: str, architecture: int, folder: Path) -> dict[str, LocalMemory]:
    """Return the local memory of each kernel after ptxas has assigned registers for an architecture, such as 90 for
    sm_90."""
    source = folder / "kernels.ptx"
    source.write_text(ptx)
    command = [str(_ptxas()), "-v", f"--gpu-name=sm_{architecture}", str(source), "-o", str(folder / "kernels.cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.findall(
        r"Function properties for (\w+)\n +(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
        said,
    )
    return {name: LocalMemory(*map(int, counts)) for name, *counts in found}
