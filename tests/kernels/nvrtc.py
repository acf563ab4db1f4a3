"""CUDA's runtime compiler and assembler, from their wheels: they need neither a GPU nor a driver.

The wheels of CUDA 12 have a folder each, those of CUDA 13 share one. Both may be installed; then that of CuPy's CUDA
counts, since it compiles the kernels for users.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gradflow.installation import installed_cupy

_NVRTC = {
    12: ("lib/libnvrtc.so.12", "bin/nvrtc64_120_0.dll"),
    13: ("lib/libnvrtc.so.13", "bin/x86_64/nvrtc64_130_0.dll"),
}
_PTXAS = ("bin/ptxas", "bin/ptxas.exe")


@dataclass(frozen=True)
class LocalMemory:
    """Bytes per thread that do not stay in registers: arrays and variables, and registers stored and loaded."""

    frame: int
    spill_stores: int
    spill_loads: int


def missing_wheel() -> str | None:
    """Return the wheel that must be installed to compile kernels, or None if all are installed."""
    suffix = "" if cuda_version() == 13 else "-cu12"
    if _nvrtc() is None:
        return f"nvidia-cuda-nvrtc{suffix}"
    if _ptxas() is None:
        return f"nvidia-cuda-nvcc{suffix}"
    return None


def cuda_version() -> int:
    """Return the CUDA version of the wheels to use: that of the installed CuPy, or else the one that is there."""
    of_cupy = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}.get(installed_cupy() or "")
    return of_cupy or (13 if _in_wheel("nvidia.cu13", *_NVRTC[13]) else 12)


def _nvrtc() -> Path | None:
    version = cuda_version()
    return _in_wheel("nvidia.cu13" if version == 13 else "nvidia.cuda_nvrtc", *_NVRTC[version])


def _ptxas() -> Path | None:
    return _in_wheel("nvidia.cu13" if cuda_version() == 13 else "nvidia.cuda_nvcc", *_PTXAS)


def _in_wheel(package: str, *names: str) -> Path | None:
    if importlib.util.find_spec("nvidia") is None or (spec := importlib.util.find_spec(package)) is None:
        return None
    folders = spec.submodule_search_locations or ()
    return next((path for folder in folders for name in names if (path := Path(folder) / name).is_file()), None)


@cache
def _library() -> ctypes.CDLL:
    path = _nvrtc()
    assert path is not None
    # NVRTC looks for its builtins by their name alone, which finds them once they are loaded.
    for builtins in (*path.parent.glob("libnvrtc-builtins.so.*"), *path.parent.glob("nvrtc-builtins64_*.dll")):
        ctypes.CDLL(str(builtins))
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


def version() -> tuple[int, int]:
    """Return the version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    assert _library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)) == 0
    return major.value, minor.value
