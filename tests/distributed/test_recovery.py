"""Whatever happens to one rank, all end, with an error that names it, and the run can be resumed."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from tests.distributed.ranks import needs_mpi, results_of, run, start
from tests.distributed.runs import EPOCHS, STEPS, fit

pytestmark = [needs_mpi, pytest.mark.thorough]

_RUN = "import runpy; runpy.run_module('tests.distributed.runs', run_name='__main__', alter_sys=False)"


def weights(folder: Path) -> np.ndarray:
    return gf.load(folder / "model.safetensors").parameters


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on two ranks that nothing interrupts."""
    folder: Path = tmp_path_factory.mktemp("whole") / "run"
    assert sorted(results_of(2, _RUN, folder, "new").splitlines()) == ["0: epochs", "1: epochs"]
    return folder


def same_run(folder: Path, other: Path) -> None:
    """Check that two runs ended alike, bit for bit."""
    comparison = gf.compare_runs(folder, other)
    assert comparison.is_same, str(comparison)


def until(folder: Path, step: int, of: Path) -> Path:
    """Make a run folder that ends with the checkpoint after this step of another."""
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    for path in (of / "checkpoints").iterdir():
        if int(re.findall(r"\d+", path.name)[0]) <= step:
            (checkpoints / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("step", [5, 40, 5 * STEPS])  # in the middle of an epoch, and between two
def test_as_many_ranks_resume_bit_for_bit(whole: Path, tmp_path: Path, step: int) -> None:
    folder = until(tmp_path / "run", step, whole)
    results_of(2, _RUN, folder, "resume")
    same_run(folder, whole)


def test_as_many_ranks_repeat_it_bit_for_bit(whole: Path) -> None:
    program = "import sys, gradflow as gf, tests.distributed.runs as runs; "
    program += "print(gf.repeat(sys.argv[1], **runs.data()).is_same)"
    assert results_of(2, program, whole).split() == ["True", "True"]


def test_another_number_of_ranks_resumes_up_to_rounding(whole: Path, tmp_path: Path) -> None:
    one = fit(until(tmp_path / "one", 40, whole), "resume").network.parameters
    results_of(3, _RUN, three := until(tmp_path / "three", 40, whole), "resume")
    for found in (one, weights(three)):
        np.testing.assert_allclose(found, weights(whole), rtol=1e-4, atol=1e-5)
    history, expected = ((folder / "history.csv").read_text().split() for folder in (three, whole))
    for line, other in zip(history[1:], expected[1:], strict=True):
        np.testing.assert_allclose(
            [float(value) for value in line.split(",")], [float(value) for value in other.split(",")], rtol=1e-4
        )


_NAMED = {
    "data": r"rank 1 of 3 cannot train with the others: its data is '.*', but '.*' on rank 0",
    "rows": r"rank 1 of 3 cannot train with the others: its data is '251 rows.*', but '252 rows.*' on rank 0",
    "settings": r"rank 1 of 3 cannot train .*: its settings\.batch_size is 32, but 16 on rank 0",
    "seed": r"rank 1 of 3 cannot train .*: its network\.seed is 4, but 3 on rank 0",
    "version": r"rank 1 of 3 cannot train .*: its environment\.versions\.gradflow is '0\.0\.1', but '.*' on rank 0",
}


@pytest.mark.parametrize("what", _NAMED)
def test_a_rank_with_something_else_is_named_on_all(tmp_path: Path, what: str) -> None:
    ended = run(3, _RUN, tmp_path / "run", "new", what)
    assert ended.returncode != 0
    lines = sorted(ended.stdout.splitlines())
    assert len(lines) == 3, ended.stderr
    for rank, line in enumerate(lines):
        assert re.match(f"{rank}: RankError: {_NAMED[what]}", line), line
    assert not (tmp_path / "run").exists()


def test_a_bad_row_on_one_rank_is_named_on_all(tmp_path: Path) -> None:
    ended = run(2, _RUN, tmp_path / "run", "new", "bad row")
    assert ended.returncode != 0
    first, second = sorted(ended.stdout.splitlines())
    assert re.match(r"0: RankError: rank 1 of 2 ended the training of all: DataError: x.*NaN", first), ended.stderr
    assert re.match(r"1: DataError: x.*NaN", second)


def test_an_error_of_a_callback_on_one_rank_is_named_and_the_run_resumes(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    ended = run(2, _RUN, folder, "new", "raise")
    assert ended.returncode != 0
    first, second = sorted(ended.stdout.splitlines())
    assert first == "0: RankError: rank 1 of 2 ended the training of all: IndexError: list index out of range"
    assert second == "1: IndexError: list index out of range"
    results_of(2, _RUN, folder, "resume")
    same_run(folder, whole)


@pytest.mark.parametrize("what", ["interrupt", "terminate"])
def test_a_signal_to_one_rank_ends_all_after_the_same_step(whole: Path, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    ended = run(2, _RUN, folder, "new", what)
    assert ended.returncode != 0
    lines = sorted(ended.stdout.splitlines())
    assert lines[0] == "0: RankError: rank 1 of 2 ended the training of all: it was interrupted", ended.stderr
    assert lines[1:] == (["1: KeyboardInterrupt: "] if what == "interrupt" else [])
    assert (folder / "history.csv").exists()
    results_of(2, _RUN, folder, "resume")
    same_run(folder, whole)


def test_a_callback_of_one_rank_stops_all(tmp_path: Path) -> None:
    assert sorted(results_of(2, _RUN, tmp_path / "run", "new", "stop").splitlines()) == ["0: callback", "1: callback"]


def ranks_of(process_id: int) -> list[int]:
    """Return the ids of the Python processes that mpiexec has started."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return [int(child) for child in children]


def kill_one(folder: Path, seed: int) -> None:
    """Start the run, and kill one of its ranks some time after the first checkpoint: by an even seed rather between two
    epochs, by an odd one between or in steps."""
    draw = random.Random(seed)
    pause, latest = (0.001, 0.2) if seed % 2 else (0.1, 0.1 * EPOCHS)
    (running := folder.with_suffix(".running")).touch()
    process = start(2, _RUN, folder, "new", f"slow{pause}")
    try:
        while not list(folder.glob("checkpoints/step-*.safetensors")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, latest))
        ranks = ranks_of(process.pid)
        if ranks:
            os.kill(draw.choice(ranks), signal.SIGKILL)
        running.unlink()
        output, errors = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            process.terminate()
    assert len(ranks) == 2, errors
    assert process.returncode != 0, output + errors


def check_killed_runs(whole: Path, folder: Path, seeds: range) -> None:
    for seed in seeds:
        kill_one(folder / str(seed), seed)
        results_of(2, _RUN, folder / str(seed), "resume")
        same_run(folder / str(seed), whole)


def test_killing_a_rank_never_hangs_and_the_run_resumes_exactly(whole: Path, tmp_path: Path) -> None:
    check_killed_runs(whole, tmp_path, range(2))


@pytest.mark.slow
def test_killing_a_rank_at_20_moments(whole: Path, tmp_path: Path) -> None:
    check_killed_runs(whole, tmp_path, range(2, 22))
