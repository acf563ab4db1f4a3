"""The command as a whole: help, version, wrong usage."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

import gradflow as gf
from gradflow.cli import main
from gradflow.installation import pip_install
from tests.cli.command import environment, gradflow

ROOT = Path(__file__).parents[2]


def test_version() -> None:
    done = gradflow("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gradflow {gf.__version__}\n", "")


def test_help_names_the_first_command_to_try() -> None:
    done = gradflow("--help")
    assert done.returncode == 0
    assert "gradflow train digits" in done.stdout
    assert "gradflow info" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("train",), ("train", "customers.csv"), ("predict",)])
def test_help_has_a_short_option(arguments: tuple[str, ...]) -> None:
    short, long = (gradflow(*arguments, option) for option in ("-h", "--help"))
    assert short.returncode == 0
    assert short.stdout == long.stdout != ""


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("gradflow tr", "train"), ("gradflow train x.csv --tar", "--target"), ("gradflow predict --ov", "--overwrite")],
)
def test_shells_complete_commands_and_options(typed: str, completed: str) -> None:
    completing = {"_GRADFLOW_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    assert gradflow(**completing).stdout.split() == [completed]


@pytest.mark.parametrize("arguments", [(), ("train",)])
def test_no_command_shows_the_help(arguments: tuple[str, ...]) -> None:
    done = gradflow(*arguments)
    assert done.returncode == 2
    assert "Usage: gradflow" in done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments", [("trian",), ("train", "letters"), ("info", "--yaml"), ("train", "digits", "--epochs", "many")]
)
def test_wrong_usage_ends_with_2_and_no_traceback(arguments: tuple[str, ...]) -> None:
    done = gradflow(*arguments)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr or "--epochs" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec

    def find_all_but_rich(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "rich" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_all_but_rich)
    assert main(["info"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: the gradflow command needs rich; install: {pip_install('cli')}\n"


def test_the_entry_point_needs_no_extra_to_be_imported() -> None:
    code = "import sys, gradflow.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"typer", "rich"} & set(done.stdout.split())


_INTERRUPTS = """
import signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize(
    "module", ["numpy", "gradflow.network", "typer", "gradflow.cli.train", "gradflow.cli.train_file"]
)
@pytest.mark.parametrize("way", ["module", "script"])
def test_ctrl_c_while_modules_are_loaded_is_quiet(module: str, way: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_INTERRUPTS.format(module=module))
    command = [sys.executable, "-m", "gradflow"]
    if way == "script":
        (script := tmp_path / "gradflow").write_text("import sys; from gradflow.cli import main; sys.exit(main())")
        command = [sys.executable, str(script)]
    folders = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, "train", "missing.csv", "--target", "y"],
        env=environment(PYTHONPATH=folders), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_program_that_imports_the_library_keeps_its_ctrl_c() -> None:
    program = "import signal, gradflow; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
