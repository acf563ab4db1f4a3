"""`world`: the ranks of the MPI job that this process was launched in, or a world of one."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gradflow.distributed.base import World
from gradflow.errors import BackendError, DataError
from gradflow.installation import pip_install

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
"""Environment variables in which launchers tell a process the number of ranks: Open MPI, MPICH and Intel MPI, MVAPICH,
and Slurm with PMI-1 or PMI-2."""
_OF_STEP = "SLURM_STEP_NUM_TASKS"
"""The same from Slurm with PMIx, which has no such variable of its own. Slurm sets it for tasks without MPI too."""
_VARIABLE = "GRADFLOW_DISTRIBUTED"


_ALONE = World()
_alone_lock = threading.Lock()
_times_alone = 0
_of_process: World | None = None


@contextmanager
def alone() -> Iterator[World]:
    """Context in which `world` is a world of one, in all threads of this process, so that each rank trains networks of
    its own."""
    global _times_alone
    with _alone_lock:
        _times_alone += 1
    try:
        yield _ALONE
    finally:
        with _alone_lock:
            _times_alone -= 1


def world() -> World:
    """Return the world of this process: the ranks of the MPI job that it was launched in, or a world of one.

    MPI is initialized by the first call in a process that ``mpiexec`` or ``srun`` started, and never in another. The
    environment variable GRADFLOW_DISTRIBUTED overrides that: "mpi" for a launcher that is not recognized, "0" for
    ranks that have nothing to do with each other.

    Raises:
        BackendError: if there are several ranks, but mpi4py is missing, or belongs to another MPI than the launcher.
        RankError: if another rank does not arrive here.
    """
    global _of_process
    if _times_alone:
        return _ALONE
    if _of_process is None:
        _of_process = _made_world()
    return _of_process


def _made_world() -> World:
    wish = os.environ.get(_VARIABLE) or "auto"
    if wish not in ("auto", "mpi", "0"):
        raise DataError(f'the environment variable {_VARIABLE} must be "auto", "mpi" or "0", got {wish!r}')
    has_pmix = "PMIX_RANK" in os.environ
    told = [int(os.environ[name]) for name in _SIZES if os.environ.get(name, "").isdigit()]
    if has_pmix and not told and os.environ.get(_OF_STEP, "").isdigit():
        told = [int(os.environ[_OF_STEP])]
    expected = max(told, default=1)
    is_launched = expected > 1 or has_pmix
    if wish == "0" or (wish == "auto" and (not is_launched or _is_worker())):
        return _ALONE
    if importlib.util.find_spec("mpi4py") is None:
        raise BackendError(
            f"this process is one of {expected} ranks of an MPI job, but mpi4py is not installed; install it: "
            f"{pip_install('mpi')}, or set {_VARIABLE}=0 if each rank must train by itself"
        )
    from gradflow.distributed.mpi import mpi_world

    return mpi_world(expected, _ALONE)


def _is_worker() -> bool:
    """True in a worker process of a rank, which inherits its environment."""
    import multiprocessing  # would slow down importing gradflow

    return multiprocessing.parent_process() is not None
