"""The wheel and the sdist: their contents, and that an installed gradflow works outside its repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernels.c_library import COMPILER

pytestmark = pytest.mark.packaging

_REPOSITORY = Path(__file__).parents[2]
_KERNELS = {
    path.relative_to(_REPOSITORY / "kernels").as_posix()
    for path in (_REPOSITORY / "kernels").rglob("*")
    if path.suffix in (".cu", ".c", ".h")
}
_NO_SOURCES = (".git", ".venv*", ".*_cache", "__pycache__", "_native*", "*.egg-info", "build", "dist")


def _no_sources(folder: str, names: list[str]) -> set[str]:
    """The names in a folder that a build does not read; `runs` is a package elsewhere than at the top."""
    patterns = (*_NO_SOURCES, "runs") if Path(folder) == _REPOSITORY else _NO_SOURCES
    return shutil.ignore_patterns(*patterns)(folder, names)


def _run(*command: str | Path, folder: Path) -> str:
    """Return the output of a command in a folder, without the settings that could reveal the repository to it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADFLOW"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Distributions:
    """The two files, and the names in them; those of the sdist without its top folder."""

    wheel: Path
    wheel_names: set[str]
    sdist_names: set[str]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    folder = tmp_path_factory.mktemp("distributions")
    # A build writes into its tree: each uses its own copy, so that parallel test processes do not interfere.
    tree = shutil.copytree(_REPOSITORY, folder / "tree", ignore=_no_sources)
    _run(sys.executable, "-m", "build", "--outdir", folder, tree, folder=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        wheel_names = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        sdist_names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    return Distributions(wheel, wheel_names, sdist_names)


@pytest.fixture(scope="module")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh environment with the wheel and its requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", folder, folder=folder)
    _run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", distributions.wheel, folder=folder)
    return folder


def _python(installed: Path, code: str) -> str:
    return _run(installed / "bin" / "python", "-c", code, folder=installed)


def test_wheel_holds_one_top_level_package(distributions: Distributions) -> None:
    tops = {name.partition("/")[0] for name in distributions.wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"gradflow"}
    assert len(tops) == 2


def test_wheel_holds_every_module_kernel_and_data_file(distributions: Distributions) -> None:
    package = _REPOSITORY / "gradflow"
    modules = {path.relative_to(_REPOSITORY).as_posix() for path in package.rglob("*.py")}
    kernels = {f"gradflow/kernels/{name}" for name in _KERNELS}
    data = {"gradflow/py.typed", "gradflow/data/digits.npz", "gradflow/data/digits.md", "gradflow/reports/page.html"}
    assert modules | kernels | data <= distributions.wheel_names
    assert any(name.endswith("/licenses/LICENSE") for name in distributions.wheel_names)


def test_wheel_holds_no_tests(distributions: Distributions) -> None:
    assert not {name for name in distributions.wheel_names if "test" in Path(name).name}


def test_sdist_holds_all_that_it_takes_to_build_and_test(distributions: Distributions) -> None:
    files = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "gradflow/py.typed"}
    files |= {"gradflow/data/digits.npz", "tests/conftest.py", "tests/packaging/test_distributions.py"}
    files |= {f"kernels/{name}" for name in _KERNELS}
    assert files <= distributions.sdist_names


def test_distributions_are_light(distributions: Distributions) -> None:
    with zipfile.ZipFile(distributions.wheel) as archive:
        sizes = {member.filename: member.compress_size for member in archive.infolist()}
    kernels = sum(size for name, size in sizes.items() if Path(name).name.startswith("_native"))
    assert kernels < 780_000  # for three instruction sets and two element types
    assert sum(sizes.values()) - kernels < 870_000


def test_kernels_load_where_there_is_no_repository(installed: Path) -> None:
    code = """
import json, numpy
from gradflow.backends.kernel_sources import kernel_folder, kernels, source_text
files = {kernel.file for language in ("cuda", "c") for kernel in kernels(language).values()}
texts = [source_text(file, real) for file in files for real in ("float32", "float64")]
names = sorted(file.relative_to(kernel_folder()).as_posix() for file in files)
print(json.dumps([str(kernel_folder()), names, min(map(len, texts))]))
"""
    folder, files, shortest = json.loads(_python(installed, code))
    assert Path(folder).is_relative_to(installed)
    assert set(files) == {name for name in _KERNELS if not name.endswith(".h")}
    assert shortest > 200


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_compiled_kernels_are_in_the_wheel_and_load(installed: Path) -> None:
    code = """
from gradflow.backends.cpu.native import native_library
print(native_library().path)
"""
    assert Path(_python(installed, code).strip()).is_relative_to(installed)


def test_installed_network_learns(installed: Path) -> None:
    code = """
import gradflow as gf
digits = gf.data.load_digits()
trainer = gf.Trainer(gf.MLP([64, 32, 10], backend="numpy"), "softmax_cross_entropy", "adam")
trainer.fit(digits.x_train, digits.y_train, epochs=5)
print(trainer.evaluate(digits.x_test, digits.y_test)["accuracy"])
"""
    assert float(_python(installed, code)) > 0.8


def test_import_stays_light(installed: Path) -> None:
    """Even if all of these are installed, importing gradflow may not import any."""
    code = "import sys, gradflow; print(*sorted(sys.modules))"
    heavy = {"cupy", "matplotlib", "rich", "typer"}
    assert not heavy & set(_python(installed, code).split())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("command", [("bin/gradflow",), ("bin/python", "-m", "gradflow")])
def test_command_without_its_extra_says_what_to_install(installed: Path, command: tuple[str, ...]) -> None:
    program = str(installed / command[0])
    done = subprocess.run([program, *command[1:], "info"], cwd=installed, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    says = r"error: the gradflow command needs typer and rich; install: pip install \S+\.whl\[cli\]'\n"
    assert re.fullmatch(says, done.stderr), done.stderr  # the wheel that this gradflow was installed from
    assert done.stdout == ""
