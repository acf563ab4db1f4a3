"""Fixtures of all tests: the backends, and the rule for tests that need a GPU, CUDA's compiler or PyTorch.

Tests marked `gpu` skip without a GPU (real or simulated), those marked `nvrtc` without the wheels of CUDA's compiler,
those marked `peers` without PyTorch, and those marked `packaging` without the tool that builds packages. One line at
the end reports how many skipped and why. With ``--require gpu`` (or one of the others) they fail instead.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
from collections import Counter

import pytest
from hypothesis import settings

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.backends.reference import ReferenceBackend
from gradflow.clock import RunStatus
from gradflow.training.watch.other_work import OtherWork
from tests.kernels.nvrtc import missing_wheel

os.environ.setdefault("GRADFLOW_TUNE", "0")  # or times would decide what a test of the GPU sees

# Nor does other work on the machine decide which warnings a test sees, in this process or in those that it starts.
OtherWork._has_warned = True
os.environ.setdefault("PYTHONWARNINGS", "ignore:other work on the processors held training back")

_KINDS = ("gpu", "nvrtc", "packaging", "peers")

settings.register_profile("quick", deadline=None, derandomize=True)
settings.register_profile("long", max_examples=2000, deadline=None)
settings.load_profile("quick")

_MISSING = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require", action="append", default=[], choices=_KINDS, help="fail where it is missing")
    parser.addoption("--run-slow", action="store_true", help="run tests marked slow too")


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as the background jobs of a shell, and their children, do
        signal.signal(signal.SIGINT, signal.default_int_handler)
    missing = {}
    if problem := gpu_problem():
        missing["gpu"] = problem
    absent = [name for name in ("torch", "sklearn") if importlib.util.find_spec(name) is None]
    if absent:
        missing["peers"] = f"{' and '.join(absent)} cannot be imported; the extra peers brings them"
    if wheel := missing_wheel():
        missing["nvrtc"] = f"{wheel} is not installed"
    if not any(importlib.metadata.distributions(name="build")):
        missing["packaging"] = "build is not installed"
    if not config.getoption("--run-slow"):
        missing["slow"] = "run by make check-long"
    for kind in config.getoption("--require"):
        if kind in missing:
            raise pytest.UsageError(f"--require {kind}: {missing[kind]}")
    config.stash[_MISSING] = missing


def pytest_runtest_setup(item: pytest.Item) -> None:
    for kind, reason in item.config.stash[_MISSING].items():
        if item.get_closest_marker(kind):
            pytest.skip(reason)


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    return report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Show no letter for skipped tests, of which there are thousands; the summary has one line per reason."""
    is_missing = report.skipped and isinstance(report, pytest.TestReport) and not hasattr(report, "wasxfail")
    return ("skipped", "", "SKIPPED") if is_missing and _reason(report) in config.stash[_MISSING].values() else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons = Counter(map(_reason, terminalreporter.getreports("skipped")))
    for kind, reason in sorted(config.stash[_MISSING].items()):
        if reasons[reason]:
            terminalreporter.write_line(f"not run here: {reasons[reason]:,} marked {kind} ({reason})")


@pytest.fixture(params=["reference", "numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend_name(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn."""
    name: str = request.param
    return name


@pytest.fixture
def without_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no epoch look at its status: how often it does depends on time (tests/training/step/test_looks.py)."""
    monkeypatch.setattr(RunStatus, "look", lambda status: None)


@pytest.fixture
def backend(backend_name: str) -> ReferenceBackend:
    """Each backend in turn."""
    return get_backend(backend_name)
