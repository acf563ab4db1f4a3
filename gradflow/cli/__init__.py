"""The command line: ``gradflow``, or ``python -m gradflow``."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Sequence

from gradflow.loading import INTERRUPTED, end_quietly

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0; 2 wrong usage or input; 3 training diverged; 130 interrupted; 143
    terminated; and for ``gradflow repeat``, 1 if the results differ.

    Args:
        arguments: the arguments after the command's name; None takes those of the process.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # while modules were loaded; the commands themselves say what they have saved
        return INTERRUPTED


def _run(arguments: Sequence[str]) -> int:
    if missing := [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]:
        from gradflow.installation import pip_install

        print(
            f"error: the gradflow command needs {' and '.join(missing)}; install: {pip_install('cli')}",
            file=sys.stderr,
        )
        return 2
    from gradflow.cli.application import run

    if signal.getsignal(signal.SIGINT) is end_quietly:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run(arguments)
