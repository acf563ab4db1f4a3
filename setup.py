"""Builds the C kernels of the CPU backend if there is a C compiler; without one gradflow runs on plain NumPy.

Everything else about the package is in pyproject.toml. GRADFLOW_REQUIRE_NATIVE=1 makes a failed build an error, as
releases need.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError

from distutils.ccompiler import CCompiler, new_compiler  # isort: skip: it comes with setuptools

BACKENDS = Path("gradflow") / "backends"
CPU = BACKENDS / "cpu"


def imported(path: Path):
    """Import a module of gradflow by itself: the package needs NumPy, which a build does not have."""
    spec = importlib.util.spec_from_file_location(f"gradflow_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def windows_command(wish: str | None) -> list[str]:
    """Return the command of the compiler for Windows: the one wished for ($CC), or Clang or GCC from the path.

    Raises:
        CompileError: if there is none.
    """
    if wish:
        return [wish] if shutil.which(wish) else wish.split()
    for name in ("clang", "gcc"):
        if path := shutil.which(name):
            return [path]
    raise CompileError("Microsoft's compiler does not compile them, and neither clang nor gcc is on the PATH")


def windows_compiler(command: list[str]) -> CCompiler:
    """Return a compiler that calls Clang or GCC directly, as setuptools does only on other systems.

    GCC would spill AVX registers to a stack that Windows aligns to 16 bytes only, by instructions that want more (GCC's
    bug 54412): its assembler makes them unaligned.
    """
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    is_clang = "clang" in version.stdout
    compiler = new_compiler(compiler="unix")
    compiler.set_executables(
        compiler_so=command if is_clang else [*command, "-Wa,-muse-unaligned-vector-move"],
        # A library that needs no other but Windows' own.
        linker_so=[*command, "-shared"] if is_clang else [*command, "-shared", "-static"],
    )
    return compiler


class BuildKernels(build_ext):
    """Compiles every kernel once for each element type and instruction set, and links them with native.c."""

    def build_extension(self, ext: Extension) -> None:
        try:
            if sys.platform == "win32":
                self.compiler = windows_compiler(windows_command(os.environ.get("CC")))
            self.build_library(Path(self.get_ext_fullpath(ext.name)), sys.platform)
        except CCompilerError as error:
            raise CompileError(
                f"{error}. gradflow's C kernels need GCC or Clang; without them gradflow works, but slower, on NumPy "
                "alone. To have them, install a compiler, and gradflow again"
            ) from error

    def build_library(self, target: Path, platform: str) -> None:
        sources = imported(BACKENDS / "kernel_sources.py")
        generated = Path(self.build_temp) / "kernels"
        generated.mkdir(parents=True, exist_ok=True)
        tables, jobs = [], []
        for instructions, flags in sources.INSTRUCTION_FLAGS.items():
            if not self._accepts(generated, flags):
                continue
            for real in ("float32", "float64"):
                table = f"gf_{real}_{instructions}"
                source = generated / f"{table}.c"
                source.write_text(sources.c_library_text(real, table), encoding="utf-8")
                jobs.append((source, [*sources.C_FLAGS, *flags]))
                tables.append(table)
        fingerprint = [f'-DGF_FINGERPRINT="{sources.fingerprint()}"']
        listed = " ".join(f"X({table})" for table in tables)
        jobs.append((CPU / "native.c", [*sources.C_FLAGS, f"-DGF_TABLES={listed}", *fingerprint]))
        strip = ["-s"] if platform == "linux" else []
        libraries, threads = ([], []) if platform == "win32" else (["m"], ["-pthread"])
        jobs += [(CPU / name, [*sources.C_FLAGS, *threads]) for name in ("pace.c", "team.c")]
        with ThreadPoolExecutor(imported(CPU / "processors.py").processors()) as pool:
            objects = [name for compiled in pool.map(self._compiled, *zip(*jobs, strict=True)) for name in compiled]
        # A linker for Windows leaves files beside the library that do not belong in the package.
        linked = generated.parent / target.name
        self.compiler.link_shared_object(objects, str(linked), libraries=libraries, extra_postargs=[*threads, *strip])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(linked, target)

    def _accepts(self, folder: Path, flags: tuple[str, ...]) -> bool:
        """True if the compiler knows an instruction set: not another processor's, nor one newer than the compiler."""
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


if __name__ == "__main__":
    setup(
        ext_modules=[
            Extension(
                "gradflow.backends.cpu._native",
                [str(CPU / name) for name in ("native.c", "pace.c", "team.c")],
                depends=[str(header) for header in sorted(CPU.glob("*.h"))],
                optional=os.environ.get("GRADFLOW_REQUIRE_NATIVE") != "1",
            )
        ],
        cmdclass={"build_ext": BuildKernels},
        # An editable install puts the clone on Python's path. The default, a finder that is asked last, would let any
        # folder of that name answer `import gradflow`: for a script next to the clone, the clone's folder.
        options={"editable_wheel": {"mode": "compat"}},
    )
