"""Ranks with a GPU each, and NCCL between them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from tests.distributed.ranks import needs_mpi, results_of, run
from tests.distributed.scenarios import SCENARIOS, results

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
    ended = run(2, program, **GPU)
    assert ended.returncode != 0
    assert "RankError: rank 1 of 2 ended the training of all" in ended.stderr
    assert "no more" in ended.stderr
    assert "waited" not in ended.stderr  # they were told


def test_a_rank_that_does_not_come_is_named_after_the_time_limit() -> None:
    program = (
        _WORLD
        + """
ones = backend.from_host(np.ones(5, np.float32))
host.gathered(None)  # all are there: the time that they take to start does not count
host._timeout = 4
with world.together():
    if world.rank == 1:
        time.sleep(3600)
    world.allreduce_(ones)
    backend.synchronize()
"""
    )
    ended = run(2, program, **GPU)
    assert ended.returncode != 0
    assert "rank 0 waited 4 s for the other ranks" in ended.stderr
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

    chosen = pickle.dumps(gf.MLP([2, 1], backend="cupy", device="cuda:0"))
    count = runtime.getDeviceCount()
    for rank in range(3):
        monkeypatch.setenv(variable, str(rank))
        assert get_backend("cupy").place == f"cuda:{rank % count}"
        assert get_backend("cupy", "cuda:0").place == "cuda:0"
        assert pickle.loads(chosen).backend.place == "cuda:0"
        sent = pickle.dumps(gf.MLP([2, 1], backend="cupy"))
        monkeypatch.setenv(variable, str(rank + 1))
        assert pickle.loads(sent).backend.place == f"cuda:{(rank + 1) % count}"
    monkeypatch.setenv(variable, "0")
    with Device(count - 1):
        assert get_backend("cupy").place == f"cuda:{count - 1}"


_SLOW = (
    "updated_in_blocks_of_parts",
    "normalized_members",
    "table_with_vectors",
    "members_with_embedded_numbers",
    "waves_by_muon",
)
"""Scenarios that take the simulated GPUs seconds, and show nothing that is different there."""
_ALL = "import runpy; runpy.run_module('tests.distributed.scenarios', run_name='__main__', alter_sys=False)"


def test_ranks_train_as_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that several processes share on the CPU they share on GPUs too: a batch whose end has no rows for a rank,
    dropout, row weights, metrics, streams, the average of the weights, early stopping, `BatchNorm`."""
    monkeypatch.setenv("GRADFLOW_BACKEND", "cupy")
    names = [name for name in SCENARIOS if name not in _SLOW]
    ended = run(2, _ALL, tmp_path / "2.json", *names, seconds=900, **GPU)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name, several in json.loads((tmp_path / "2.json").read_text()).items():
        one, rounding = results(name), 1e-4 if name == "parts_without_the_rest" else 1e-8  # that one is in float32
        assert (several["stopped_by"], several["best_epoch"]) == (one["stopped_by"], one["best_epoch"])
        for value in one["values"]:
            np.testing.assert_allclose(several["values"][value], one["values"][value], rtol=rounding, err_msg=value)
        np.testing.assert_allclose(several["weights"], one["weights"], rtol=rounding, atol=rounding)


_FIT = (
    _BEGIN
    + """
x = np.random.default_rng(0).normal(size=(96, 9))
y = (x[:, 0] > 0).astype(int)
network = gf.MLP([9, 16, 2], seed=1)
trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
rank = host.rank
"""
)


@pytest.mark.parametrize(("layers", "sums_per_step"), [("dense", 1), ("normalized", 1 + 3)])
def test_a_step_is_one_graph_with_one_sum_and_three_for_batch_norm(layers: str, sums_per_step: int) -> None:
    pytest.importorskip("simgpu")
    program = (
        _FIT
        + """
import simgpu
if sys.argv[2] == "normalized":
    network = gf.Sequential([gf.Dense(9, 16), gf.BatchNorm(16), gf.ReLU(), gf.Dense(16, 2)], seed=1)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
def counts(epochs):
    simgpu.reset()
    trainer.fit(x, y, batch_size=32, epochs=epochs, progress=False)
    found = simgpu.stats()
    kernels = sum(of["in_graph"] for of in found["kernels"].values())
    sums = found["kernels"].get("ncclAllReduce", {"in_graph": 0})["in_graph"]
    return np.array([found["graph_launches"], kernels, sums, found["d2h"]["count"], found["syncs"]])
if sys.argv[1] == "alone":
    with gf.distributed.alone():
        counts(2)
        print(*counts(12) - counts(2))
else:
    counts(2)
    if rank == 0:
        print(*counts(12) - counts(2))
    else:
        counts(12), counts(2)
"""
    )
    steps = 10 * 3
    alone = list(map(int, results_of(2, program, "alone", layers, **GPU).splitlines()[0].split()))
    launches, kernels, sums, _, syncs = map(int, results_of(2, program, "together", layers, **GPU).split())
    assert sums == sums_per_step * steps
    assert launches == alone[0]
    assert kernels - alone[1] == steps or layers == "normalized"
    assert syncs <= alone[4]


def test_a_rank_that_cannot_capture_is_named() -> None:
    pytest.importorskip("simgpu")
    program = _FIT + (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import simgpu; simgpu.fail(capture=-1 if rank == 1 else 0)\n"
        "trainer.fit(x, y, batch_size=32, epochs=2, progress=False)"
    )
    ended = run(2, program, **GPU)
    assert ended.returncode != 0
    assert _told(ended.stderr, "rank 1 cannot capture CUDA graphs, as it has warned, and rank 0 does") == 2


def test_ranks_that_all_cannot_capture_train_without_graphs() -> None:
    pytest.importorskip("simgpu")
    program = _FIT + (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import simgpu; simgpu.fail(capture=-1)\n"
        "history = trainer.fit(x, y, batch_size=32, epochs=2, progress=False)\n"
        "assert world.gathered(network.parameters.get().tobytes())[0] == network.parameters.get().tobytes()\n"
        "print(history.epochs)"
    )
    assert results_of(2, program.replace("rank = host.rank", "world, rank = host, host.rank"), **GPU) == "2\n" * 2


_IN_THE_MIDDLE = (
    _FIT
    + """
import gradflow.training.loop as loop
original, has_acted, act = loop.Loop._allowance, False, lambda: None
def allowance(loop, state, batches_done):
    global has_acted
    if rank == 1 and state.history.epochs == 1 and batches_done and not has_acted:
        has_acted = True
        act()
    return original(loop, state, batches_done)
loop.Loop._allowance = allowance
checkpoint = gf.Checkpoint(every_steps=5)  # each of which calls it
"""
)


def test_an_error_in_the_middle_of_an_epoch_ends_all(tmp_path: Path) -> None:
    program = (
        _IN_THE_MIDDLE
        + """
def act():
    raise ValueError("no more")
try:
    trainer.fit(x, y, batch_size=8, epochs=50, progress=False, output=sys.argv[1], checkpoint=checkpoint)
except ValueError:
    assert rank == 1
except gf.RankError as error:
    assert rank == 0 and "rank 1 of 2 ended the training of all: ValueError: no more" in str(error), error
again = gf.MLP([9, 16, 2], seed=1)
history = gf.Trainer(again, "softmax_cross_entropy", gf.Adam()).fit(x, y, epochs=2, progress=False)
print(history.epochs)
"""
    )
    assert results_of(2, program, tmp_path / "run", **GPU) == "2\n" * 2


def test_ctrl_c_on_one_rank_ends_all_at_the_same_step_and_the_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    program = (
        _IN_THE_MIDDLE
        + """
def act():
    signal.raise_signal(signal.SIGINT)
folder = sys.argv[1]
def fitted(**options):
    network = gf.MLP([9, 16, 2], seed=1, dropout=0.2)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(), metrics=["roc_auc"])
    try:
        history = trainer.fit(x, y, batch_size=8, epochs=4, progress=False, checkpoint=checkpoint, **options)
    except (KeyboardInterrupt, gf.RankError):
        history = trainer.history
    assert len(set(host.gathered(network.parameters.get().tobytes()))) == 1
    return history.stopped_by, [*history["loss"], *history["roc_auc"]], network.parameters.get().tobytes()
stopped_by, *_ = fitted(output=folder)
resumed = fitted(resume=folder)
print(stopped_by, resumed == fitted(output=folder + " whole"))
"""
    )
    assert results_of(2, program, tmp_path / "run", **GPU) == "interrupted True\n" * 2


def test_a_killed_rank_ends_all(tmp_path: Path) -> None:
    program = (
        _IN_THE_MIDDLE
        + """
def act():
    os.kill(os.getpid(), signal.SIGKILL)
trainer.fit(x, y, batch_size=8, epochs=5000, progress=False, output=sys.argv[1], checkpoint=checkpoint)
"""
    )
    ended = run(2, program, tmp_path / "run", **GPU)
    assert ended.returncode != 0
    assert "waited" not in ended.stderr


def test_a_loss_that_diverges_on_one_rank_stops_all() -> None:
    program = (
        _FIT
        + """
x[90] = 1e30
trainer = gf.Trainer(network, "softmax_cross_entropy", gf.SGD(1e30))
try:
    trainer.fit(x, y, batch_size=96, shuffle=False, epochs=50, progress=False)
except gf.DivergedError as error:
    print(error.epoch, error.step)
"""
    )
    first, second = results_of(2, program, **GPU).splitlines()
    assert first == second


def test_all_keep_the_data_on_the_gpu_or_none() -> None:
    program = _FIT + (
        "from gradflow.backends.cuda.backend import CupyBackend\n"
        "original = CupyBackend.memory_plan\n"
        "def less(backend):\n"
        "    plan = original(backend)\n"
        "    plan.free = 3_000_000 if rank == 1 else plan.free\n"
        "    return plan\n"
        "CupyBackend.memory_plan = less\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "x, y = x.repeat(1000, axis=0), y.repeat(1000, axis=0)\n"
        "trainer.fit(x, y, batch_size=32, epochs=1, progress=False)"
    )
    ended = run(2, program, **GPU)
    assert _told(ended.stderr, "rank 1 has too little free GPU memory for the data, and rank 0 has enough") == 2


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_ranks_train_in_low_precision(precision: str) -> None:
    """Each rank rounds the gradient of its rows, so the losses differ by more than float32 rounds."""
    program = (
        _FIT
        + """
def losses():
    network = gf.MLP([9, 16, 2], seed=1)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(), precision=sys.argv[1])
    return [*trainer.fit(x, y, batch_size=32, epochs=5, progress=False)["loss"]]
together = losses()
with gf.distributed.alone():
    np.testing.assert_allclose(together, losses(), rtol=1e-2)
print("well")
"""
    )
    assert results_of(2, program, precision, **GPU) == "well\n" * 2
