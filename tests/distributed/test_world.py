"""The operations of a world, and its failures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.backends.cpu.processors import processors
from tests.distributed.ranks import needs_mpi, results_of, run

_BEGIN = """
import os, signal, sys, time
import numpy as np
import gradflow as gf
world = gf.distributed.world()
"""


def test_a_program_without_a_launcher_is_a_world_of_one_and_loads_no_mpi() -> None:
    program = (
        "import sys, gradflow as gf; w = gf.distributed.world(); "
        "print(w.rank, w.size, any(name.startswith('mpi4py') for name in sys.modules))"
    )
    words = [sys.executable, "-c", program]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "0 1 False\n"


def test_a_world_of_one_leaves_arrays_alone() -> None:
    world = gf.distributed.World()
    array = np.arange(3.0)
    world.allreduce_(array)
    world.broadcast_(array)
    with world.together():
        assert world.gathered("value") == ["value"]
    assert array.tolist() == [0, 1, 2]
    assert world.on(get_backend("numpy")) is world
    assert world.rows(7) == range(7)


@pytest.mark.parametrize(
    "launcher", [{"OMPI_COMM_WORLD_SIZE": "4"}, {"PMI_SIZE": "4"}, {"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "4"}]
)
def test_a_launcher_without_mpi4py_is_an_error_that_names_the_package(
    launcher: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setattr("gradflow.distributed.launch.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("gradflow.distributed.launch._of_process", None)
    with pytest.raises(gf.BackendError, match=r"one of 4 ranks.*pip install.*mpi.*GRADFLOW_DISTRIBUTED=0"):
        gf.distributed.world()
    with gf.distributed.alone() as world:
        assert gf.distributed.world() is world
    monkeypatch.setenv("GRADFLOW_DISTRIBUTED", "0")
    assert gf.distributed.world().size == 1


def test_tasks_of_slurm_without_mpi_are_worlds_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setattr("gradflow.distributed.launch._of_process", None)
    assert gf.distributed.world().size == 1


def test_the_variable_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADFLOW_DISTRIBUTED", "yes")
    monkeypatch.setattr("gradflow.distributed.launch._of_process", None)
    with pytest.raises(gf.DataError, match='"auto", "mpi" or "0", got \'yes\''):
        gf.distributed.world()


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 8, 33, 128, 1001])
def test_the_rows_of_all_ranks_are_those_of_the_batch(size: int, rows: int) -> None:
    world, found = gf.distributed.World(), []
    world.size = size
    for rank in range(size):
        world.rank = rank
        of_rank = world.rows(rows)
        assert len(of_rank) <= 4 * -(-rows // (4 * size))
        assert of_rank.start % 4 == 0 or not of_rank
        found += of_rank
    assert found == list(range(rows))


_OPERATIONS = """
for dtype in (np.float32, np.float64, np.int64):
    for shape in ((1,), (3, 5), (5000,), (4096,), (1001, 101), (700_001,)):
        draws = [np.random.default_rng(rank) for rank in range(world.size)]
        parts = [(1e3 * draw.normal(size=shape)).astype(dtype) for draw in draws]
        expected = parts[0]
        for part in parts[1:]:
            expected = expected + part
        own = parts[world.rank].copy()
        world.allreduce_(own)
        assert own.tobytes() == expected.tobytes()
        own = parts[world.rank].copy()
        world.broadcast_(own, root=world.size - 1)
        assert own.tobytes() == parts[-1].tobytes()
assert world.gathered((world.rank, "x" * 10**6)) == [(rank, "x" * 10**6) for rank in range(world.size)]
try:
    world.allreduce_(np.zeros((4, 4)).T)
except gf.DataError as error:
    assert "C-contiguous" in str(error)
with gf.distributed.alone():
    assert gf.distributed.world().size == 1
print("rank", world.rank, "of", world.size)
"""


_BY_MESSAGES = """
import gradflow.distributed.mpi
gradflow.distributed.mpi.shared_memory = lambda world, waiting: None  # as between machines
"""


@needs_mpi
@pytest.mark.parametrize("before", ["", _BY_MESSAGES], ids=["shared memory", "messages"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_sums_are_in_the_order_of_the_ranks(ranks: int, before: str) -> None:
    lines = results_of(ranks, before + _BEGIN + _OPERATIONS).splitlines()
    assert sorted(lines) == [f"rank {rank} of {ranks}" for rank in range(ranks)]


_FAILURE = """
array = np.ones(10**5)
try:
    with world.together():
        world.allreduce_(array)
        if world.rank == 1:
            raise ValueError("no such luck")
        world.allreduce_(array)
except Exception as error:
    print(f"{world.rank}: {type(error).__name__}: {error}", flush=True)
with world.together():  # with nothing of what was left in between
    array[:] = 1
    world.allreduce_(array)
    assert (array == world.size).all()
    print(f"{world.rank}: went on", flush=True)
world.gathered(None)
"""


@needs_mpi
def test_an_error_on_one_rank_ends_what_all_do_and_is_named() -> None:
    lines = run(3, _BEGIN + _FAILURE).stdout.splitlines()
    of_others = "RankError: rank 1 of 3 ended the training of all: ValueError: no such luck"
    errors = [f"0: {of_others}", "1: ValueError: no such luck", f"2: {of_others}"]
    assert sorted(lines) == sorted([*errors, *(f"{rank}: went on" for rank in range(3))])


@needs_mpi
def test_an_uncaught_error_on_one_rank_ends_all() -> None:
    program = _BEGIN + "if world.rank == 1:\n    1 / 0\nworld.allreduce_(np.ones(1))"
    ended = run(2, program)
    assert ended.returncode != 0
    assert "ZeroDivisionError" in ended.stderr
    assert "rank 1 of 2 ended: ZeroDivisionError" in ended.stderr


@needs_mpi
def test_a_rank_that_does_not_come_is_named_after_the_time_limit() -> None:
    # Once all are there, so that the time that they take to start does not count.
    begin = _BEGIN + "world.gathered(None)\nworld._timeout = 4\n"
    ended = run(3, begin + "if world.rank == 2:\n    time.sleep(3600)\nworld.gathered(None)")
    assert ended.returncode != 0
    assert "waited 4 s for rank 2" in ended.stderr


@needs_mpi
def test_a_killed_rank_ends_all() -> None:
    program = _BEGIN + "if world.rank == 1:\n    os.kill(os.getpid(), signal.SIGKILL)\nworld.allreduce_(np.ones(10**6))"
    assert run(3, program).returncode != 0


@needs_mpi
def test_a_wrong_time_limit_is_refused() -> None:
    ended = run(2, _BEGIN, GRADFLOW_RANK_TIMEOUT="soon")
    assert ended.returncode != 0
    assert "GRADFLOW_RANK_TIMEOUT must be a number of seconds above 0, got 'soon'" in ended.stderr


@needs_mpi
def test_ranks_on_the_same_processors_share_them() -> None:
    unset = {"OMP_NUM_THREADS": "", "MKL_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": ""}
    assert results_of(2, _BEGIN + "print(world.threads)", **unset).split() == 2 * [str(max(1, processors() // 2))]
    assert results_of(2, _BEGIN + "print(world.threads)", OMP_NUM_THREADS="3").split() == ["None", "None"]
