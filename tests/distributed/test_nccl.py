"""Ranks with a GPU each, and NCCL between them."""

from __future__ import annotations

import time

import pytest

from tests.distributed.ranks import needs_mpi, results_of, run

pytestmark = [pytest.mark.gpu, needs_mpi]
GPU = {"GRADFLOW_BACKEND": "cupy", "SIMGPU_NCCL_TIMEOUT": "40"}
_BEGIN = """
import os, signal, sys, time
import numpy as np
import cupy as cp
import cupy.cuda.nccl as nccl
import gradflow as gf
from gradflow.backends import get_backend
host = gf.distributed.world()
backend = get_backend("cupy")
"""
_WORLD = _BEGIN + "world = host.on(backend)\n"


def _told(output: str, message: str) -> int:
    """Return how many ranks raised an error with a message."""
    lines = output.splitlines()
    return sum(line.startswith("gradflow.errors.BackendError: ") and message in line for line in lines)


def test_sums_and_broadcasts_are_work_of_the_stream() -> None:
    program = (
        _WORLD
        + """
from gradflow.backends.cuda.graphs import capture
assert backend.place == f"cuda:{world.rank}" and host.on(backend) is world
for dtype in (np.float32, np.float64, np.int64):
    array = backend.from_host(np.arange(1000, dtype=dtype).reshape(10, 100) + world.rank)
    with world.together():
        world.allreduce_(array)
        assert (backend.to_host(array) == 2 * np.arange(1000).reshape(10, 100) + 1).all()
        world.broadcast_(array[world.rank], root=1)
        assert world.gathered(world.rank) == [0, 1]
    assert (backend.to_host(array[world.rank]) == 2 * np.arange(100, 200) + 1).all()
ones = backend.from_host(np.ones(5, np.float32))
with backend.running():
    graph = capture([lambda: world.allreduce_(ones, cp.cuda.get_current_stream())])
assert (backend.to_host(ones) == 1).all()
with world.together(), backend.running():
    for _ in range(3):
        graph.launch(backend.stream)
    assert (backend.to_host(ones) == 8).all()
try:
    world.allreduce_(np.ones(3))
except gf.DataError as error:
    assert "ranks exchange C-contiguous arrays on cuda:" in str(error)
else:
    raise AssertionError
print("well")
"""
    )
    assert results_of(2, program, **GPU) == "well\n" * 2


@pytest.mark.parametrize(
    ("ranks", "on_rank_1", "environment", "message"),
    [
        (2, "nccl.available = False", {}, "rank 1 cannot train on its GPU with the others: CuPy finds no NCCL"),
        (2, "nccl.get_version = lambda: 22000", {}, "rank 0 has 2.27.3, and rank 1 2.20.0"),
        (2, "backend = get_backend('cupy', 'cuda:0')", {}, "ranks 0 and 1 both have cuda:0"),
        (3, "", {}, "Start at most as many ranks on a machine as it has GPUs"),
        (2, "", {"CUDA_VISIBLE_DEVICES": "1"}, "ranks 0 and 1 both have cuda:0"),
    ],
)  # fmt: skip
def test_all_ranks_say_whether_they_can_before_any_enters(
    ranks: int, on_rank_1: str, environment: dict[str, str], message: str
) -> None:
    ended = run(ranks, f"{_BEGIN}if host.rank == 1: {on_rank_1 or 'pass'}\nhost.on(backend)", **GPU, **environment)
    assert ended.returncode != 0
    assert _told(ended.stderr, message) == ranks, ended.stderr


def test_an_id_that_cannot_be_made_is_told_to_all() -> None:
    program = (
        _BEGIN
        + """
def get_unique_id():
    raise nccl.NcclError(2)
nccl.get_unique_id = get_unique_id
host.on(backend)
"""
    )
    ended = run(2, program, **GPU)
    assert ended.returncode != 0
    assert _told(ended.stderr, "rank 0 cannot make an NCCL communicator: NCCL_ERROR_SYSTEM_ERROR") == 2


@pytest.mark.parametrize("place", ["before a sum", "before the communicator"])
def test_a_rank_that_fails_ends_the_others(place: str) -> None:
    begin = _WORLD if place == "before a sum" else _BEGIN
    program = begin + (
        """
ones = backend.from_host(np.ones(5, np.float32))
with world.together():
    if world.rank == 1:
        raise ValueError("no more")
    world.allreduce_(ones)
    backend.synchronize()
"""
        if place == "before a sum"
        else """
if host.rank == 1:
    def refuse(*arguments):
        raise ValueError("no more")
    nccl.NcclCommunicator = refuse
host.on(backend)
"""
    )
    began = time.monotonic()
    ended = run(2, program, **GPU)
    assert ended.returncode != 0
    assert "RankError: rank 1 of 2 ended the training of all" in ended.stderr
    assert "no more" in ended.stderr
    assert time.monotonic() - began < 35


def test_a_rank_that_does_not_come_is_named_after_the_time_limit() -> None:
    program = (
        _WORLD
        + """
with world.together():
    if world.rank == 1:
        time.sleep(30)
    world.allreduce_(backend.from_host(np.ones(5, np.float32)))
    backend.synchronize()
"""
    )
    ended = run(2, program, **GPU, GRADFLOW_RANK_TIMEOUT="2")
    assert ended.returncode != 0
    assert "rank 0 waited 2 s for the other ranks" in ended.stderr
    assert "Nothing was heard from rank 1." in ended.stderr


def test_after_an_error_the_ranks_make_a_new_communicator() -> None:
    program = (
        _WORLD
        + """
try:
    with world.together():
        raise ValueError
except ValueError:
    pass
again = host.on(backend)
assert again is not world
ones = backend.from_host(np.ones(5, np.float32))
with again.together():
    again.allreduce_(ones)
assert (backend.to_host(ones) == 2).all()
print("well")
"""
    )
    assert results_of(2, program, **GPU) == "well\n" * 2


@pytest.mark.parametrize("variable", ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"])
def test_the_gpu_of_a_rank_is_that_of_its_place_on_the_machine(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cupy.cuda import Device, runtime

    from gradflow.backends import get_backend

    count = runtime.getDeviceCount()
    for rank in range(3):
        monkeypatch.setenv(variable, str(rank))
        assert get_backend("cupy").place == f"cuda:{rank % count}"
        assert get_backend("cupy", "cuda:0").place == "cuda:0"
    monkeypatch.setenv(variable, "0")
    with Device(count - 1):
        assert get_backend("cupy").place == f"cuda:{count - 1}"
