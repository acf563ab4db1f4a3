"""Weights under the names and in the shapes of PyTorch."""

from __future__ import annotations

import numpy as np

from gradflow.checks import instance
from gradflow.errors import DataError
from gradflow.layers import BatchNorm, Dense, LayerNorm
from gradflow.layers.base import Layer
from gradflow.names import is_built_in
from gradflow.network import Sequential

_NAMES = {"gamma": "weight", "beta": "bias", "running_mean": "running_mean", "running_variance": "running_var"}


def to_torch_state_dict(network: Sequential) -> dict[str, np.ndarray]:
    """Return the weights for ``torch.nn.Sequential`` with the same layers in the same places.

    `Dense` is ``Linear``, whose weight is transposed, (n_out, n_in); `BatchNorm` is ``BatchNorm1d``, with its running
    statistics, and `LayerNorm` is ``LayerNorm``. Layers without parameters, such as activations and `Dropout`, count as
    places. Use it as

        module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})

    Preprocessing, the output activation that the loss sets, and the target scale are not part of it: `to_onnx` includes
    them.

    Args:
        network: the network, on any backend; it is not changed.

    Returns:
        NumPy arrays by name, such as "0.weight", copies in the dtype of the network.

    Raises:
        DataError: for a layer with parameters that ``torch.nn`` has no counterpart of: `Residual`, embeddings,
            `EachMember`, and layers of your own.
    """
    instance("network", network, Sequential, "a gradflow network")
    weights = network.get_weights()
    state: dict[str, np.ndarray] = {}
    for place, layer in enumerate(network.layers):
        for name in (*layer.parameters(), *layer.buffers()):
            state |= _entry(layer, place, name, weights[f"{place}.{name}"])
        if type(layer) is BatchNorm:
            state[f"{place}.num_batches_tracked"] = np.array(0, np.int64)
    return state


def _entry(layer: Layer, place: int, name: str, weight: np.ndarray) -> dict[str, np.ndarray]:
    if type(layer) is Dense:
        return {f"{place}.{name}": np.ascontiguousarray(weight.T)}
    if type(layer) in (BatchNorm, LayerNorm):
        return {f"{place}.{_NAMES[name]}": weight}
    reason = "" if is_built_in(type(layer)) else ", a layer of your own"
    raise DataError(
        f"layer {place} is {layer!r}{reason}, which torch.nn.Sequential has no module for. network.get_weights() "
        "returns its arrays for a module that you write; gradflow.to_onnx writes the whole network for other programs"
    )
