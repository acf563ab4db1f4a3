"""`WeightPath`: the weights at some points of a training run, kept in its folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import safetensors.numpy

from gradflow.checks import file_path, integer
from gradflow.errors import FileFormatError, PictureWarning, warn
from gradflow.files import write_atomically
from gradflow.storage import read_tensors
from gradflow.training.progress.callbacks import Callback
from gradflow.training.runs.checkpoints import checkpoint_files
from gradflow.training.runs.snapshots import Snapshot

if TYPE_CHECKING:
    from gradflow.training.progress.history import History

_NAME = "weight-path.safetensors"
_LOSSES = "losses"
"""The header entry with the losses of the epochs, by which a file is known to belong to a run."""
_MOST_BYTES = 2**26
_LEAST_POINTS = 8


class WeightPath(Callback):
    """Keeps the weights after some epochs, for the picture of the loss surface in `gradflow.report`.

    Pass it to ``trainer.fit(..., output=folder, callbacks=[gf.WeightPath(folder)])``. It keeps those of every epoch;
    each time that there are too many, it drops every other point, so that they stay evenly spaced. It writes them to
    weight-path.safetensors when training ends. Of a network whose points would take more than 64 MiB it keeps fewer,
    and none if 8 would. A run that was killed and resumed has the points from there on.

    Args:
        folder: the run folder.
        most: the maximum number of points, at least 8.

    Raises:
        DataError: if ``folder`` is not a path, or ``most`` is out of range.
    """

    first_rank_only = one_run_only = True

    def __init__(self, folder: str | os.PathLike[str], most: int = 32) -> None:
        self._folder = file_path("folder", folder)
        self._most = integer("most", most, least=_LEAST_POINTS, most=10_000)
        self._limit, self._every = self._most, 1
        self._points: dict[int, np.ndarray] = {}

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        network, history = trainer.network, trainer.history
        fitting = _MOST_BYTES // (network.state.size * network.dtype.itemsize)
        self._limit = 0 if fitting < _LEAST_POINTS else min(fitting, self._most)
        self._points, self._every = {}, 1
        if history.epochs and (saved := _saved(self._folder, history["loss"])):
            self._points = saved
            self._every = int(np.diff([*saved, history.epochs + 1])[0])
        self._keep(network, history.epochs)

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if epoch % self._every == 0:
            self._keep(trainer.network, epoch)

    def on_fit_end(self, trainer: Any, history: History) -> None:
        if self._points and history.epochs and self._folder.is_dir():
            states = {f"{epoch:09d}": state for epoch, state in self._points.items()}
            content = safetensors.numpy.save(states, metadata={_LOSSES: json.dumps(history["loss"])})
            try:
                write_atomically(self._folder / _NAME, content)
            except OSError as error:  # A missing picture must not fail the run.
                warn(
                    f"the path of the weights could not be saved: {error}. A report on the run lacks one picture",
                    PictureWarning,
                )

    def _keep(self, network: Any, epoch: int) -> None:
        if self._limit:
            self._points[epoch] = network.backend.to_host(network.state).copy()
        if len(self._points) > self._limit:
            self._every *= 2
            self._points = {epoch: state for epoch, state in self._points.items() if epoch % self._every == 0}


class WeightsByTime(NamedTuple):
    """Weights and buffers along a run, as ``network.state`` holds them.

    Attributes:
        states: a row for each point, float64 (points, size of the state).
        labels: names of the points, such as "epoch 3" or "step 120".
    """

    states: np.ndarray
    labels: tuple[str, ...]


def weights_by_time(folder: Path, losses: Sequence[float], size: int) -> WeightsByTime | None:
    """Return the weights along a run: from its `WeightPath`, or else from its checkpoints; None without any.

    Args:
        folder: the run folder.
        losses: the losses of the run's epochs.
        size: the size of the network's state.
    """
    if points := _saved(folder, losses):
        found = {f"epoch {epoch}": state for epoch, state in points.items()}
    else:
        found = {}
        for path in checkpoint_files(folder / "checkpoints"):
            try:
                found[f"step {int(path.stem.partition('-')[2])}"] = Snapshot.read(path).vectors["network"]
            except (FileFormatError, KeyError):
                continue
    found = {label: state for label, state in found.items() if state.shape == (size,)}
    return WeightsByTime(np.array(list(found.values()), np.float64), tuple(found)) if found else None


def _saved(folder: Path, losses: Sequence[float]) -> dict[int, np.ndarray]:
    """Return the saved points by epoch; none if they are of a run with other losses."""
    try:
        arrays, metadata = read_tensors(folder / _NAME, "path of weights")
        written = json.loads(metadata[_LOSSES])
        points = {int(name): arrays[name] for name in sorted(arrays)}
    except (FileNotFoundError, FileFormatError, KeyError, ValueError):
        return {}
    return points if json.dumps(written) == json.dumps(list(losses[: len(written)])) else {}
