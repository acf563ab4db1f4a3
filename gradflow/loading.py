"""Ctrl-C while the command ``gradflow`` loads its modules ends it without a traceback."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading

INTERRUPTED = 130
"""Exit code after Ctrl-C: that of shells."""


def end_quietly(number: int, frame: object) -> None:
    """End the process; nothing has been begun that must be finished."""
    os._exit(INTERRUPTED)


def _is_command() -> bool:
    """True if this process is the command, not a program that imports the library."""
    started = sys.argv[0] if getattr(sys, "argv", None) else ""
    if started == "-m":  # Python has not found the module yet, whose package this is
        return ("-m", "gradflow") in itertools.pairwise(sys.orig_argv)
    return os.path.splitext(os.path.basename(started))[0] == "gradflow"


if (
    _is_command()
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, end_quietly)
