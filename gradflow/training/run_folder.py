"""The run folder: what a training run leaves behind."""

from __future__ import annotations

import errno
import importlib.util
import io
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.arguments import file_path, instance
from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import DataError
from gradflow.files import FileLock, write_atomically, write_json
from gradflow.network import Sequential
from gradflow.storage import describe, model_content
from gradflow.training.checkpoints import (
    Checkpoint,
    Checkpoints,
    check_same_run,
    checkpoint_files,
    last_good_snapshot,
)
from gradflow.training.history import History
from gradflow.training.snapshots import Snapshot
from gradflow.version import __version__

__all__ = ["RunFolder", "environment", "initial_state", "run_path"]

_BEFORE = "Nothing was changed; choose another output"
_AFTER = "The network still has its weights, which gradflow.save keeps"


class RunFolder:
    """A folder with model.safetensors, config.json, history.csv and, where matplotlib is installed, curves.png.

    Checkpoints are in a folder in it. As a context it belongs to one run; no other one can begin there meanwhile. Once
    it was removed, or another one was put in its place, this run writes nothing more.

    Raises:
        DataError: if another run is going on there.
        OSError: if the folder cannot be made or written to; nothing has been changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> RunFolder:
        import tempfile  # brings modules for archives, which would slow the import of gradflow down

        self._lock = FileLock(self.path / ".lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            owner = self._lock.acquire()
            # A file of a former run may be open to writing in a folder that is not.
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            self._lock.release()
            raise self._explained(error, "a run cannot be kept here", _BEFORE) from error
        if owner is not None:
            raise DataError(
                f"process {owner} is training in {self.path}; wait until it has ended, or choose another output"
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def saved(self) -> list[Path]:
        """The files with weights that there are, the last one last."""
        model = self.path / "model.safetensors"
        return [*([model] if model.exists() else []), *checkpoint_files(self._checkpoints)]

    def resume(self, run: dict[str, Any]) -> Snapshot:
        """The last good checkpoint of a run, if it is this one.

        Raises:
            DataError: if there is no checkpoint, or it is one of another run: what differs.
            FileFormatError: if none is whole, or the last one is from a newer version.
        """
        snapshot = last_good_snapshot(self._checkpoints)
        check_same_run(snapshot.record["run"], run)
        history, progress = History(), snapshot.record["progress"]
        history.restore(progress["history"])
        begun, epochs = history.epochs + (progress["batches_done"] > 0), run["settings"]["epochs"]
        if begun > epochs:
            raise DataError(f"the run in {self.path} has begun epoch {begun} already; pass that or more, got {epochs=}")
        return snapshot

    def checkpoints(
        self, settings: Checkpoint | None, run: dict[str, Any], resumed: Snapshot | None
    ) -> Checkpoints | None:
        """What saves the run, as these settings say, or those of the run that is resumed; None if there are neither."""
        if settings is None and resumed is None:
            return None
        if settings is None and resumed is not None:
            settings = Checkpoint(**resumed.record["checkpoint"])
        assert settings is not None
        try:
            return Checkpoints(self._checkpoints, settings, run, self._check_presence)
        except OSError as error:
            raise self._explained(error, "checkpoints cannot be kept here", _BEFORE) from error

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def write(self, network: Sequential, run: dict[str, Any], history: History) -> None:
        """Write all files, each whole or not at all.

        Raises:
            OSError: if the folder has gone, or cannot be written to any more.
        """
        try:
            self._check_presence()
            self._write(network, run, history)
        except OSError as error:
            raise self._explained(error, "the results cannot be written", _AFTER) from error

    def _check_presence(self) -> None:
        if not self._lock.is_in_place:
            raise FileNotFoundError(errno.ENOENT, "the run folder has gone, or another is in its place", str(self.path))

    def _explained(self, error: OSError, problem: str, remedy: str) -> OSError:
        """The same error, saying what it means for the run."""
        return type(error)(error.errno, f"{problem}: {error.strerror}. {remedy}", str(self.path))

    def _write(self, network: Sequential, run: dict[str, Any], history: History) -> None:
        write_atomically(self.path / "model.safetensors", model_content(network))
        full = {
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
        write_json(self.path / "config.json", full)
        write_atomically(self.path / "history.csv", history.csv_content())
        if history.epochs and importlib.util.find_spec("matplotlib") is not None:
            write_atomically(self.path / "curves.png", _curves(history))


def run_path(
    output: str | os.PathLike[str] | None, resume: str | os.PathLike[str] | None, checkpoint: Checkpoint | None
) -> Path | None:
    """The run folder that the arguments of a fit name; None if they name none.

    Raises:
        DataError: if they do not go together, or there is no folder to resume.
    """
    if checkpoint is not None:
        instance("checkpoint", checkpoint, Checkpoint, "a gradflow.Checkpoint")
    folder = None if output is None else file_path("output", output)
    if resume is None:
        if checkpoint is not None and folder is None:
            raise DataError("checkpoints need a folder; pass output= too")
        return folder
    resumed = file_path("resume", resume)
    if folder is not None and folder != resumed:
        raise DataError(f"a resumed run goes on in its own folder; leave output out, got {output} and resume={resume}")
    if not os.path.isdir(resumed):
        raise DataError(f"there is no run to resume in {resume}: no such folder")
    return resumed


def initial_state(network: Sequential) -> str:
    """How a run begins, as a text: the epoch that shuffles and masks go on from, and SHA-256 over the weights."""
    import hashlib  # brings OpenSSL, which would slow the import of gradflow down

    digest = hashlib.sha256(np.ascontiguousarray(network.backend.to_host(network.state)).data)
    return f"epoch {network.epochs_begun}, sha256 {digest.hexdigest()}"


def environment(backend: ReferenceBackend) -> dict[str, Any]:
    """What a run's bits depend on besides its configuration and data."""
    blas = backend.blas
    return {
        "versions": {"gradflow": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "backend": backend.name,
        "device": backend.device,
        "platform": platform.platform(),
        "blas": None if blas is None else {"name": blas.description, "threads": blas.threads},
    }


def _curves(history: History) -> bytes:
    """The learning curves as a PNG: losses, accuracies where there are any, and below them what layers did."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [[kind for kind in ("loss", "accuracy") if kind in history]]
    of_layers = list(dict.fromkeys(name.partition("/")[0] for name in history if "/" in name))
    panels += [of_layers[start : start + 2] for start in range(0, len(of_layers), 2)]
    columns = max(map(len, panels))
    figure = Figure(figsize=(5 * columns, 4 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, kinds in enumerate(panels):
        for column, kind in enumerate(kinds):
            axes = figure.add_subplot(len(panels), columns, 1 + row * columns + column)
            lines = {kind: "training", f"val_{kind}": "validation"}
            if kind in of_layers:
                places = [name.partition("/")[2] for name in history if name.startswith(f"{kind}/")]
                lines = {f"{kind}/{place}": f"layer {place}" for place in places}
            for name, label in lines.items():
                if name in history:
                    axes.plot(range(1, history.epochs + 1), history[name], label=label)
            is_norm = kind in ("gradient_norm", "update_ratio")
            axes.set(xlabel="epoch", ylabel=kind.replace("_", " "), yscale="log" if is_norm else "linear")
            axes.legend()
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()
