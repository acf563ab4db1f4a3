"""Self-check on first use of a device: which matmuls of cuBLASLt are wrong there, or crash.

Matmuls are checked by class: an epilogue, a precision, and which of rows, columns and inner size are 1. (NVIDIA's
release notes list errors of single classes, such as the epilogue BIAS with one row or column before CUDA 12.8.1.)
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradflow.backends.cuda.device_cache import DeviceCache
from gradflow.backends.cuda.epilogues import EVERY_CLASS
from gradflow.backends.cuda.gemm_trials import first_error, gemm_classes
from gradflow.errors import DeviceLostError

if TYPE_CHECKING:
    from gradflow.backends.cuda.backend import CupyBackend

_MOST_CRASHES = 12
"""Child processes that may crash before all classes that are not checked yet are refused."""

_SECONDS = 300
"""The most time that a child may take."""


def check_gemms(backend: CupyBackend) -> None:
    """Refuse the classes of matmuls that are wrong on this device, with a warning; then begin to choose the fastest.

    The check runs once for each device, driver and version of cuBLASLt and gradflow: in a child process, since a crash
    would cost this process its CUDA context; or in this process where no child can be started.
    """
    identity = backend.gemm_identity
    if identity is None:
        return
    cache = DeviceCache("gemm-check.json", identity)
    wrong = cache.read()
    if wrong is None:
        wrong = _found_by_children(backend.device_number, identity)
        if wrong is None:
            wrong = wrong_classes(backend)
        cache.add(wrong)
    if wrong:
        backend.refuse_gemms(wrong)
    backend.choices.begin(DeviceCache("gemm-choices.json", identity))


def wrong_classes(backend: CupyBackend) -> dict[str, str]:
    """Check all classes in this process, and return those that are wrong with their errors."""
    return {
        name: error
        for name, problems in gemm_classes(backend).items()
        if (error := first_error(backend, problems)) is not None
    }


def main(device: int, checked: Mapping[str, str | None]) -> None:
    """Check the classes that are not in ``checked``, and print a line of JSON at each step: the work of a child.

    The lines are ["device", its identity], ["begin", class], ["end", class, error or null], and ["done"]. A child that
    cannot check anything, for lack of memory for example, prints ["unable", reason].
    """
    from gradflow.backends.cuda.backend import CupyBackend

    def report(*line: str | None) -> None:
        print(json.dumps(line), flush=True)

    try:
        backend = CupyBackend(device)
        report("device", backend.gemm_identity)
        backend.refused_gemms.update({name: error for name, error in checked.items() if error is not None})
        for name, problems in gemm_classes(backend).items():
            if name not in checked:
                report("begin", name)
                report("end", name, first_error(backend, problems))
        report("done")
    except DeviceLostError as error:
        report("end", name, str(error).partition(": the CUDA context")[0])
    except Exception as error:  # a broken installation can raise anything
        report("unable", str(error))


def _found_by_children(device: int, identity: str) -> dict[str, str] | None:
    """Return the wrong classes with their errors; None if a child process cannot check this device.

    A class that crashes a child is wrong. The next child checks those that remain.
    """
    checked: dict[str, str | None] = {}
    for _ in range(_MOST_CRASHES):
        lines = _lines_of_child(device, checked)
        if not lines or lines[0] != ["device", identity] or lines[-1][0] == "unable":
            return None
        checked |= {name: error for kind, name, error in (line for line in lines if line[0] == "end")}
        if lines[-1] == ["done"]:
            break
        if lines[-1][0] == "begin":
            checked[lines[-1][1]] = "it crashed the process"
    else:
        checked[EVERY_CLASS] = f"the check crashed {_MOST_CRASHES} times"
    return {name: error for name, error in checked.items() if error is not None}


def _lines_of_child(device: int, checked: Mapping[str, str | None]) -> list[list[Any]]:
    """Return the lines that a child process printed; none if it cannot be started or did not end by itself."""
    interpreter = _interpreter()
    if interpreter is None:
        return []
    # Not multiprocessing, which would run the caller's script again. The child finds modules where this process does.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from gradflow.backends.cuda.self_check import main; main({device}, {checked!r})"
    )
    try:
        child = subprocess.run(
            [interpreter, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            check=False,
        )
        if child.returncode == -getattr(signal, "SIGKILL", 0):  # by the system, when memory is short
            return []
        return [json.loads(line) for line in child.stdout.splitlines()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _interpreter() -> str | None:
    """Return the Python that runs this process; None in a program with Python inside, which would start that again."""
    is_python = Path(sys.executable or "").stem.lower().startswith("python")
    return sys.executable if is_python and not getattr(sys, "frozen", False) else None
