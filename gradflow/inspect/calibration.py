"""Temperature scaling of the probabilities of a classifier (Guo, Pleiss, Sun & Weinberger, 2017).

References:
    C. Guo, G. Pleiss, Y. Sun & K. Q. Weinberger, "On calibration of modern neural networks", ICML (2017),
        arXiv:1706.04599.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradflow.checks import instance
from gradflow.errors import DataError
from gradflow.functions import sigmoid, softmax
from gradflow.layers import Dense
from gradflow.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from gradflow.network import Sequential
from gradflow.ops import Array
from gradflow.training.data.prepare import prepare_arrays

_MOST = 20.0
_HALVINGS = 60


def calibrate(network: Sequential, x: Any, y: Any, *, sample_weight: Any = None) -> float:
    """Divide the logits of a trained classifier by the temperature that suits its probabilities to held-out rows.

    A network that is trained for long is too sure of itself: the rows to which it gives 99 % are right less often. The
    temperature minimizes the log loss on the given rows (Guo et al., 2017); the predicted classes stay the same. The
    weights and biases of the last layer are divided by it, so that predictions, files and exports need nothing else.

    Args:
        network: a network that ends in `Dense`, and softmax or sigmoid outputs; its last layer changes.
        x: inputs of rows that were not trained on, such as the validation rows.
        y: their targets, as for training.
        sample_weight: the weight of each row.

    Returns:
        The temperature, from 0.05 to 20: above 1 if the network was too sure.

    Raises:
        DataError: for a network without probabilities or a last dense layer, and for invalid data.
    """
    instance("network", network, Sequential, "a gradflow network")
    losses: dict[str, Loss] = {"softmax": SoftmaxCrossEntropy(), "sigmoid": BinaryCrossEntropy()}
    if (loss := losses.get(network.output_activation)) is None:
        raise DataError("calibrate needs a trained classifier, with softmax or sigmoid outputs; this network has none")
    place = len(network.layers) - (2 if network.ends_in_activation else 1)
    if type(network.layers[place]) is not Dense:
        raise DataError(f"calibrate changes the last Dense layer, but the network ends in {network.layers[place]!r}")
    data = prepare_arrays(network, loss, x, y, sample_weight=sample_weight)
    z = _on_host(network.logits(x)).astype(np.float64)
    targets = _on_host(data.targets)
    weight = None if data.row_weight is None else _on_host(data.row_weight)
    inverse = _inverse_temperature(z, targets, weight, network.output_activation)
    weights = network.get_weights()
    scaled = {name: inverse * weight for name, weight in weights.items() if name.startswith(f"{place}.")}
    network.set_weights(scaled, partial=True)
    return 1 / inverse


def _on_host(array: Array) -> np.ndarray:
    """Return an array that is where x was."""
    found: np.ndarray = array.get() if hasattr(array, "__cuda_array_interface__") else array
    return found


def _inverse_temperature(z: np.ndarray, targets: np.ndarray, weight: np.ndarray | None, activation: str) -> float:
    """Return the b with the least log loss of b z, by bisection of the derivative, which grows with b."""
    if activation == "softmax" and targets.ndim == 1:
        targets = np.eye(z.shape[1])[targets]
    of_row = np.ones((len(z), 1)) if weight is None else weight.astype(np.float64).reshape(-1, 1)
    probabilities = softmax if activation == "softmax" else sigmoid
    low, high = -math.log(_MOST), math.log(_MOST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        with np.errstate(under="ignore"):
            slope = (of_row * (probabilities(math.exp(middle) * z) - targets) * z).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return math.exp((low + high) / 2)
