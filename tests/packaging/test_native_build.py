"""Building where there is no C compiler, where gradflow runs on NumPy unless the kernels are required; and editable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.command import environment

pytestmark = pytest.mark.packaging

_REPOSITORY = Path(__file__).parents[2]
_SOURCES = ("gradflow", "kernels", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a build reads, without what former builds left."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in _SOURCES:
        if (_REPOSITORY / name).is_dir():
            shutil.copytree(_REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "_native*"))
        else:
            shutil.copy(_REPOSITORY / name, copy / name)
    return copy


def _build_without_compiler(tree: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Build a wheel with a PATH on which nothing stands."""
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
    """The clone's folder is called gradflow too, and lies on the script's path: it is no package."""
    clone = tree.rename(tree.parent / "gradflow")
    nowhere = environment(CC="/nowhere/cc", PATH="/nowhere")
    subprocess.run([sys.executable, "-c", _EDITABLE, clone, tree.parent], env=nowhere, capture_output=True, check=True)
    (wheel,) = tree.parent.glob("*.whl")
    site = tree.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = tree.parent / "script.py"
    # The environment of the tests may have an editable clone of its own on the path.
    script.write_text(
        f"import site, sys\n"
        f"sys.path = [path for path in sys.path if path != {str(_REPOSITORY)!r}]\n"
        f"site.addsitedir({str(site)!r})\nimport gradflow as gf\nprint(gf.data.__file__)"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert Path(ran.stdout.strip()) == clone / "gradflow" / "data" / "__init__.py", ran.stderr


def test_where_the_kernels_are_required_it_is_an_error(tree: Path) -> None:
    done = _build_without_compiler(tree, GRADFLOW_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "gradflow's C kernels need GCC or Clang" in done.stdout + done.stderr
    assert not list(tree.parent.glob("*.whl"))
