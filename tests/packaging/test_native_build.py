"""Builds without a C compiler, where gradflow runs on NumPy unless the kernels are required; editable; for Windows."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.command import environment

pytestmark = pytest.mark.packaging

_REPOSITORY = Path(__file__).parents[2]
_SOURCES = ("gradflow", "kernels", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that a build reads, without the results of earlier builds."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in _SOURCES:
        if (_REPOSITORY / name).is_dir():
            shutil.copytree(_REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "_native*"))
        else:
            shutil.copy(_REPOSITORY / name, copy / name)
    return copy


def _build_without_compiler(tree: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel with a PATH that leads to no program."""
    nowhere = tree.parent / "nowhere"
    return subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tree.parent, tree],
        env=environment(CC=str(nowhere / "cc"), PATH=str(nowhere), **changes),
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_gradflow_runs_on_numpy(tree: Path) -> None:
    done = _build_without_compiler(tree)
    assert done.returncode == 0, done.stderr
    assert "gradflow's C kernels need GCC or Clang; without them gradflow works" in done.stdout + done.stderr
    (wheel,) = tree.parent.glob("*.whl")
    installed = tree.parent / "installed"
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "/_native" in name]
        archive.extractall(installed)
    code = """
import gradflow as gf
from gradflow.backends.cpu.native import native_library
digits = gf.data.load_digits()
trainer = gf.Trainer(gf.MLP([64, 32, 10], backend="numpy"), "softmax_cross_entropy", gf.Adam(0.01))
trainer.fit(digits.x_train, digits.y_train, epochs=3, progress=False)
print(gf.__file__, native_library() is None, trainer.evaluate(digits.x_test, digits.y_test)["accuracy"] > 0.8)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=installed,
        env=environment(PYTHONPATH=str(installed)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.split() == [str(installed / "gradflow" / "__init__.py"), "True", "True"], ran.stderr


_EDITABLE = """
import sys
from build import ProjectBuilder
from build.env import DefaultIsolatedEnv
with DefaultIsolatedEnv() as environment:
    builder = ProjectBuilder.from_isolated_env(environment, sys.argv[1])
    environment.install(builder.build_system_requires)
    builder.build("editable", sys.argv[2])
"""


def test_a_script_beside_an_editable_clone_imports_the_package(tree: Path) -> None:
    """The clone's folder is also named gradflow and is on the script's path, but it is not a package."""
    clone = tree.rename(tree.parent / "gradflow")
    nowhere = environment(CC="/nowhere/cc", PATH="/nowhere")
    subprocess.run([sys.executable, "-c", _EDITABLE, clone, tree.parent], env=nowhere, capture_output=True, check=True)
    (wheel,) = tree.parent.glob("*.whl")
    site = tree.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = tree.parent / "script.py"
    # The test environment may have an editable clone of its own on the path.
    script.write_text(
        f"import site, sys\n"
        f"sys.path = [path for path in sys.path if path != {str(_REPOSITORY)!r}]\n"
        f"site.addsitedir({str(site)!r})\nimport gradflow as gf\nprint(gf.data.__file__)"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert Path(ran.stdout.strip()) == clone / "gradflow" / "data" / "__init__.py", ran.stderr


def test_if_the_kernels_are_required_it_is_an_error(tree: Path) -> None:
    done = _build_without_compiler(tree, GRADFLOW_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "gradflow's C kernels need GCC or Clang" in done.stdout + done.stderr
    assert not list(tree.parent.glob("*.whl"))


@pytest.fixture
def setup_script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(_REPOSITORY)
    spec = importlib.util.spec_from_file_location("gradflow_setup", _REPOSITORY / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _program(path: Path, version: str) -> Path:
    """A compiler that tells its version, and otherwise writes its arguments to a file beside it."""
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit\necho "$@" >> "{path.with_suffix(".log")}"\n'
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("wish", "present", "expected"),
    [
        (None, ["clang", "gcc"], ["clang"]),
        (None, ["gcc"], ["gcc"]),
        ("gcc", ["clang", "gcc"], ["gcc"]),
        ("zig cc -target x86_64-windows-gnu", ["clang"], ["zig", "cc", "-target", "x86_64-windows-gnu"]),
    ],
)
def test_on_windows_clang_or_gcc_compiles(
    setup_script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wish: str | None,
    present: list[str],
    expected: list[str],
) -> None:
    for name in present:
        _program(tmp_path / name, name)
    monkeypatch.setenv("PATH", str(tmp_path))
    program, *arguments = setup_script.windows_command(wish)
    assert [Path(program).name, *arguments] == expected


def test_a_compiler_for_windows_with_spaces_in_its_path_is_found(setup_script: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "Program Files"
    folder.mkdir()
    path = str(_program(folder / "clang", "clang"))
    assert setup_script.windows_command(path) == [path]


def test_without_clang_and_gcc_on_windows_the_error_names_them(
    setup_script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(setup_script.CompileError, match="neither clang nor gcc is on the PATH"):
        setup_script.windows_command(None)


@pytest.mark.parametrize("name", ["clang", "gcc"])
def test_on_windows_gcc_alone_gets_unaligned_moves_and_static_libraries(
    setup_script: ModuleType, tmp_path: Path, name: str
) -> None:
    program = _program(tmp_path / name, f"{name} version 14.2.0")
    source = tmp_path / "empty.c"
    source.write_text("")
    compiler = setup_script.windows_compiler([str(program)])
    objects = compiler.compile([str(source)], output_dir=str(tmp_path))
    compiler.link_shared_object(objects, str(tmp_path / "_native.pyd"))
    compiling, linking = program.with_suffix(".log").read_text().splitlines()
    assert "-shared" in linking.split()
    assert ("-Wa,-muse-unaligned-vector-move" in compiling.split()) == (name == "gcc")
    assert ("-static" in linking.split()) == (name == "gcc")


def _compilers_for_windows() -> dict[str, list[str]]:
    """The commands of those that are installed here."""
    found = {}
    if gcc := shutil.which("x86_64-w64-mingw32-gcc"):
        found["gcc"] = [gcc]
    if importlib.util.find_spec("ziglang"):
        found["zig"] = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu"]
    return found


@pytest.mark.parametrize("name", ["gcc", "zig"])
def test_the_kernels_compile_for_windows(setup_script: ModuleType, tmp_path: Path, name: str) -> None:
    """The library exports what native.py calls, and needs no library but Windows' own."""
    if name not in _compilers_for_windows() or shutil.which("objdump") is None:
        pytest.skip("needs gcc-mingw-w64-x86-64 or ziglang, and objdump")
    from setuptools import Distribution  # not in every environment of the tests

    build = setup_script.BuildKernels(Distribution())
    build.build_temp = str(tmp_path / "temp")
    build.compiler = setup_script.windows_compiler(_compilers_for_windows()[name])
    library = tmp_path / "_native.pyd"
    build.build_library(library, "win32")
    headers = subprocess.run(["objdump", "-p", library], capture_output=True, text=True, check=True).stdout
    exports = set(re.findall(r"\] (?:\+base\[ *\d+\] +\w+ )?(gf_\w+)", headers))
    assert {"gf_fingerprint", "gf_supports", "gf_find", "gf_items", "gf_run", "gf_gemm_float32_64"} <= exports
    needed = re.findall(r"DLL Name: (\S+)", headers)
    assert all(re.fullmatch(r"(?i)(kernel32|msvcrt|ucrtbase|api-ms-win-crt-.*)\.dll", name) for name in needed), needed
