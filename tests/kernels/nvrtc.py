"""CUDA's own runtime compiler, from its wheel: it compiles without a GPU and without a driver."""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

WHEEL = "nvidia-cuda-nvrtc-cu12"


def library_path() -> Path | None:
    """Where the wheel's libnvrtc lies; None if it is not installed."""
    if importlib.util.find_spec("nvidia") is None or (spec := importlib.util.find_spec("nvidia.cuda_nvrtc")) is None:
        return None
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder) / "lib" / "libnvrtc.so.12", Path(folder) / "bin" / "nvrtc64_120_0.dll"):
            if path.is_file():
                return path
    return None


@cache
def _library() -> ctypes.CDLL:
    path = library_path()
    assert path is not None
    return ctypes.CDLL(str(path))


def compile_cuda(source: str, options: tuple[str, ...]) -> tuple[bool, str]:
    """Compile CUDA C++ source: whether it worked, and the compiler's log, empty if there is nothing to say."""
    library, program = _library(), ctypes.c_void_p()
    created = library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    assert created == 0, f"nvrtcCreateProgram: error {created}"
    try:
        encoded = [option.encode() for option in options]
        status = library.nvrtcCompileProgram(program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded))
        size = ctypes.c_size_t()
        assert library.nvrtcGetProgramLogSize(program, ctypes.byref(size)) == 0
        log = ctypes.create_string_buffer(size.value)
        assert library.nvrtcGetProgramLog(program, log) == 0
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))
    return status == 0, log.value.decode()
