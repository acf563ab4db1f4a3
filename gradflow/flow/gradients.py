"""How large the gradient of each parameter is."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.arguments import instance
from gradflow.losses import Loss, get_loss
from gradflow.network import Sequential
from gradflow.program import Recorder
from gradflow.training.given_data import checked_data
from gradflow.training.step import layers_in_front_of, record_gradients

__all__ = ["gradient_norms"]


def gradient_norms(network: Sequential, loss: str | Loss, x: Any, y: Any) -> dict[str, float]:
    """The Euclidean norm of each parameter's gradient on a batch, by name: "0.weight", "0.bias", and so on.

    It is the gradient of the mean loss over the batch as training sees it: of standardized targets, where the network
    has an `output_scale`, without penalties and clipping, with one dropout mask. A vanishing gradient shows as norms
    that shrink towards the first layer, an exploding one as norms that grow; a NaN means that the loss is not finite on
    this batch.

    Args:
        network: the network; it is not changed.
        loss: a loss or its name.
        x: inputs, shape (batch, n_in).
        y: targets, in the shape that the loss takes.

    Raises:
        DataError: if data do not fit, or the last layer does not go with the loss.
    """
    instance("network", network, Sequential, "a gradflow network")
    loss = get_loss(loss)
    copy = network.copy()
    backend = copy.backend
    layers = layers_in_front_of(loss, copy)
    data = checked_data(copy, loss, x, y, scale=copy.output_scale).on(copy.backend)

    recorder = Recorder(backend)
    record_gradients(recorder, copy, layers, loss, data)
    recorder.program().run()

    gradients = backend.to_host(copy.gradients).astype(np.float64)
    return {name: float(np.linalg.norm(gradients[slice(*ends)])) for name, ends in copy.parameter_ranges.items()}
