"""Failures of a run folder, and what remains: the last good checkpoint, or an error that explains why."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.training.runs import snapshots
from gradflow.training.runs.checkpoints import last_good_checkpoint
from gradflow.training.runs.snapshots import Snapshot
from tests.training.runs.test_resume import LABELS, RULES, BrokenOffError, Dies, X, bits, fit, network, trainer

ROOT = Path(__file__).resolve().parents[3]


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a run folder that contain parts of the run."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def results(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "history.csv").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run of 4 epochs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint(keep=9))
    return folder


@pytest.fixture
def broken_off(tmp_path: Path) -> Path:
    """The folder of a run that ended after its third epoch; the last checkpoint is from the end of the second."""
    folder = tmp_path / "run"
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint(), callbacks=[Dies(3)])
    return folder


def last(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("step-????????????.safetensors"))


# -- damage -----------------------------------------------------------------------------------------------------------


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off in the length of the header": lambda content: content[:5],
    "cut off in the header": lambda content: content[:100],
    "cut off in the vectors": lambda content: content[:-1],
    "flipped in the length of the header": lambda content: flipped(content, 0),
    "flipped in the header": lambda content: flipped(content, 100),
    "flipped in the vectors": lambda content: flipped(content, -9),
    "longer": lambda content: content + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(broken_off: Path, uninterrupted: Path, damage: str) -> None:
    damaged = last(broken_off)
    damaged.write_bytes(DAMAGES[damage](damaged.read_bytes()))
    before = sorted((broken_off / "checkpoints").iterdir())[-2]
    kept = before.read_bytes()
    with pytest.warns(gf.CheckpointWarning, match=f"{damaged.name}.* damaged.* The previous checkpoint is used"):
        fit(trainer("numpy"), resume=broken_off, checkpoint=gf.Checkpoint(keep=9))
    assert results(broken_off) == results(uninterrupted)
    assert before.read_bytes() == kept
    assert damaged.with_suffix(".damaged").exists()
    assert Snapshot.read(damaged).record["progress"]["history"]["values"]


@pytest.mark.parametrize("keep", [1, 3])
def test_files_beside_the_checkpoints_are_left_alone(broken_off: Path, uninterrupted: Path, keep: int) -> None:
    """Copies of checkpoints, and other files with such names: the run does not count, resume from or remove them."""
    checkpoints = broken_off / "checkpoints"
    copies = ("step-backup.safetensors", "step-000000000005 (copy).safetensors", "step-9999999999999.safetensors")
    for name in (*copies, "old-step-000000000099.safetensors", ".step-mine"):
        shutil.copy(last(broken_off) if name == copies[2] else checkpoints / "step-000000000000.safetensors",
                    checkpoints / name)  # fmt: skip
    (checkpoints / "step-000000000999.safetensors").mkdir()
    strange = {path.name for path in checkpoints.iterdir()} - {f"step-{step:012d}.safetensors" for step in (0, 5, 10)}
    fit(trainer("numpy"), resume=broken_off, checkpoint=gf.Checkpoint(keep=keep))
    assert results(broken_off) == results(uninterrupted)
    fit(trainer("numpy"), broken_off, checkpoint=gf.Checkpoint(keep=keep), overwrite=True)
    left = {path.name for path in checkpoints.iterdir()}
    assert left - strange == {f"step-{step:012d}.safetensors" for step in (5, 10, 15, 20)[-keep:]}
    assert left >= strange


def test_no_complete_checkpoint_is_an_error(broken_off: Path) -> None:
    for path in (broken_off / "checkpoints").iterdir():
        path.write_bytes(b"")
    before = files(broken_off)
    with pytest.raises(gf.FileFormatError, match="none of the 3 checkpoints"):
        fit(trainer("numpy"), resume=broken_off)
    assert files(broken_off) == before


def test_a_newer_format_is_refused(broken_off: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = Snapshot.read(last(broken_off))
    with monkeypatch.context() as newer:
        newer.setattr(snapshots, "FORMAT_VERSION", 2)
        Snapshot(snapshot.vectors, {name: value for name, value in snapshot.record.items() if name != "version"}).write(
            last(broken_off)
        )
    before = files(broken_off)
    with pytest.raises(gf.FileFormatError, match=r"checkpoint format 2, .* up to 1; update gradflow"):
        fit(trainer("numpy"), resume=broken_off)
    assert files(broken_off) == before


# -- another run ------------------------------------------------------------------------------------------------------


OTHERS: dict[str, tuple[Callable[[], gf.Trainer], dict[str, Any], str]] = {
    "network": (
        lambda: gf.Trainer(gf.MLP([6, 8, 3], dropout=0.3, seed=3), "softmax_cross_entropy", RULES["adam"]()),
        {},
        r"network\.layers\[0\]\.\w*\.?n_out was 9, but is 8",
    ),
    "seed": (
        lambda: gf.Trainer(network("numpy", seed=4), "softmax_cross_entropy", RULES["adam"]()),
        {},
        "network.seed was 3, but is 4",
    ),
    "optimizer": (lambda: trainer("numpy", "lion"), {}, "settings.optimizer.name was 'adam', but is 'lion'. Pass"),
    "depth": (
        lambda: gf.Trainer(gf.MLP([6, 9, 9, 3], dropout=0.3, seed=3), "softmax_cross_entropy", RULES["adam"]()),
        {},
        r"the number of network\.layers was 4, but is 7\.",
    ),
    "penalty": (lambda: trainer("numpy", l2=0.5), {}, "settings.l2 was 0.0, but is 0.5"),
    "batch_size": (lambda: trainer("numpy"), {"batch_size": 8}, "settings.batch_size was 16, but is 8"),
    "validation": (lambda: trainer("numpy"), {"validation_data": (X, LABELS)}, "validation_data was None"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_run_is_refused(broken_off: Path, kind: str) -> None:
    make, arguments, message = OTHERS[kind]
    other, before = make(), files(broken_off)
    weights = other.network.get_weights()
    with pytest.raises(gf.DataError, match=f"the run to resume is a different one: .*{message}"):
        fit(other, resume=broken_off, **arguments)
    assert files(broken_off) == before
    for name, weight in other.network.get_weights().items():
        np.testing.assert_array_equal(weight, weights[name])


def test_other_data_is_refused(broken_off: Path) -> None:
    changed = X.copy()
    changed[69, 5] += 1e-3
    before = files(broken_off)
    with pytest.raises(gf.DataError, match="data was '70 rows, sha256 "):
        trainer("numpy").fit(changed, LABELS, epochs=4, batch_size=16, resume=broken_off)
    assert files(broken_off) == before


def test_more_epochs_continue_where_the_rate_is_constant(tmp_path: Path) -> None:
    longer = trainer("numpy")
    expected = bits(longer, fit(longer, epochs=6))
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(every_epochs=3))
    resumed = trainer("numpy")
    assert bits(resumed, fit(resumed, resume=tmp_path, epochs=6)) == expected
    fit(trainer("numpy", "cosine"), tmp_path, checkpoint=gf.Checkpoint(), overwrite=True)
    with pytest.raises(gf.DataError, match=r"settings\.epochs was 4, but is 6"):
        fit(trainer("numpy", "cosine"), resume=tmp_path, epochs=6)


def test_fewer_epochs_than_there_were_are_refused(broken_off: Path) -> None:
    before = files(broken_off)
    with pytest.raises(gf.DataError, match="has already begun epoch 2; pass at least that many, got epochs=1"):
        fit(trainer("numpy"), resume=broken_off, epochs=1)
    assert files(broken_off) == before


def test_a_finished_run_is_finished(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"early_stopping": gf.EarlyStopping("loss", patience=1, min_delta=10.0), "epochs": 9}
    first = trainer("numpy")
    expected = bits(first, fit(first, tmp_path, checkpoint=gf.Checkpoint(), **arguments))
    assert expected[2] == "early stopping"
    again = trainer("numpy")
    assert bits(again, fit(again, resume=tmp_path, **arguments)) == expected


def test_incompatible_arguments_are_refused(tmp_path: Path) -> None:
    for arguments, message in (
        ({"checkpoint": gf.Checkpoint()}, "checkpoints need a folder"),
        ({"checkpoint": 3, "output": tmp_path}, "checkpoint must be a gradflow.Checkpoint, got 3"),
        ({"resume": tmp_path / "gone"}, "no such folder"),
        ({"resume": tmp_path}, "there is no checkpoint in"),
        ({"resume": tmp_path, "output": tmp_path / "other"}, "omit output"),
    ):
        with pytest.raises(gf.DataError, match=message):
            trainer("numpy").fit(X, LABELS, epochs=1, **arguments)
    for settings in ({"every_steps": 0}, {"every_epochs": 1.5}, {"every_minutes": 0}, {"keep": 0}):
        with pytest.raises(gf.DataError, match=next(iter(settings))):
            gf.Checkpoint(**settings)  # type: ignore[arg-type]


# -- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_belongs_to_one_run(tmp_path: Path) -> None:
    class Intruder(gf.Callback):
        """Starts another run in the same folder."""

        def on_epoch_end(self, of: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            for arguments in ({"output": tmp_path}, {"resume": tmp_path}):
                with pytest.raises(gf.DataError, match=f"process {os.getpid()} is training in"):
                    trainer("numpy").fit(X, LABELS, epochs=4, batch_size=16, **arguments)
            if epoch == 2:
                with _process("output", tmp_path, stderr=subprocess.PIPE) as process:
                    _, errors = process.communicate()
                assert f"process {os.getpid()} is training in" in errors

    first, alone = trainer("numpy"), trainer("numpy")
    disturbed = fit(first, tmp_path, checkpoint=gf.Checkpoint(), callbacks=[Intruder()])
    assert bits(first, disturbed) == bits(alone, fit(alone))


def test_the_lock_of_a_finished_process_is_ignored(broken_off: Path, uninterrupted: Path) -> None:
    (broken_off / ".lock").write_text("1\n")
    fit(trainer("numpy"), resume=broken_off)
    assert results(broken_off) == results(uninterrupted)


class Half:
    """A file on a full disk: only half of the data gets written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> Half:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> None:
        self._file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


OPERATIONS = {"create": "open", "write": "fdopen", "fsync": "fsync", "replace": "replace"}
"""Operations that may fail on a full disk, and the functions of `os` that perform them."""


def on_a_full_disk(operation: str, works: float, folder: Path, **arguments: Any) -> tuple[int, str]:
    """Run with the disk full from the n-th call of an operation on; return the number of calls, and the error."""
    original = getattr(os, OPERATIONS[operation])
    calls = 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        if operation == "create" and not (args[1] & os.O_EXCL and Path(args[0]).name.startswith(".")):
            return original(*args, **kwargs)
        calls += 1
        if calls <= works:
            return original(*args, **kwargs)
        if operation == "write":
            return Half(original(*args, **kwargs))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as full, warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.CheckpointWarning)
        warnings.simplefilter("ignore", gf.PictureWarning)
        full.setattr(os, OPERATIONS[operation], failing)
        try:
            fit(trainer("numpy"), folder, **arguments)
        except OSError as error:
            return calls, f"{error.strerror}"
    return calls, ""


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_full_disk_costs_no_checkpoint_before_it(tmp_path: Path, uninterrupted: Path, operation: str) -> None:
    """The disk is full from the n-th call on, for every n; then space is freed, and the run is resumed."""
    total, problem = on_a_full_disk(operation, float("inf"), tmp_path / "all", checkpoint=gf.Checkpoint())
    assert problem == ""
    assert total >= 8
    for works in range(total):
        folder = tmp_path / str(works)
        _, problem = on_a_full_disk(operation, works, folder, checkpoint=gf.Checkpoint())
        assert os.strerror(errno.ENOSPC) in problem or results(folder) == results(uninterrupted)
        assert not [path for path in folder.rglob(".*") if path.name != ".lock"]
        if list((folder / "checkpoints").iterdir()):
            fit(trainer("numpy"), resume=folder)
            assert results(folder) == results(uninterrupted)
        else:
            assert works < 2
            assert "checkpoints cannot be saved here: No space left on device. Nothing was changed" in problem
    print(f"{operation}: the disk was full from each of {total} calls on, and nothing before it was lost")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with different settings, which later ones replace."""
    folder = tmp_path_factory.mktemp("earlier")
    fit(trainer("numpy", "sgd with momentum"), folder, checkpoint=gf.Checkpoint())
    (folder / "command.json").write_text("{}")
    return folder


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("checkpoint", [None, gf.Checkpoint()], ids=["plain", "checkpoints"])
def test_on_a_full_disk_either_the_earlier_run_is_intact_or_the_new_one_is_there(
    tmp_path: Path, uninterrupted: Path, earlier: Path, operation: str, checkpoint: gf.Checkpoint | None
) -> None:
    arguments: dict[str, Any] = {"checkpoint": checkpoint, "overwrite": True}
    before, total, works, kept = files(earlier), 99, 0, 0
    while works < total:
        folder = tmp_path / str(works)
        shutil.copytree(earlier, folder)
        _, problem = on_a_full_disk(operation, works, folder, **arguments)
        total = total if total < 99 else on_a_full_disk(operation, float("inf"), tmp_path / "all", **arguments)[0]
        if files(folder).items() >= before.items():
            assert os.strerror(errno.ENOSPC) in problem
            kept += 1
        elif checkpoint is None and results(folder) != results(uninterrupted):
            # Renaming failed halfway, which a full disk does not do to existing files: no run has ended here.
            assert (operation, os.strerror(errno.ENOSPC) in problem) == ("replace", True)
            assert not (folder / "config.json").exists()
        else:
            if checkpoint is not None:
                fit(trainer("numpy"), resume=folder)
            assert results(folder) == results(uninterrupted)
            assert not (folder / "command.json").exists()
        works += 1
    assert kept or (operation, checkpoint) == ("replace", None)


def test_a_new_run_removes_the_earlier_one_once_it_is_on_the_disk(tmp_path: Path, earlier: Path) -> None:
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(keep=1), overwrite=True, callbacks=[Dies(1)])
    assert list(files(tmp_path)) == ["checkpoints/step-000000000000.safetensors"]


def test_a_new_run_that_fails_before_its_end_costs_nothing(tmp_path: Path, earlier: Path) -> None:
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    with pytest.raises(BrokenOffError):
        fit(trainer("numpy"), tmp_path, overwrite=True, callbacks=[Dies(1)])
    assert files(tmp_path) == files(earlier)
    fit(trainer("numpy"), tmp_path, overwrite=True)
    assert set(files(tmp_path)) - {"curves.png"} == {"config.json", "history.csv", "model.safetensors"}


@pytest.mark.parametrize("removed", range(8))
def test_a_process_killed_while_it_replaces_a_run_leaves_one_of_them(
    tmp_path: Path, earlier: Path, uninterrupted: Path, removed: int
) -> None:
    """Either the earlier run can be resumed, or the new one; and no results contradict that."""
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    calls = 0
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        nonlocal calls
        if calls == removed:
            raise BrokenOffError
        calls += 1
        unlink(path, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(BrokenOffError):
            fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(keep=1), overwrite=True, callbacks=[Dies(1)])
    assert (tmp_path / "config.json").exists() == (removed == 0)
    is_earlier = last(tmp_path).name == last(earlier).name
    fit(trainer("numpy", "sgd with momentum" if is_earlier else "adam"), resume=tmp_path)
    assert results(tmp_path) == results(earlier if is_earlier else uninterrupted)


# -- other backends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun", "resumed"),
    [
        ("numpy", "reference"),
        pytest.param("numpy", "cupy", marks=pytest.mark.gpu),
        pytest.param("cupy", "numpy", marks=pytest.mark.gpu),
    ],
)
def test_another_backend_continues_with_the_same_shuffles_and_masks(tmp_path: Path, begun: str, resumed: str) -> None:
    alone = trainer(resumed)
    history = fit(alone)
    with pytest.raises(BrokenOffError):
        fit(trainer(begun), tmp_path, checkpoint=gf.Checkpoint(every_steps=7), callbacks=[Dies(3)])
    other = trainer(resumed)
    moved = fit(other, resume=tmp_path)
    # Adam divides by the root of small squares, which magnifies rounding.
    np.testing.assert_allclose(moved["loss"], history["loss"], rtol=1e-5)
    for name, weight in other.network.get_weights().items():
        np.testing.assert_allclose(weight, alone.network.get_weights()[name], rtol=0, atol=1e-4)


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_sigterm_saves_and_is_sent_on(tmp_path: Path) -> None:
    kills = iter([True])

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, 70, 10):
            # Only training reads more than the first batch, and its first epoch is checked after a few steps.
            if start == 10 and next(kills, False):
                signal.raise_signal(signal.SIGTERM)
            yield X[start : start + 10], LABELS[start : start + 10]

    def train(**arguments: Any) -> tuple[gf.Trainer, gf.History]:
        of, source = trainer("numpy"), gf.data.Batches(batches, rows=70, block_rows=10)
        return of, of.fit(source, epochs=4, batch_size=7, **arguments)

    received: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        _, history = train(output=tmp_path, checkpoint=gf.Checkpoint(every_epochs=100))
        assert signal.getsignal(signal.SIGTERM) is not previous
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert (received, history.stopped_by) == ([signal.SIGTERM], "interrupted")
    assert last_good_checkpoint(tmp_path / "checkpoints")[1].record["progress"]["history"]["stopped_by"] == "epochs"
    assert bits(*train(resume=tmp_path)) == bits(*train())


def wide() -> gf.Trainer:
    """A network whose checkpoints take longer to write than its steps."""
    return gf.Trainer(gf.MLP([6, 400, 400, 3], dropout=0.3, backend="numpy"), "softmax_cross_entropy", gf.Adam(0.001))


SCRIPT = """
import sys
import gradflow as gf
from tests.training.runs.test_recovery import wide
from tests.training.runs.test_resume import X, LABELS

class Begun(gf.Callback):
    def on_fit_begin(self, trainer, epochs):
        print("begun", flush=True)

where = {sys.argv[1]: sys.argv[2]}
often = gf.Checkpoint(every_steps=1)
wide().fit(X, LABELS, epochs=12, batch_size=7, checkpoint=often, callbacks=[Begun()], **where)
"""


def _process(how: str, folder: Path, **streams: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        **streams,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
@pytest.mark.parametrize("moments", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_runs_killed_at_random_moments_end_with_the_same_bytes(tmp_path: Path, moments: int) -> None:
    """Each step writes a checkpoint of several megabytes, so that many moments fall inside a write."""
    wide().fit(X, LABELS, epochs=12, batch_size=7, output=tmp_path / "alone")
    chance = random.Random(moments)
    killed = inside_a_write = 0
    while killed < moments:
        folder = tmp_path / f"run {killed}"
        how, code = "output", None
        while code != 0:
            with _process(how, folder) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
                how = "resume"
                try:
                    process.wait(chance.uniform(0, 0.6) if killed < moments else 60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
            inside_a_write += bool(list((folder / "checkpoints").glob(".step-*")))
            code = process.returncode
            assert code in (0, -signal.SIGKILL)
        assert results(folder) == results(tmp_path / "alone")
    print(f"killed at {killed} moments, {inside_a_write} of them inside a write of a checkpoint")
    assert inside_a_write or moments < 10
