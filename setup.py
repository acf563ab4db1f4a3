"""Builds the C kernels of the CPU backend, where there is a C compiler; without one gradflow runs on plain NumPy.

Everything else about the package stands in pyproject.toml. GRADFLOW_REQUIRE_NATIVE=1 makes a failed build an error, as
releases need.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

BACKENDS = Path("gradflow") / "backends"
_FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden"]
_INSTRUCTIONS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    _INSTRUCTIONS["avx2"] = ["-mavx2", "-mfma", "-mprefer-vector-width=256"]
    _INSTRUCTIONS["avx512"] = ["-march=skylake-avx512", "-mprefer-vector-width=512"]


def _sources_module():
    """gradflow.backends.sources, read by itself: the package needs NumPy, which a build has not."""
    spec = importlib.util.spec_from_file_location("gradflow_sources", BACKENDS / "sources.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class BuildKernels(build_ext):
    """Compiles every kernel once for each element type and instruction set, and links them with native.c."""

    def build_extension(self, ext: Extension) -> None:
        generated = Path(self.build_temp) / "kernels"
        generated.mkdir(parents=True, exist_ok=True)
        text_of = _sources_module().c_library_text
        tables, objects = [], []

        def compiled(source: str, flags: list[str]) -> list[str]:
            return self.compiler.compile(
                [source], output_dir=self.build_temp, include_dirs=[str(BACKENDS)], extra_postargs=[*_FLAGS, *flags]
            )

        for real in ("float32", "float64"):
            for instructions, flags in _INSTRUCTIONS.items():
                table = f"gf_{real}_{instructions}"
                source = generated / f"{table}.c"
                source.write_text(text_of(real, table))
                objects += compiled(str(source), flags)
                tables.append(table)
        listed = " ".join(f"X({table})" for table in tables)
        objects += compiled(str(BACKENDS / "native.c"), [f"-DGF_TABLES={listed}"])
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target), libraries=["m"])


setup(
    ext_modules=[
        Extension(
            "gradflow.backends._native",
            [str(BACKENDS / "native.c")],
            optional=os.environ.get("GRADFLOW_REQUIRE_NATIVE") != "1",
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
