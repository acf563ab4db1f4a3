"""A run folder that cannot be written to, disappears or is replaced: clear errors, and nothing is overwritten."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from tests.training.runs.test_resume import LABELS, X, bits, fit, network, trainer

NOBODY = 65534


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


WHOLE: Any = np.int64
NUMBER: Any = np.float32
BOOLEAN: Any = np.bool_

OPTIMIZERS: dict[str, Callable[[], gf.Optimizer]] = {
    "adam": lambda: gf.Adam(NUMBER(0.01), NUMBER(0.9), NUMBER(0.99), NUMBER(1e-7)),
    "nesterov": lambda: gf.SGD(NUMBER(0.01), NUMBER(0.9), nesterov=BOOLEAN(True)),
    "cosine": lambda: gf.Adam(gf.CosineSchedule(NUMBER(0.01), warmup=NUMBER(1), final=NUMBER(0.001))),
    "plateau": lambda: gf.Adam(gf.PlateauSchedule(NUMBER(0.01), patience=WHOLE(1), monitor=np.str_("loss"))),
    "a function": lambda: gf.Adam(lambda time: NUMBER(0.01)),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_arguments_may_be_numbers_of_numpy(tmp_path: Path, kind: str) -> None:
    """The results are the same as with Python's numbers, and the run is saved, resumed and repeated."""

    class Half(gf.metrics.F1):
        """A user-defined metric."""

        name = "half"

        def value(self, statistics: np.ndarray, task: Any) -> Any:
            return NUMBER(0.5)

    held_out: dict[str, Any] = {"validation_data": (X[:20], LABELS[:20])}

    def run(whole: Any = WHOLE, number: Any = NUMBER, boolean: Any = BOOLEAN, **where: Any) -> Any:
        of = gf.Trainer(
            gf.MLP([whole(6), whole(9), whole(3)], dropout=number(0.3), seed=whole(3), backend="numpy"),
            gf.SoftmaxCrossEntropy(number(0.1), number(1)),
            OPTIMIZERS[kind](),
            metrics=["f1", Half()],
            l2=number(0.1),
            l1=number(0.01),
            clip_norm=number(1),
            average=number(0.9),
            layer_statistics=boolean(True),
        )
        history = of.fit(
            X,
            LABELS,
            epochs=whole(3),
            batch_size=whole(16),
            sample_weight=[number(1)] * 70,
            class_weight={whole(0): number(2)},
            shuffle=boolean(True),
            drop_last=boolean(True),
            accumulate=whole(2),
            early_stopping=gf.EarlyStopping("val_loss", whole(3), number(0)),
            tolerance=number(0.1),
            **held_out,
            **where,
        )
        return bits(of, history)

    checkpoint = gf.Checkpoint(every_epochs=WHOLE(1), every_minutes=NUMBER(9), keep=WHOLE(2))
    expected = run(int, lambda value: float(NUMBER(value)), bool)
    assert run(output=np.str_(tmp_path / "run"), checkpoint=checkpoint) == expected
    assert run(resume=tmp_path / "run") == expected
    if kind != "a function":
        assert gf.repeat(tmp_path / "run", X, LABELS, sample_weight=np.ones(70), **held_out).is_same


def test_a_configuration_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    class Configured(gf.Adam):
        """An optimizer whose config cannot be stored in a file."""

        name = "configured"

        def config(self) -> dict[str, Any]:
            return super().config() | {"table": np.ones(3)}

    of = gf.Trainer(network("numpy"), "softmax_cross_entropy", Configured(0.01))
    weights = of.network.parameters.copy()
    with pytest.raises(gf.DataError, match=r"settings\.optimizer\.table is of type ndarray, which a file cannot hold"):
        fit(of, tmp_path / "run")
    np.testing.assert_array_equal(of.network.parameters, weights)
    assert not list(tmp_path.iterdir())


def results(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "history.csv").read_bytes()


@contextmanager
def read_only(folder: Path, problem: int = errno.EROFS) -> Iterator[None]:
    """Make the operating system refuse to open any file in a folder for writing, like a read-only file system."""
    original = os.open

    def refusing(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and (folder == Path(os.fsdecode(path)) or folder in Path(os.fsdecode(path)).parents):
            raise OSError(problem, os.strerror(problem), path)
        return original(path, flags, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", refusing)
        yield


def refused_before_training(folder: Path, reason: str, **arguments: Any) -> OSError:
    """Return the error of a run in a folder; neither the network nor any file has changed."""
    of, before = trainer("numpy"), files(folder) if folder.is_dir() else {}
    weights = of.network.parameters.copy()
    with pytest.raises(OSError, match=f"cannot be saved here: {reason}. Nothing was changed; choose another") as caught:
        fit(of, **({} if "resume" in arguments else {"folder": folder}), **arguments)
    np.testing.assert_array_equal(of.network.parameters, weights)
    assert (files(folder) if folder.is_dir() else {}) == before
    return caught.value


@pytest.mark.parametrize("checkpoint", [None, gf.Checkpoint()], ids=["plain", "checkpoints"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, checkpoint: gf.Checkpoint | None) -> None:
    (tmp_path / "file").write_text("mine")
    refused_before_training(tmp_path / "file", "File exists", checkpoint=checkpoint)
    refused_before_training(tmp_path / "file" / "run", "Not a directory", checkpoint=checkpoint)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_in_the_place_of_the_checkpoints(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path)
    (tmp_path / "checkpoints").write_text("mine")
    error = refused_before_training(tmp_path, "File exists", checkpoint=gf.Checkpoint(), overwrite=True)
    assert isinstance(error, FileExistsError)
    fit(trainer("numpy"), tmp_path, overwrite=True)
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    error = refused_before_training(tmp_path, "model.safetensors is a folder", overwrite=True)
    assert isinstance(error, IsADirectoryError)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_path_at_which_no_folder_can_be_created() -> None:
    error = refused_before_training(Path("/proc/run"), "No such file or directory")
    assert error.filename == "/proc/run"


@pytest.mark.parametrize("problem", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_read_only(tmp_path: Path, problem: int) -> None:
    """Neither a new run nor a resumed one touches the files of a previous run."""
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint())
    with read_only(tmp_path, problem):
        for arguments in (
            {"overwrite": True},
            {"checkpoint": gf.Checkpoint(), "overwrite": True},
            {"resume": tmp_path},
        ):
            error = refused_before_training(tmp_path, os.strerror(problem), **arguments)
            assert isinstance(error, PermissionError) == (problem == errno.EACCES)
    fit(trainer("numpy"), resume=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_folder_that_belongs_to_someone_else() -> None:
    """A real permission test; root, whom permissions do not stop, becomes nobody temporarily."""
    folder = Path(tempfile.mkdtemp())
    try:
        fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint())
        (folder / ".lock").chmod(0o666)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            refused_before_training(folder, "Permission denied", overwrite=True)
        finally:
            if is_root:
                os.seteuid(0)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


class AtEpoch(gf.Callback):
    """Runs a function at the end of the second epoch."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        if epoch == 2:
            self._action()


def trained_all_the_same(folder: Path, action: Any, reason: str) -> None:
    """The folder is lost in the second epoch: training continues, and the final error states what remains."""
    robbed, alone = trainer("numpy"), trainer("numpy")
    with (
        pytest.warns(
            gf.CheckpointWarning, match=rf"could not save the checkpoint after step \d+: .*{reason}.*Training continues"
        ),
        pytest.raises(OSError, match=f"the results cannot be written: {reason}.* The network still has its weights"),
    ):
        fit(robbed, folder, checkpoint=gf.Checkpoint(), callbacks=[AtEpoch(action)])
    fit(alone)
    np.testing.assert_array_equal(robbed.network.parameters, alone.network.parameters)


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained_all_the_same(folder, lambda: shutil.rmtree(folder), "the run folder is gone")
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a folder that is in use")
def test_another_run_in_the_place_of_a_folder_that_vanished(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    others: dict[str, bytes] = {}

    def replace() -> None:
        shutil.rmtree(folder)
        fit(trainer("numpy", "sgd with momentum"), folder, checkpoint=gf.Checkpoint())
        others.update(files(folder))

    trained_all_the_same(folder, replace, "the run folder is gone or was replaced")
    assert files(folder) == others


def test_a_folder_that_becomes_read_only(tmp_path: Path) -> None:
    """Everything saved so far remains, and is used once the folder can be written to again."""
    folder, alone = tmp_path / "run", trainer("numpy")
    expected = bits(alone, fit(alone, tmp_path / "alone"))
    saved: dict[str, bytes] = {}
    with ExitStack() as until_the_end:

        def mount_read_only() -> None:
            saved.update(files(folder))
            until_the_end.enter_context(read_only(folder))

        trained_all_the_same(folder, mount_read_only, os.strerror(errno.EROFS))
    assert files(folder) == saved
    resumed = trainer("numpy")
    assert bits(resumed, fit(resumed, resume=folder)) == expected
    assert results(folder) == results(tmp_path / "alone")


# -- a folder that holds files ----------------------------------------------------------------------------------------

NAMES = ("model.safetensors", "config.json", "history.csv", "curves.png", "command.json")


@pytest.mark.parametrize("name", [*NAMES, "checkpoints/step-000000000007.safetensors"])
def test_files_of_others_are_replaced_only_when_told_to(tmp_path: Path, name: str) -> None:
    """Folders of other programs, and of other runs, stay unchanged."""
    (tmp_path / "checkpoints").mkdir()
    for own in (name, "notes.txt", "checkpoints/step-notes.safetensors"):
        (tmp_path / own).write_text("mine")
    before = files(tmp_path)
    for checkpoint in (None, gf.Checkpoint()):
        of = trainer("numpy")
        weights = of.network.parameters.copy()
        with pytest.raises(gf.DataError, match=r"already contains .*, which a run with this output would replace"):
            fit(of, tmp_path, checkpoint=checkpoint)
        np.testing.assert_array_equal(of.network.parameters, weights)
        assert files(tmp_path) == before
    fit(trainer("numpy"), tmp_path, overwrite=True)
    assert (
        (tmp_path / "notes.txt").read_text() == (tmp_path / "checkpoints/step-notes.safetensors").read_text() == "mine"
    )
    assert not any(content == b"mine" for path, content in files(tmp_path).items() if "notes" not in path)


def test_a_folder_without_such_files_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "data.csv").write_text("mine")
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint())
    assert (tmp_path / "data.csv").read_text() == "mine"


def test_a_cell_run_twice_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(trainer("numpy"), folder)
    with pytest.raises(gf.DataError) as plain:
        fit(trainer("numpy"), folder)
    held = "config.json, curves.png, history.csv" if (folder / "curves.png").exists() else "config.json, history.csv"
    assert str(plain.value) == (
        f"{folder} already contains {held} and model.safetensors, which a run with this output would replace. Pass "
        "another output or overwrite=True to replace them"
    )
    fit(trainer("numpy"), folder, checkpoint=gf.Checkpoint(keep=1), overwrite=True)
    with pytest.raises(gf.DataError) as kept:
        fit(trainer("numpy"), folder)
    assert str(kept.value) == (
        f"{folder} already contains {held}, model.safetensors and 1 checkpoint, which a run with this output would "
        f"replace. Pass another output, overwrite=True to replace them or resume={str(folder)!r} to continue the run"
    )


def test_arguments_that_contradict_each_other(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint())
    for arguments, message in (
        ({"overwrite": True}, "overwrite needs a folder; also pass output="),
        ({"overwrite": True, "resume": tmp_path}, "resume continues the run in a folder, and overwrite replaces it"),
        ({"overwrite": "no", "folder": tmp_path}, "overwrite must be True or False"),
    ):
        with pytest.raises(gf.DataError, match=message):
            fit(trainer("numpy"), **arguments)  # type: ignore[arg-type]
    fit(trainer("numpy"), tmp_path / ".." / tmp_path.name, resume=tmp_path)


def test_half_written_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint())
    unfinished = [f".{name}.0123456789abcdef" for name in NAMES]
    unfinished.append("checkpoints/.step-000000000007.safetensors.0123456789abcdef")
    for name in (*unfinished, ".model.safetensors.mine"):
        (tmp_path / name).write_text("half")
    fit(trainer("numpy"), resume=tmp_path)
    assert not [name for name in unfinished if (tmp_path / name).exists()]
    assert (tmp_path / ".model.safetensors.mine").read_text() == "half"


# -- the start and the end ---------------------------------------------------------------------------------------------


def test_a_run_that_cannot_begin_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint())
    before = files(tmp_path)
    for name, y in (("softmax_cross_entropy", LABELS), ("mean_squared_error", 5 + 2 * X[:, :3])):
        of = gf.Trainer(network("numpy"), name, "adam", standardize_targets=name == "mean_squared_error")
        x = {f"column {place}": X[:, place] for place in range(6)}
        with (
            read_only(tmp_path / "checkpoints", errno.ENOSPC),
            pytest.raises(OSError, match="cannot be saved here: No sp"),
        ):
            of.fit(x, y, epochs=1, output=tmp_path, checkpoint=gf.Checkpoint(), overwrite=True)
        fresh = network("numpy")
        assert (of.network.output_activation, of.network.output_scale) == ("identity", None)
        assert of.network.feature_names is None
        np.testing.assert_array_equal(of.network.parameters, fresh.parameters)
        assert files(tmp_path) == before


@pytest.mark.parametrize("error", [ImportError, ValueError, OSError, RuntimeError])
def test_a_picture_that_cannot_be_drawn_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*arguments: object) -> bytes:
        raise error("no fonts")

    monkeypatch.setattr("gradflow.training.runs.run_folder.importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr("gradflow.training.runs.run_folder.run_picture", broken)
    (tmp_path / "curves.png").write_bytes(b"that of an earlier run")
    of = trainer("numpy")
    with pytest.warns(gf.PictureWarning, match=f"could not be drawn: {error.__name__}: no fonts. All other") as caught:
        history = fit(of, tmp_path, overwrite=True)
    assert caught[0].filename == fit.__code__.co_filename
    assert (history.epochs, (tmp_path / "curves.png").exists()) == (4, False)
    monkeypatch.undo()
    assert gf.repeat(tmp_path, X, LABELS).is_same
