"""Checkpoints: saving a training run, and finding the checkpoint to resume from."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from gradflow.checks import positive, positive_integer
from gradflow.configurable import Configurable
from gradflow.errors import CheckpointWarning, DataError, FileFormatError, warn
from gradflow.training.runs.run_state import RunState
from gradflow.training.runs.snapshots import NewerFormatError, Snapshot


class Checkpoint(Configurable):
    """Settings for the checkpoints that `Trainer.fit` saves and can resume from.

    One is always saved when training begins, when it ends, and after Ctrl-C or SIGTERM.

    Args:
        every_epochs: save after this many epochs, at least 1; 1 if no interval is given.
        every_steps: save after this many steps, counted over all epochs, at least 1.
        every_minutes: save this many minutes after the last checkpoint, above 0.
        keep: number of latest checkpoints to keep, at least 1.
    """

    def __init__(
        self,
        *,
        every_epochs: int | None = None,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
    ) -> None:
        if every_epochs is every_steps is every_minutes is None:
            every_epochs = 1
        self.every_epochs = None if every_epochs is None else positive_integer("every_epochs", every_epochs)
        self.every_steps = None if every_steps is None else positive_integer("every_steps", every_steps)
        self.every_minutes = None if every_minutes is None else positive("every_minutes", every_minutes)
        self.keep = positive_integer("keep", keep)

    def config(self) -> dict[str, Any]:
        return {
            "every_epochs": self.every_epochs,
            "every_steps": self.every_steps,
            "every_minutes": self.every_minutes,
            "keep": self.keep,
        }


class _RunFolder(Protocol):
    """The methods of the run folder that checkpoints use."""

    def begin(self, save_first: Callable[[], Path]) -> None: ...

    def check_presence(self) -> None: ...

    def explaining(self, problem: str, remedy: str) -> AbstractContextManager[None]: ...


class Checkpoints:
    """Saves the checkpoints of a running fit.

    Args:
        folder: folder for the files; it is created.
        settings: when to save, and how many to keep.
        run: description of the run, for JSON.
        run_folder: the folder of the run; if it is gone, nothing is written.

    Raises:
        OSError: if the folder cannot be created, or temporary files of a killed process cannot be removed.
    """

    def __init__(self, folder: Path, settings: Checkpoint, run: dict[str, Any], run_folder: _RunFolder) -> None:
        self._folder, self._settings, self._run = folder, settings, run
        self._run_folder = run_folder
        self._saved_at = time.monotonic()
        self._make_folder()

    def _make_folder(self) -> None:
        self._folder.mkdir(exist_ok=True)
        for path in self._folder.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                path.unlink()

    def begin(self, state: RunState) -> None:
        """Save the run before its first step, then remove the run that it replaces.

        Raises:
            OSError: if the folder cannot be written to.
        """
        self._run_folder.begin(lambda: self._write(0, state.take(0)))

    def go_on(self, state: RunState, batches_done: int) -> None:
        """Resume after this step. Later checkpoints are damaged: rename them, so that none counts as the last.

        Raises:
            OSError: if the folder cannot be written to.
        """
        with self._run_folder.explaining("damaged checkpoints cannot be renamed", "Nothing was changed"):
            for path in checkpoint_files(self._folder):
                if path.name > _name(state.steps(batches_done)):
                    path.rename(path.with_suffix(".damaged"))

    @property
    def is_time(self) -> bool:
        """True if as many minutes have passed since the last checkpoint as must."""
        minutes = self._settings.every_minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def between_steps(self, state: RunState, batches_done: int, *, is_due: bool) -> int:
        """Save if a checkpoint ``is_due`` or the number of steps says so; return how many steps may run before the next
        call."""
        step = state.steps(batches_done)
        every = self._settings.every_steps or sys.maxsize
        if is_due or (batches_done and step % every == 0):
            self._try_to_save(step, state, batches_done)
        return every - step % every

    def epoch_ended(self, state: RunState, epoch: int, *, is_last: bool) -> None:
        """Save if a checkpoint is due or the run ends here."""
        step, settings = state.steps(0), self._settings
        every_steps, every_epochs = settings.every_steps or sys.maxsize, settings.every_epochs or sys.maxsize
        if is_last or epoch % every_epochs == 0 or step % every_steps == 0:
            self._try_to_save(step, state, 0)

    def _try_to_save(self, step: int, state: RunState, batches_done: int) -> None:
        """Save; on failure, warn and continue: losing a checkpoint must not end the training."""
        try:
            self._save(step, state.take(batches_done))
        except OSError as error:
            warn(
                f"could not save the checkpoint after step {step}: {error}. Training continues",
                CheckpointWarning,
            )
        self._saved_at = time.monotonic()

    def _save(self, step: int, snapshot: Snapshot) -> None:
        self._write(step, snapshot)
        for path in checkpoint_files(self._folder)[: -self._settings.keep]:
            path.unlink()

    def _write(self, step: int, snapshot: Snapshot) -> Path:
        self._run_folder.check_presence()
        record = {"run": self._run, "checkpoint": self._settings.config(), **snapshot.record}
        path = self._folder / _name(step)
        Snapshot(snapshot.vectors, record).write(path)
        return path


def last_good_checkpoint(folder: Path) -> tuple[Path, Snapshot]:
    """Return the last intact checkpoint of a run; warn of each damaged one after it.

    Raises:
        DataError: if there is no checkpoint.
        FileFormatError: if none is intact, or the last one is from a newer version.
        OSError: if they cannot be read.
    """
    paths = checkpoint_files(folder)
    if not paths:
        raise DataError(
            f"there is no checkpoint in {folder}; start a run with output= and checkpoint=gradflow.Checkpoint()"
        )
    problems: list[FileFormatError] = []
    for path in reversed(paths):
        try:
            snapshot = Snapshot.read(path)
        except NewerFormatError:
            raise
        except FileFormatError as problem:
            problems.append(problem)
            continue
        for found in problems:
            warn(f"{found}. The previous checkpoint is used", CheckpointWarning)
        return path, snapshot
    raise FileFormatError(f"none of the {len(paths)} checkpoints in {folder} is complete: {problems[0]}")


def check_same_run(saved: dict[str, Any], current: dict[str, Any]) -> None:
    """Raise if anything that affects the results differs from when the run began.

    Args:
        saved, current: network, settings and data, of the saved run and of the current call.

    Raises:
        DataError: listing the differences.
    """
    if found := differences(_deciding(saved), _deciding(json.loads(json.dumps(current)))):
        listed = "; ".join(f"{name} was {was!r}, but is {now!r}" for name, was, now in found[:4])
        raise DataError(
            f"the run to resume is a different one: {listed}. Pass the arguments that it was started with, or start a "
            "new run with output="
        )


def _deciding(run: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that affect the results, without those that `fit` sets itself."""
    settings = {name: value for name, value in run["settings"].items() if name not in ("threads", "steps_per_launch")}
    if isinstance(settings["optimizer"].get("learning_rate"), float):
        del settings["epochs"]
    of_fit = ("output_activation", "output_scale", "feature_names")
    network = {name: value for name, value in run["network"].items() if name not in of_fit}
    return {
        "network": network,
        "settings": settings,
        "data": run["data"],
        "validation_data": run["validation_data"],
    }


def differences(saved: Any, current: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Return the differences between two JSON values: the name of each entry, and both values."""
    if isinstance(saved, dict) and isinstance(current, dict):
        # If the kinds differ, comparing the other entries makes no sense.
        kinds = [key for key in ("name", "type") if saved.get(key) != current.get(key)]
        return [
            difference
            for key in kinds or {**saved, **current}
            for difference in differences(saved.get(key), current.get(key), f"{name}.{key}" if name else key)
        ]
    if isinstance(saved, list) and isinstance(current, list) and len(saved) == len(current):
        return [
            difference
            for place, pair in enumerate(zip(saved, current, strict=True))
            for difference in differences(*pair, f"{name}[{place}]")
        ]
    if isinstance(saved, list) and isinstance(current, list):
        return [(f"the number of {name}", len(saved), len(current))]
    return [] if saved == current else [(name, saved, current)]


def _name(step: int) -> str:
    return f"step-{step:012d}.safetensors"


_CHECKPOINT = re.compile(r"step-\d{12}\.safetensors")
_UNFINISHED = re.compile(r"\.step-\d{12}\.safetensors\.\w+")
"""Temporary file that a killed process leaves."""


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder in order, ignoring files that a user put there."""
    found = folder.glob("step-*.safetensors")
    return sorted(path for path in found if _CHECKPOINT.fullmatch(path.name) and path.is_file())
