"""Finding and reading the kernels in ``kernels/``: one source for CUDA's compiler and for C's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from gradflow.errors import BackendError

__all__ = ["Kernel", "Language", "Parameter", "kernel_folder", "kernels", "source_text"]

Language = Literal["cuda", "c"]

_DTYPES: dict[str, np.dtype] = {
    "accumulator": np.dtype(np.float64),
    "double": np.dtype(np.float64),
    "gf_index": np.dtype(np.int64),
    "gf_word": np.dtype(np.uint32),
    "gf_long_word": np.dtype(np.uint64),
    "int": np.dtype(np.int32),
}


@dataclass(frozen=True)
class Parameter:
    """An argument of a kernel: its name, its C type without `const` and `*`, and whether it is a pointer."""

    name: str
    c_type: str
    is_pointer: bool

    def dtype(self, real: np.dtype) -> np.dtype:
        """The NumPy dtype of the value, or of what the pointer points to."""
        return np.dtype(real) if self.c_type == "real" else _DTYPES[self.c_type]


@dataclass(frozen=True)
class Kernel:
    """A kernel: the op it implements, the file it stands in, and its arguments."""

    name: str
    file: Path
    parameters: tuple[Parameter, ...]


@cache
def kernel_folder() -> Path:
    """The folder of the kernel sources: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).resolve().parent.parent
    installed, beside = package / "kernels", package.parent / "kernels"
    if (installed / "gradflow.h").is_file():
        return installed
    if (package.parent / "pyproject.toml").is_file() and (beside / "gradflow.h").is_file():
        return beside
    raise BackendError(f"gradflow's kernel sources are missing: expected them in {installed}; reinstall gradflow-mlp")


@cache
def kernels(language: Language) -> dict[str, Kernel]:
    """Every kernel by name. A file ``name.c`` takes the place of ``name.cu`` for the C compiler."""
    files = {path.stem: path for path in sorted(kernel_folder().glob("*.cu"))}
    if language == "c":
        files |= {path.stem: path for path in sorted(kernel_folder().glob("*.c"))}
    found = {}
    for path in files.values():
        for name, parameters in re.findall(r"GF_KERNEL\((\w+),\s*([^)]*)\)", path.read_text()):
            found[name] = Kernel(name, path, tuple(map(_parse_parameter, parameters.split(","))))
    return found


def _parse_parameter(declaration: str) -> Parameter:
    c_type, name = re.fullmatch(r"\s*(?:const\s+)?(\w+)\s*(\*?\s*\w+)\s*", declaration).groups()  # type: ignore[union-attr]
    return Parameter(name.lstrip("* "), c_type, name.startswith("*"))


@cache
def source_text(file: Path, real: np.dtype) -> str:
    """A kernel file for one element type, with gradflow's headers put in as text.

    CuPy's kernel cache hashes the source and the options, not what an include path finds.
    """
    included: set[str] = set()

    def read(path: Path) -> str:
        def include(match: re.Match[str]) -> str:
            header = match[1]
            if header in included:
                return ""
            included.add(header)
            return read(path.parent / header)

        return re.sub(r'^#include "(\w+\.h)"\n', include, path.read_text(), flags=re.MULTILINE)

    c_type, function = {"float32": ("float", "function##f"), "float64": ("double", "function")}[np.dtype(real).name]
    return f"typedef {c_type} real;\n#define GF_MATH(function) {function}\n{read(file)}"
