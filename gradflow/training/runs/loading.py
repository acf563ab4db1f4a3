"""`load`: read a network from a model file, a checkpoint or a run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from gradflow.backends import get_backend
from gradflow.checks import file_path
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError, FileFormatError
from gradflow.layers.descriptions import layer_from_description
from gradflow.losses import LOSSES
from gradflow.network import Sequential
from gradflow.ops import EPOCH, POSITION
from gradflow.storage import described_network, load_model
from gradflow.training.runs.checkpoints import checkpoint_files, last_good_checkpoint
from gradflow.training.runs.snapshots import HEADER, Snapshot


def load(path: str | os.PathLike[str], backend: str = "auto", device: str | None = None) -> Sequential | Ensemble:
    """Load a network from a file that `save` wrote, from a checkpoint, or from a run folder; or an ensemble.

    A run folder gives the model that the run wrote when it ended or was interrupted, or, if there is none yet, the
    network of the last good checkpoint. A checkpoint gives the network at that point of training, or the average of its
    weights if training keeps one (``Trainer(average=)``); not the best network so far.

    Custom layers are found by their class name: import the module that defines them first.

    A file does not say on which device the network was: ``backend`` and ``device`` are those of `Sequential`.

    Raises:
        DataError: if ``path`` is not a path or is a folder without a run, or backend or device is unknown.
        FileNotFoundError: if there is no such file.
        FileFormatError: if the file is damaged, from a newer version, or not written by gradflow.
        BackendError: if the backend is not available here.
    """
    path = file_path("path", path)
    get_backend(backend, device)  # first, so that a wrong name is not reported as a damaged file
    if path.is_dir():
        if (model := path / "model.safetensors").is_file():
            return load_model(model, backend, device)
        if not checkpoint_files(path / "checkpoints"):
            raise DataError(
                f"{path} is a folder with neither model.safetensors nor checkpoints; pass a run folder, or the file of "
                "a model"
            )
        return _network(*last_good_checkpoint(path / "checkpoints"), backend, device)
    if _is_checkpoint(path):
        return _network(path, Snapshot.read(path), backend, device)
    return load_model(path, backend, device)


def _is_checkpoint(path: Path) -> bool:
    """True if the header marks a checkpoint; False for invalid files, which `load_model` rejects."""
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return HEADER in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError):
        return False


def _network(path: Path, snapshot: Snapshot, backend: str, device: str | None) -> Sequential:
    """Return the network of a checkpoint."""
    try:
        description = _description(path, snapshot.record)
        layers = list(map(layer_from_description, description["layers"]))
        network = described_network(layers, description, backend, device)
        _set_state(network, snapshot.vectors)
        clock = snapshot.record["progress"]["clock"]
        network.epochs_begun = clock[EPOCH] + (clock[POSITION] > 0)
    except (DataError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{path}: the network in the checkpoint is damaged: {error}") from error
    return network


def _set_state(network: Sequential, vectors: Mapping[str, np.ndarray]) -> None:
    state = vectors["network"].copy()
    # Between epochs the network already holds the average; within one, the trained weights.
    if (average := vectors.get("update.average")) is not None:
        state[: len(average)] = average
    if (state.shape, state.dtype) != (network.state.shape, network.dtype):
        raise DataError(f"it has {state.shape} numbers of {state.dtype}, expected: {network.state.shape}")
    network.backend.copy(network.backend.from_host(state), network.state)
    network.set_weights(network.get_weights())  # rejects invalid values


def _description(path: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the description of the network; earlier versions stored it as it was when the run began."""
    if "network" in record:
        description: Mapping[str, Any] = record["network"]
        return description
    settings, description = record["run"]["settings"], dict(record["run"]["network"])
    if settings["standardize_targets"] and description["output_scale"] is None:
        raise FileFormatError(
            f"{path} lacks the scale of the targets, because an earlier version wrote it. Finish the run, which "
            "writes a model: trainer.fit(..., resume=folder)"
        )
    if description["output_activation"] == "identity":
        description["output_activation"] = LOSSES[settings["loss"]["name"]].output_activation
    return description
