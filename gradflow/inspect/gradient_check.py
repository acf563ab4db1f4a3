"""Comparison of backpropagated gradients with numerical ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import instance
from gradflow.clock import RunStatus
from gradflow.layers.stack import record_forward
from gradflow.losses import Loss, get_loss
from gradflow.losses.function import LossFunction
from gradflow.network import Sequential
from gradflow.program import Recorder
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.step.objective import layers_before_loss
from gradflow.training.step.record import Results, record_loss_gradient, record_step

_STEP = np.finfo(np.float64).eps ** (1 / 3)
_MOST_ENTRIES = 1000


@np.errstate(under="ignore")
def check_gradients(network: Sequential, loss: str | Loss | LossFunction, x: Any, y: Any) -> dict[str, float]:
    """Return the largest relative error of each parameter's gradient against central differences, on a float64 copy.

    The derivative for an entry w is approximated by (L(w + h) - L(w - h)) / 2h, with h = ε^⅓ max(1, |w|). The error is
    relative to the larger of the two derivatives, but at least to 1/1000 of the largest for that parameter; smaller
    differences are noise. The possible effect of rounding the loss, 16 ε |L| / h, is subtracted, since a derivative can
    be 0, such as that of a bias before a `BatchNorm`. Parameters with more than 1000 entries are checked at 1000 of
    them. Dropout uses one fixed mask. Correct gradients give errors below about 1e-5; a kink, such as ReLU's, within h
    of a value gives larger ones.

    Args:
        network: the network; it is not changed.
        loss: a loss, its name, or a function as for `Trainer`.
        x: inputs, shape (rows, n_in).
        y: targets, in the shape that the loss takes.

    Raises:
        DataError: if the data are invalid, or the last layer does not match the loss.
    """
    instance("network", network, Sequential, "a gradflow network")
    loss = get_loss(loss)
    copy = network.copy(dtype="float64")
    backend = copy.backend
    layers = layers_before_loss(loss, copy)
    data = prepare_arrays(copy, loss, x, y, scale=copy.output_scale, finds_classes=True).on(copy.backend)
    results = Results.empty(backend, len(data), copy.dtype)
    clock = RunStatus(backend, epoch=copy.epochs_begun).clock

    forward, step = Recorder(backend, clock), Recorder(backend, clock)
    record_loss_gradient(forward, layers, loss, record_forward(forward, layers, data.x), data, results)
    record_step(step, layers, loss, data, results)
    measure = forward.program()

    def loss_with(parameters: np.ndarray) -> float:
        backend.copy(backend.from_host(parameters), copy.parameters)
        measure.run()
        return float(backend.to_host(results.losses).mean())

    parameters = backend.to_host(copy.parameters)
    rounding = 16 * np.finfo(np.float64).eps * abs(loss_with(parameters))
    step.program().run()
    gradients = backend.to_host(copy.gradients)
    errors = {}
    for name, (start, stop) in copy.parameter_ranges.items():
        entries = np.unique(np.linspace(start, stop - 1, min(stop - start, _MOST_ENTRIES)).round().astype(int))
        steps = _STEP * np.maximum(1.0, abs(parameters[entries]))
        numerical = np.empty(len(entries))
        for place, (entry, h) in enumerate(zip(entries, steps, strict=True)):
            shifted = parameters.copy()
            shifted[entry] += h
            above = loss_with(shifted)
            shifted[entry] -= 2 * h
            numerical[place] = (above - loss_with(shifted)) / (2 * h)
        errors[name] = _largest_relative_error(gradients[entries], numerical, rounding / steps)
    return errors


def _largest_relative_error(gradient: np.ndarray, numerical: np.ndarray, noise: np.ndarray) -> float:
    size = np.maximum(abs(gradient), abs(numerical))
    scale = np.maximum(size, 1e-3 * size.max())
    return float((np.maximum(abs(gradient - numerical) - noise, 0) / np.where(scale == 0, 1, scale)).max())
