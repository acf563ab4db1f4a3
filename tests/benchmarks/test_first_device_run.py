"""benchmarks/first_device_run.sh goes on after failures, keeps its limit, and leaves a table; no Python really runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("timeout") is None, reason="needs GNU's timeout")

_SCRIPT = Path(__file__).parents[2] / "benchmarks" / "first_device_run.sh"
_PYTHON = """#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in
*doctor*) sleep 600 ;;
*benchmarks.gpu*) echo "measured" ;;
*) echo "ImportError: no module"; exit 3 ;;
esac
"""


def _run(folder: Path, *parts: str, limit: int) -> tuple[dict[str, str], str]:
    """Return the lines of the table by part, and what was run."""
    python = folder / "python"
    python.write_text(_PYTHON)
    python.chmod(0o755)
    settings = {"PYTHON": str(python), "OUT": str(folder / "out"), "LIMIT": str(limit), "least": "1"}
    done = subprocess.run(
        ["bash", str(_SCRIPT), *parts], env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )
    table = (folder / "out" / "summary.txt").read_text().splitlines()
    assert "\n".join(table) in done.stdout
    log = folder / "python.log"
    return {line.split()[0]: line for line in table[1:]}, log.read_text() if log.exists() else ""


def test_it_goes_on_after_failures(tmp_path: Path) -> None:
    lines, ran = _run(tmp_path, "tests", "bench", limit=60)
    assert lines.keys() == {"tests", "bench"}
    assert "exit code 3" in lines["tests"]
    assert "ImportError: no module" in lines["tests"]
    assert "ok" in lines["bench"]
    assert "measured" in lines["bench"]
    assert "-m benchmarks.gpu --budget 45 --networks M L T W S" in ran
    with tarfile.open(tmp_path / "out" / "logs.tar.gz") as logs:
        assert {"./tests.txt", "./bench.txt"} <= set(logs.getnames())


def test_a_part_that_hangs_is_ended_and_the_limit_is_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    lines, ran = _run(tmp_path, "doctor", "tests", limit=3)
    assert time.monotonic() - began < 60  # not ten minutes
    assert "out of time" in lines["doctor"]
    assert "no time was left" in lines["tests"]
    assert "-m pytest" not in ran


def test_time_is_reserved_for_what_follows(tmp_path: Path) -> None:
    lines, _ = _run(tmp_path, limit=20)
    assert list(lines) == ["info", "doctor", "tests", "bench", "memcheck", "ncu", "racecheck", "compiled", "ops"]
    assert all("no time was left" in lines[part] for part in ("info", "doctor", "tests", "bench", "memcheck"))
