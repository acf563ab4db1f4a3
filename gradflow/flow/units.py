"""What the units of each layer do on a batch: their outputs, and which of them are dead or saturated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradflow.arguments import instance, positive
from gradflow.errors import DataError
from gradflow.layers import Activation, Layer, Softmax
from gradflow.network import Sequential
from gradflow.ops import Array, Eager
from gradflow.program import Recorder
from gradflow.training.layer_statistics import LIMITS, SATURATION_DISTANCE, record_saturation

__all__ = ["dead_units", "layer_outputs", "saturated_units"]


def layer_outputs(network: Sequential, x: Any) -> dict[str, np.ndarray]:
    """The output of each layer at prediction, shape (batch, n_out of the layer), by name: "0.Dense", "1.ReLU", ...

    Layers that prediction leaves out, such as Dropout, are left out here too.

    Args:
        network: the network; it is not changed.
        x: inputs, shape (batch, n_in).

    Raises:
        DataError: if x does not fit.
    """
    passed = _forward(network, x)
    return {step.name: network.backend.to_host(step.y) for step in passed}


def dead_units(network: Sequential, x: Any) -> dict[str, float]:
    """The share of dead units in each activation layer, by name: "1.ReLU", "3.ReLU", ...

    A unit is dead if its derivative is 0 for every row: nothing behind it can teach the weights in front of it. A ReLU
    is dead where its output is 0 for every row; a leaky ReLU never is; a sigmoid or tanh is once every output has
    rounded to a limit. Softmax, whose outputs depend on each other, is left out.

    Args:
        network: the network; it is not changed.
        x: inputs, shape (batch, n_in): enough rows to stand for the data.

    Raises:
        DataError: if x does not fit.
    """
    shares = {}
    for step in _forward(network, x):
        if not isinstance(step.layer, Activation) or isinstance(step.layer, Softmax):
            continue
        backend = network.backend
        ones = backend.from_host(np.ones(step.y.shape, network.dtype))
        derivative = backend.empty(step.y.shape, network.dtype)
        recorder = Recorder(backend)
        recorder.record(step.layer.backward, step.x, step.y, ones, derivative, recorded=step.layer.recorded)
        recorder.program().run()
        shares[step.name] = float((backend.to_host(derivative) == 0).all(axis=0).mean())
    return shares


def saturated_units(network: Sequential, x: Any, *, distance: float = SATURATION_DISTANCE) -> dict[str, float]:
    """The share of outputs of each sigmoid or tanh layer that lie near a limit, by name: "1.Sigmoid", "3.Tanh", ...

    There the curve is flat and passes on little of the gradient: for a sigmoid output y the share y (1 - y).

    Args:
        network: the network; it is not changed.
        x: inputs, shape (batch, n_in).
        distance: how near counts: above 0 and below ½. Limits are 0 and 1 for the sigmoid, -1 and 1 for tanh.

    Raises:
        DataError: if x does not fit, or the distance is out of range.
    """
    if positive("distance", distance) >= 0.5:
        raise DataError(f"distance must be above 0 and below 0.5, got {distance!r}")
    shares = {}
    for step in _forward(network, x):
        if type(step.layer) in LIMITS:
            backend = network.backend
            units = backend.empty(step.y.shape[1], np.float64)
            record_saturation(Eager(backend), step.layer, step.y, units, distance)
            shares[step.name] = float(backend.to_host(units).mean())
    return shares


class _Step(NamedTuple):
    """A layer with what went in and what came out, on the device."""

    name: str
    layer: Layer
    x: Array
    y: Array


def _forward(network: Sequential, x: Any) -> list[_Step]:
    """The forward pass of prediction, with an array of its own for every output."""
    instance("network", network, Sequential, "a gradflow network")
    backend = network.backend
    current = backend.adopt(network.inputs("x", x))
    recorder = Recorder(backend)
    steps = []
    for index, layer in enumerate(network.layers):
        if layer.training_only:
            continue
        y = backend.empty((len(current), layer.output_width(current.shape[1])), network.dtype)
        recorder.record(layer.infer, current, y, recorded=layer.recorded)
        steps.append(_Step(f"{index}.{type(layer).__name__}", layer, current, y))
        current = y
    with network.inferring():
        recorder.program().run()
    return steps
