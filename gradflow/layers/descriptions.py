"""Descriptions of layers in files, and how they recreate layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradflow.errors import DataError, GradflowError
from gradflow.layers.base import LAYERS, Layer, full_name
from gradflow.names import is_same_place


def _classes_named(name: str) -> list[type[Layer]]:
    """Return the layer classes that a name in a file may refer to."""
    if name in LAYERS:
        return [LAYERS[name]]
    found = [cls for cls in LAYERS.values() if cls.__name__ == name]
    return [
        cls for place, cls in enumerate(found) if not any(is_same_place(cls, later) for later in found[place + 1 :])
    ]


def describe_layer(layer: Layer) -> dict[str, Any]:
    """Return a description that recreates the layer: its class as "type", and its config.

    The type is the class name, preceded by the module name if another class has the same name.
    """
    cls = type(layer)
    is_clear = all(is_same_place(other, cls) for other in _classes_named(cls.__name__))
    return {"type": cls.__name__ if is_clear else full_name(cls), **layer.config()}


def layer_from_description(description: Mapping[str, Any]) -> Layer:
    """Create a layer from its description (`describe_layer`).

    Raises:
        DataError: if no class or several classes of that name are known, or the arguments do not fit.
    """
    config = dict(description)
    name = config.pop("type")
    found = _classes_named(name)
    if not found:
        raise DataError(f"it holds an unknown layer {name!r}; import the module that defines it before loading")
    if len(found) > 1:
        raise DataError(
            f"it holds a layer {name!r}, and several classes have that name: {', '.join(map(full_name, found))}. "
            "Import only the module of the intended one, or rename the other"
        )
    try:
        return found[0].from_config(config)
    except (GradflowError, TypeError) as error:
        raise DataError(f"layer {name!r} cannot be created from {config}: {error}") from error
