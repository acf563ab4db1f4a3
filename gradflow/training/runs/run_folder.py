"""The run folder, which holds the results and checkpoints of a training run."""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.checks import file_path, instance
from gradflow.errors import DataError, PictureWarning, warn
from gradflow.files import FileLock, json_content, write_atomically, write_together
from gradflow.network import Sequential
from gradflow.plain import plain
from gradflow.storage import describe, model_content
from gradflow.training.data.feed import PassData
from gradflow.training.progress.history import History
from gradflow.training.runs.checkpoints import (
    Checkpoint,
    Checkpoints,
    check_same_run,
    checkpoint_files,
    last_good_checkpoint,
)
from gradflow.training.runs.picture import run_picture
from gradflow.training.runs.snapshots import Snapshot
from gradflow.training.step.objective import Objective
from gradflow.version import __version__

_BEFORE = "Nothing was changed; choose another output"
_AFTER = "The network still has its weights, which gradflow.save keeps"

_RESULTS = (
    "config.json", "command.json", "curves.png", "history.csv", "model.safetensors", "report.html", "train.toml",
)  # fmt: skip
"""Files of a run besides checkpoints. The first one marks the run as finished, and is written last."""

_UNFINISHED = re.compile(rf"\.({'|'.join(map(re.escape, _RESULTS))})\.[0-9a-f]{{16}}")
"""Temporary files that a killed process leaves."""


class RunFolder:
    """A folder with model.safetensors, config.json, history.csv and, where matplotlib is installed, curves.png.

    Checkpoints are in a subfolder. As a context manager it locks the folder for one run. If the folder is removed, or
    replaced by another one, the run writes nothing more.

    Files of two runs are never mixed. Files that a run replaces stay until its first checkpoint is on disk, or, without
    checkpoints, all its results are.

    Args:
        path: the folder; it is created.
        is_resumed: True if the run in it continues.
        overwrite: True if files of a run in it may be replaced.

    Raises:
        DataError: if another run is using the folder, or it holds files that this run would replace.
        OSError: if the folder cannot be created or written to; nothing has been changed.
    """

    _kind_of_checkpoints = Checkpoints

    def __init__(self, path: Path, *, is_resumed: bool = False, overwrite: bool = False) -> None:
        self.path = path
        self._is_resumed = is_resumed
        self._overwrite = overwrite
        self._replaced: list[Path] = []

    def __enter__(self) -> RunFolder:
        self._lock = FileLock(self.path / ".lock")
        if not (self.path / ".lock").exists():
            self._refuse_to_replace()  # No run uses it, and a folder of another program stays unchanged.
        try:
            with self.explaining("a run cannot be saved here", _BEFORE):
                owner = self._prepare()
            if owner is not None:
                raise DataError(
                    f"process {owner} is training in {self.path}; wait until it has ended, or choose another output"
                )
            self._refuse_to_replace()
        except BaseException:
            self._lock.release()
            raise
        if not self._is_resumed:
            self._replaced = run_files(self.path)
        return self

    def _prepare(self) -> int | None:
        """Create the folder and lock it; return the id of the process that holds the lock, or None on success."""
        import tempfile  # loads archive modules, which would slow down importing gradflow

        self.path.mkdir(parents=True, exist_ok=True)
        owner = self._lock.acquire()
        if owner is None:
            # The lock file of an earlier run may be writable in a folder that is not.
            with tempfile.TemporaryFile(dir=self.path):
                pass
            for path in self.path.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    path.unlink()
                elif path.name in _RESULTS and path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
        return owner

    def _refuse_to_replace(self) -> None:
        if self._is_resumed or self._overwrite or not (found := run_files(self.path)):
            return
        names = [str(path.relative_to(self.path)) for path in found if path.parent == self.path]
        number = len(found) - len(names)
        names += [f"{number} checkpoint{'s' if number > 1 else ''}"] if number else []
        ways = ["another output", "overwrite=True to replace them"]
        if number:
            ways.append(f"resume={str(self.path)!r} to continue the run")
        raise DataError(
            f"{self.path} already contains {_listed(names, 'and')}, which a run with this output would replace. Pass "
            f"{_listed(ways, 'or')}"
        )

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def saved(self) -> list[Path]:
        """Return the existing files with weights of this run, the latest one last."""
        model = self.path / "model.safetensors"
        files = [*([model] if model.exists() else []), *checkpoint_files(self._checkpoints)]
        return [path for path in files if path not in self._replaced]

    def resume(self, run: dict[str, Any]) -> Snapshot:
        """Return the last good checkpoint, after checking that it belongs to this run.

        Raises:
            DataError: if there is no checkpoint, or it belongs to another run; lists the differences.
            FileFormatError: if none is intact, or the last one is from a newer version.
        """
        _, snapshot = last_good_checkpoint(self._checkpoints)
        check_same_run(snapshot.record["run"], run)
        history, progress = History(), snapshot.record["progress"]
        history.restore(progress["history"])
        begun, epochs = history.epochs + (progress["batches_done"] > 0), run["settings"]["epochs"]
        if begun > epochs:
            raise DataError(
                f"the run in {self.path} has already begun epoch {begun}; pass at least that many, got {epochs=}"
            )
        return snapshot

    def checkpoints(
        self, settings: Checkpoint | None, run: dict[str, Any], resumed: Snapshot | None
    ) -> Checkpoints | None:
        """Return the checkpoints with these settings, or those of the resumed run; None if there are neither."""
        if settings is None and resumed is None:
            return None
        if settings is None and resumed is not None:
            settings = Checkpoint(**resumed.record["checkpoint"])
        assert settings is not None
        with self.explaining("checkpoints cannot be saved here", _BEFORE):
            return self._kind_of_checkpoints(self._checkpoints, settings, run, self)

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def begin(self, save_first: Callable[[], Path]) -> None:
        """Save the first checkpoint, then remove the files that this run replaces.

        If the process is killed in between, the last checkpoint of the earlier run remains, and it can be resumed.

        Raises:
            OSError: if the folder cannot be written to.
        """
        with self.explaining("checkpoints cannot be saved here", _BEFORE):
            first = save_first()
        with self.explaining("the previous run cannot be removed", "Choose another output"):
            for path in self._replaced:
                if path != first:
                    path.unlink(missing_ok=True)
        self._replaced = []

    def write(self, network: Sequential, run: dict[str, Any], history: History) -> None:
        """Write all files: each completely or not at all, and none if there is no room for all.

        Raises:
            OSError: if the folder is gone, or can no longer be written to.
        """
        contents = {
            "model.safetensors": model_content(network),
            "history.csv": history.csv_content(),
            "config.json": json_content(_config(network, run, history)),
        }
        with self.explaining("the results cannot be written", _AFTER):
            self.check_presence()
            removed = [path for path in self._replaced if path.name not in contents]
            write_together(
                {self.path / name: content for name, content in contents.items()},
                removed=[self.path / "curves.png", *removed],
            )
        try:
            if history.epochs and importlib.util.find_spec("matplotlib") is not None:
                write_atomically(self.path / "curves.png", run_picture(history, network.layers))
        except Exception as error:  # Whatever went wrong, a missing picture must not fail the run.
            warn(
                f"the learning curves in {self.path} could not be drawn: {type(error).__name__}: {error}. All other "
                "files were written",
                PictureWarning,
            )

    def check_presence(self) -> None:
        """Raise an OSError if the run folder is gone."""
        if not self._lock.is_in_place:
            raise FileNotFoundError(errno.ENOENT, "the run folder is gone or was replaced", str(self.path))

    @contextmanager
    def explaining(self, problem: str, remedy: str) -> Generator[None, None, None]:
        """Add to any OSError in the context what it means for the run."""
        try:
            yield
        except OSError as error:
            raise type(error)(error.errno, f"{problem}: {error.strerror}. {remedy}", str(self.path)) from error


def run_files(folder: Path) -> list[Path]:
    """Return the files in a folder that have the names of a run's files, in the order in which to remove them.

    The latest checkpoint comes last: as long as it exists, the run can be resumed.
    """
    results = [folder / name for name in _RESULTS]
    return [path for path in results if os.path.lexists(path)] + checkpoint_files(folder / "checkpoints")


def _listed(names: list[str], word: str) -> str:
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def _config(network: Sequential, run: dict[str, Any], history: History) -> dict[str, Any]:
    return {
        "network": describe(network),
        "initial_state": run["initial_state"],
        **run["settings"],
        "data": run["data"],
        "validation_data": run["validation_data"],
        "result": {
            "epochs": history.epochs,
            "seconds": history.seconds,
            "stopped_by": history.stopped_by,
            "best_epoch": history.best_epoch,
            **history.last(),
        },
        **environment(network.backend),
    }


def run_path(
    output: str | os.PathLike[str] | None,
    resume: str | os.PathLike[str] | None,
    checkpoint: Checkpoint | None,
    *,
    overwrite: bool = False,
) -> Path | None:
    """Return the run folder given by the arguments of a fit; None if there is none.

    Raises:
        DataError: if the arguments are inconsistent, or there is no folder to resume.
    """
    if checkpoint is not None:
        instance("checkpoint", checkpoint, Checkpoint, "a gradflow.Checkpoint")
    folder = None if output is None else file_path("output", output)
    if resume is None:
        for name, is_given in (("checkpoints need", checkpoint is not None), ("overwrite needs", overwrite)):
            if is_given and folder is None:
                raise DataError(f"{name} a folder; also pass output=")
        return folder
    if overwrite:
        raise DataError("resume continues the run in a folder, and overwrite replaces it; pass one of them")
    resumed = file_path("resume", resume)
    if folder is not None and os.path.realpath(folder) != os.path.realpath(resumed):
        raise DataError(f"a resumed run continues in its own folder; omit output, got {output} and resume={resume}")
    if not os.path.isdir(resumed):
        raise DataError(f"there is no run to resume in {resume}: no such folder")
    return resumed


def initial_state(network: Sequential) -> str:
    """Describe the start of a run: the epoch from which shuffles and masks continue, and a SHA-256 of the weights."""
    import hashlib  # loads OpenSSL, which would slow down importing gradflow

    digest = hashlib.sha256(np.ascontiguousarray(network.backend.to_host(network.state)).data)
    return f"epoch {network.epochs_begun}, sha256 {digest.hexdigest()}"


def described_run(
    objective: Objective, settings: dict[str, Any], data: PassData, validation: PassData | None
) -> dict[str, Any]:
    """Return the description of a run for its folder: network, settings of the trainer and of `fit`, and data."""
    network, loss = objective.network, objective.loss
    return {
        "network": describe(network) | ({} if data.classes is None else {"classes": list(data.classes)}),
        "initial_state": initial_state(network),
        "settings": plain("settings", objective.config() | settings),
        "data": data.fingerprint(network.backend, loss),
        "validation_data": validation and validation.fingerprint(network.backend, loss),
    }


def environment(backend: ReferenceBackend) -> dict[str, Any]:
    """Return everything besides configuration and data that can affect the bits of a run."""
    blas, native = backend.blas, getattr(backend, "native", None)
    return {
        "versions": {"gradflow": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "backend": backend.name,
        "device": backend.device,
        "platform": platform.platform(),
        "kernels": None if native is None else native.instructions,
        "blas": None if blas is None else {"name": blas.description, "threads": blas.threads},
    }
