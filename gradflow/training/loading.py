"""Loading a network: from a model, from a checkpoint, or from the folder of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from gradflow.arguments import file_path
from gradflow.backends import get_backend
from gradflow.errors import DataError, FileFormatError
from gradflow.layers.descriptions import layer_from_description
from gradflow.losses import LOSSES
from gradflow.network import Sequential
from gradflow.ops import EPOCH, POSITION
from gradflow.storage import described_network, load_model
from gradflow.training.checkpoints import checkpoint_files, last_good_checkpoint
from gradflow.training.snapshots import HEADER, Snapshot

__all__ = ["load"]


def load(path: str | os.PathLike[str], backend: str = "auto") -> Sequential:
    """Read a network: from a file that `save` wrote, from a checkpoint, or from the folder of a run.

    Of a run folder it is the model that the run wrote when it ended or was interrupted, or, as long as there is none,
    the network of the last good checkpoint. A checkpoint gives the network as training had it there, or the average of
    its weights where training keeps one (``Trainer(average=)``); not the best one of the epochs before.

    Layers of your own are found by their class name: import the module that defines them first.

    Raises:
        DataError: if ``path`` is no path, or a folder without a run, or the backend is unknown.
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is damaged, from a newer version, or not one of gradflow's.
        BackendError: if the backend cannot be used here.
    """
    path = file_path("path", path)
    get_backend(backend)  # a wrong one is no fault of the file
    if path.is_dir():
        if (model := path / "model.safetensors").is_file():
            return load_model(model, backend)
        if not checkpoint_files(path / "checkpoints"):
            raise DataError(
                f"{path} is a folder with neither model.safetensors nor checkpoints; pass a run folder, or the file of "
                "a model"
            )
        return _network(*last_good_checkpoint(path / "checkpoints"), backend)
    if _is_checkpoint(path):
        return _network(path, Snapshot.read(path), backend)
    return load_model(path, backend)


def _is_checkpoint(path: Path) -> bool:
    """True if the header says so; what is no such file at all, the loader of models refuses."""
    if not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return HEADER in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError):
        return False


def _network(path: Path, snapshot: Snapshot, backend: str) -> Sequential:
    """The network of a checkpoint."""
    try:
        description = _description(path, snapshot.record)
        network = described_network(list(map(layer_from_description, description["layers"])), description, backend)
        _set_state(network, snapshot.vectors)
        clock = snapshot.record["progress"]["clock"]
        network.epochs_begun = clock[EPOCH] + (clock[POSITION] > 0)
    except (DataError, LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{path}: the network in the checkpoint is damaged: {error}") from error
    return network


def _set_state(network: Sequential, vectors: Mapping[str, np.ndarray]) -> None:
    state = vectors["network"].copy()
    # Between two epochs the network has the average already; within one, the weights that are trained.
    if (average := vectors.get("update.average")) is not None:
        state[: len(average)] = average
    if (state.shape, state.dtype) != (network.state.shape, network.dtype):
        raise DataError(f"it has {state.shape} numbers of {state.dtype}, expected: {network.state.shape}")
    network.backend.copy(network.backend.from_host(state), network.state)
    network.set_weights(network.get_weights())  # refuses values that no network has


def _description(path: Path, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What makes the network again; checkpoints of earlier versions have it as it was when the run began."""
    if "network" in record:
        description: Mapping[str, Any] = record["network"]
        return description
    settings, description = record["run"]["settings"], dict(record["run"]["network"])
    if settings["standardize_targets"] and description["output_scale"] is None:
        raise FileFormatError(
            f"{path} does not have the scale of the targets, since an earlier version wrote it. Finish the run, which "
            "writes a model: trainer.fit(..., resume=folder)"
        )
    if description["output_activation"] == "identity":
        description["output_activation"] = LOSSES[settings["loss"]["name"]].output_activation
    return description
