"""Builds the C kernels of the CPU backend, where there is a C compiler; without one gradflow runs on plain NumPy.

Everything else about the package stands in pyproject.toml. GRADFLOW_REQUIRE_NATIVE=1 makes a failed build an error, as
releases need.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError

BACKENDS = Path("gradflow") / "backends"
CPU = BACKENDS / "cpu"


def _sources_module():
    """gradflow.backends.kernel_sources, read by itself: the package needs NumPy, which a build has not."""
    spec = importlib.util.spec_from_file_location("gradflow_sources", BACKENDS / "kernel_sources.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class BuildKernels(build_ext):
    """Compiles every kernel once for each element type and instruction set, and links them with native.c."""

    def build_extension(self, ext: Extension) -> None:
        try:
            self._build_library(Path(self.get_ext_fullpath(ext.name)))
        except CCompilerError as error:
            raise CompileError(
                f"{error}. gradflow's C kernels need GCC or Clang; without them gradflow works, but slower, on NumPy "
                "alone. To have them, install a compiler, and gradflow again"
            ) from error

    def _build_library(self, target: Path) -> None:
        if self.compiler.compiler_type == "msvc":
            raise CompileError("Microsoft's compiler does not compile them")
        sources = _sources_module()
        generated = Path(self.build_temp) / "kernels"
        generated.mkdir(parents=True, exist_ok=True)
        tables, jobs = [], []
        for instructions, flags in sources.INSTRUCTION_FLAGS.items():
            if not self._accepts(generated, flags):
                continue
            for real in ("float32", "float64"):
                table = f"gf_{real}_{instructions}"
                source = generated / f"{table}.c"
                source.write_text(sources.c_library_text(real, table))
                jobs.append((source, [*sources.C_FLAGS, *flags]))
                tables.append(table)
        fingerprint = [f'-DGF_FINGERPRINT="{sources.fingerprint()}"']
        listed = " ".join(f"X({table})" for table in tables)
        jobs.append((CPU / "native.c", [*sources.C_FLAGS, f"-DGF_TABLES={listed}", *fingerprint]))
        threads = [] if sys.platform == "win32" else ["-pthread"]
        jobs.append((CPU / "team.c", [*sources.C_FLAGS, *threads]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = [name for compiled in pool.map(self._compiled, *zip(*jobs, strict=True)) for name in compiled]
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target), libraries=["m"], extra_postargs=threads)

    def _accepts(self, folder: Path, flags: tuple[str, ...]) -> bool:
        """Whether the compiler knows an instruction set: not that of other processors, nor one newer than itself."""
        empty = folder / "empty.c"
        empty.write_text("")
        try:
            self._compiled(empty, list(flags))
        except CompileError:
            if not flags:
                raise
            return False
        return True

    def _compiled(self, source: Path, flags: list[str]) -> list[str]:
        return self.compiler.compile(
            [str(source)], output_dir=self.build_temp, include_dirs=[str(CPU)], extra_postargs=["-g0", *flags]
        )


setup(
    ext_modules=[
        Extension(
            "gradflow.backends.cpu._native",
            [str(CPU / "native.c"), str(CPU / "team.c")],
            depends=[str(CPU / "native.h"), str(CPU / "team.h")],
            optional=os.environ.get("GRADFLOW_REQUIRE_NATIVE") != "1",
        )
    ],
    cmdclass={"build_ext": BuildKernels},
    # An editable install puts the clone on Python's path. The default, a finder that is asked last, leaves `import
    # gradflow` to any folder of that name: for a script beside the clone, to the clone.
    options={"editable_wheel": {"mode": "compat"}},
)
