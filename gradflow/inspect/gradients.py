"""The gradient of each parameter on a batch, and its norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import instance
from gradflow.clock import RunStatus
from gradflow.data.weights import ClassWeight
from gradflow.losses import Loss, get_loss
from gradflow.losses.function import LossFunction
from gradflow.network import Sequential
from gradflow.program import Recorder
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.step.objective import layers_before_loss
from gradflow.training.step.record import Results, record_step


def gradients(
    network: Sequential,
    loss: str | Loss | LossFunction,
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    class_weight: ClassWeight | None = None,
) -> dict[str, np.ndarray]:
    """Return the gradient of the loss on a batch, with the names and shapes of `Sequential.get_weights`.

    It is the gradient of the mean loss over the batch as in training: with preprocessed inputs, standardized targets if
    the network has an `output_scale`, and one dropout mask, but without penalties and clipping. Frozen layers have no
    gradient, nor have buffers such as running means.

    Args:
        network: the network; it is not changed.
        loss: a loss, its name, or a function as for `Trainer`.
        x: inputs, shape (batch, n_in).
        y: targets, in the shape that the loss takes.
        sample_weight, class_weight: weights of rows and of classes, as in `Trainer.fit`.

    Returns:
        Arrays in the dtype of the network, NaN or infinite if the loss is not finite on this batch.

    Raises:
        DataError: if the data is invalid, or the last layer does not match the loss.
    """
    instance("network", network, Sequential, "a gradflow network")
    loss = get_loss(loss)
    copy = network.copy()
    backend = copy.backend
    layers = layers_before_loss(loss, copy)
    options = {"sample_weight": sample_weight, "class_weight": class_weight, "scale": copy.output_scale}
    data = prepare_arrays(copy, loss, x, y, finds_classes=True, **options).on(copy.backend)

    recorder = Recorder(backend, RunStatus(backend, epoch=copy.epochs_begun).clock)
    record_step(recorder, layers, loss, data, Results.empty(backend, len(data), copy.dtype))
    recorder.program().run()

    flat, ranges = backend.to_host(copy.gradients), copy.parameter_ranges
    shapes = {name: weight.shape for name, weight in copy.get_weights().items() if name in ranges}
    return {name: flat[slice(*ranges[name])].reshape(shape) for name, shape in shapes.items()}


@np.errstate(under="ignore")
def gradient_norms(network: Sequential, loss: str | Loss | LossFunction, x: Any, y: Any) -> dict[str, float]:
    """Return the Euclidean norm of each parameter's gradient on a batch, by name: "0.weight", "0.bias", and so on.

    The gradients are those of `gradflow.gradients`. Vanishing gradients show as norms that shrink toward the first
    layer, exploding gradients as norms that grow; NaN means that the loss is not finite on this batch.

    Args:
        network: the network; it is not changed.
        loss: a loss, its name, or a function as for `Trainer`.
        x: inputs, shape (batch, n_in).
        y: targets, in the shape that the loss takes.

    Raises:
        DataError: if the data is invalid, or the last layer does not match the loss.
    """
    found = gradients(network, loss, x, y)
    return {name: float(np.linalg.norm(gradient.astype(np.float64))) for name, gradient in found.items()}
