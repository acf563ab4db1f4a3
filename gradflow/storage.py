"""Saving and loading networks: weights in safetensors, with a description of the layers in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from gradflow.checks import file_path, instance
from gradflow.data.preprocessing import Preprocessing
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError, FileFormatError
from gradflow.files import read_regular_file, write_atomically
from gradflow.installation import update_command
from gradflow.layers.base import Layer
from gradflow.layers.descriptions import describe_layer, layer_from_description
from gradflow.names import is_built_in
from gradflow.network import Sequential
from gradflow.output_scale import OutputScale
from gradflow.plain import plain

FORMAT_VERSION = 1
ENSEMBLE_VERSION = 2
"""Format version of files with several networks, which versions of gradflow without ensembles cannot read."""


def describe(network: Sequential) -> dict[str, Any]:
    """Return everything except the weights that is needed to recreate a network, in JSON types.

    Raises:
        DataError: if a layer has settings that JSON cannot represent, or the network's class overrides methods.
    """
    for cls in type(network).__mro__:
        overridden = [name for name in vars(cls) if not name.startswith("_") and hasattr(Sequential, name)]
        if overridden and not is_built_in(cls):
            raise DataError(
                f"{cls.__name__} overrides {overridden[0]}, but a file stores no code, so gradflow.load would return "
                "a network without it. Save the weights, network.get_weights(), and create the network with your own "
                "class"
            )
    description: dict[str, Any] = plain(
        "network",
        {
            "layers": [describe_layer(layer) for layer in network.layers],
            "dtype": network.dtype.name,
            "seed": network.seed,
            "output_activation": network.output_activation,
            "output_scale": network.output_scale and network.output_scale.config(),
            "preprocessing": network.preprocessing and network.preprocessing.config(),
        },
    )
    if network.frozen:
        description["frozen"] = list(network.frozen)
    if network.classes is not None:
        description["classes"] = list(network.classes)
    if network.precision != "float32":
        description["precision"] = network.precision
    if network.preprocessing is None and network.feature_names is not None:
        description["feature_names"] = list(network.feature_names)
    return description


def save(network: Sequential | Ensemble, path: str | os.PathLike[str]) -> None:
    """Write a network to one file: weights, buffers, layers, preprocessing, feature names, dtype, seed, activation, and
    the epoch count, so that training continues as if the network had not been saved. Or write an ensemble: all that of
    each network, and their weights.

    The file is written under a temporary name, synced and renamed, so that it is never incomplete. A replaced file
    keeps its permissions. A symbolic link is kept, and the file that it points to is written.

    Raises:
        DataError: if a layer has settings that JSON cannot represent, or the arguments are not a network or ensemble
            and a path.
        OSError: if the file cannot be written.
    """
    if not isinstance(network, Ensemble):
        instance("network", network, Sequential, "a gradflow network or ensemble")
    write_atomically(file_path("path", path), model_content(network), through_links=True)


def model_content(model: Sequential | Ensemble) -> bytes:
    """Return the bytes of the file that `save` writes.

    Raises:
        DataError: if a layer has settings that JSON cannot represent.
    """
    if isinstance(model, Ensemble):
        weights: dict[str, np.ndarray] = {}
        members = []
        for place, network in enumerate(model.networks):
            of_network, description = _weights_and_description(network)
            weights |= {f"{place}/{name}": array for name, array in of_network.items()}
            members.append(description)
        return _content(ENSEMBLE_VERSION, weights, {"members": members, "weights": list(model.weights)})
    return _content(FORMAT_VERSION, *_weights_and_description(model))


def _weights_and_description(network: Sequential) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with network.access.reading():
        return network.get_weights(), describe(network) | {"epochs_begun": network.epochs_begun}


def _content(version: int, weights: dict[str, np.ndarray], description: dict[str, Any]) -> bytes:
    model = {"version": version, "network": description, "checksum": checksum(weights, json.dumps(description))}
    # A single entry, since safetensors does not write several in a deterministic order.
    return safetensors.numpy.save(weights, metadata={"gradflow": json.dumps(model)})


def load_model(path: Path, backend: str, device: str | None = None) -> Sequential | Ensemble:
    """Read a network or an ensemble written by `save`.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if the file is damaged, from a newer version, or not a gradflow model.
        BackendError: if the backend cannot be used here.
    """
    weights, header = read_tensors(path, "gradflow model")

    def network(description: Mapping[str, Any], prefix: str) -> Sequential:
        own = {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}
        return described_network(_layers(path, description["layers"]), description, backend, device, own)

    try:
        description = _description(path, header, weights)
        if "members" not in description:
            return network(description, "")
        members = [network(member, f"{place}/") for place, member in enumerate(description["members"])]
        return Ensemble(members, description["weights"])
    except (DataError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{path}: the description of the network is damaged: {error}") from error


def load_network(path: Path, backend: str, device: str | None = None) -> Sequential:
    """Read a network written by `save`; errors are those of `load_model`, and of a file that holds an ensemble."""
    model = load_model(path, backend, device)
    if isinstance(model, Ensemble):
        raise FileFormatError(f"{path} holds an ensemble of {len(model)} networks, but one network is needed here")
    return model


def described_network(
    layers: list[Layer],
    description: Mapping[str, Any],
    backend: str,
    device: str | None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> Sequential:
    """Return a network of these layers, with the rest from its description (`describe`); without weights it is
    initialized from its seed.

    Raises:
        DataError, KeyError, TypeError, ValueError, AttributeError: if the description is not that of a network.
        BackendError: if the backend cannot be used here.
    """
    dtype, seed = description["dtype"], description["seed"]
    network = Sequential(layers, dtype=dtype, seed=seed, backend=backend, device=device, weights=weights)
    network.output_activation = description["output_activation"]
    if (scale := description.get("output_scale")) is not None:
        network.output_scale = OutputScale.from_config(scale)
        if len(scale["mean"]) != network.n_out:
            raise DataError(f"the output_scale is that of {len(scale['mean'])} outputs, but there are {network.n_out}")
    if (preprocessing := description.get("preprocessing")) is not None:
        network.preprocessing = Preprocessing.from_config(preprocessing)
    if (names := description.get("feature_names")) is not None:
        network.feature_names = names
    network.classes = description.get("classes")
    network.epochs_begun = description.get("epochs_begun", 0)
    network.frozen = description.get("frozen", ())
    network.precision = description.get("precision", "float32")
    return network


def read_tensors(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays of a safetensors file by name, and the metadata in its header.

    ``kind`` names the file in errors.

    Raises:
        FileNotFoundError: if there is no such file.
        FileFormatError: if it is not a safetensors file, or damaged.
    """
    content = read_regular_file(path)
    try:
        arrays = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path} is not a {kind} or is damaged: {error}") from error
    header_size = int.from_bytes(content[:8], "little")
    return arrays, json.loads(content[8 : 8 + header_size]).get("__metadata__") or {}


def checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """Return the SHA-256 of a text and of the name, dtype, shape and bytes of each array, as 64 hex digits."""
    import hashlib  # imports OpenSSL, which would slow down the import of gradflow

    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _description(
    path: str | os.PathLike[str], header: dict[str, Any], weights: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    if "gradflow" not in header:
        raise FileFormatError(
            f"{path} is a safetensors file, but neither a gradflow model, as written by gradflow.save(...), nor a "
            "checkpoint"
        )
    try:
        model = json.loads(header["gradflow"])
        version, description, written = model["version"], model["network"], model["checksum"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: the description of the network is damaged: {error}") from error
    if not isinstance(version, int) or version > ENSEMBLE_VERSION:
        raise FileFormatError(
            f"{path} has format version {version}, but this gradflow only reads versions up to {ENSEMBLE_VERSION}; "
            f"update gradflow: {update_command()}"
        )
    if not isinstance(description, dict):
        raise FileFormatError(f"{path}: the description of the network is damaged: expected an object")
    if written != checksum(weights, json.dumps(description)):
        raise FileFormatError(f"{path} is damaged: its checksum does not match its contents")
    return description


def _layers(path: str | os.PathLike[str], descriptions: list[dict[str, Any]]) -> list[Layer]:
    try:
        return list(map(layer_from_description, descriptions))
    except DataError as error:
        raise FileFormatError(f"{path}: {error}") from error
