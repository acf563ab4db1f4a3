"""The command as a user runs it: in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process without gradflow's own variables, and with changes."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GRADFLOW")} | changes


def gradflow(*arguments: str | Path, folder: Path | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
    """Return the output and exit status of ``gradflow`` with these arguments; ``changes`` are environment variables."""
    return subprocess.run(
        [sys.executable, "-m", "gradflow", *map(str, arguments)],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )
