"""The units of each layer on a batch: their outputs, and the fractions that are dead or saturated."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gradflow.checks import instance, positive
from gradflow.errors import DataError
from gradflow.executors import Eager
from gradflow.layers import Activation, Layer, Softmax
from gradflow.network import Sequential, input_format
from gradflow.ops import Array
from gradflow.program import Recorder
from gradflow.training.step.layer_statistics import LIMITS, SATURATION_DISTANCE, record_saturation


def layer_outputs(network: Sequential, x: Any) -> dict[str, np.ndarray]:
    """Return each layer's output in prediction, shape (batch, n_out of the layer), by name: "0.Dense", "1.ReLU", ...

    Layers that prediction skips, such as Dropout, are not included.

    Args:
        network: the network; it is not changed.
        x: inputs, shape (batch, n_in).

    Raises:
        DataError: if x is invalid.
    """
    passed = forward_steps(network, x)
    return {step.name: network.backend.to_host(step.y) for step in passed}


def dead_units(network: Sequential, x: Any) -> dict[str, float]:
    """Return the fraction of dead units in each activation layer, by name: "1.ReLU", "3.ReLU", ...

    A unit is dead if its derivative is 0 for every row, so that no gradient reaches the weights before it. A ReLU is
    dead if its output is 0 for every row; a leaky ReLU never is; a sigmoid or tanh is if every output has rounded to a
    limit. Softmax is left out, since its outputs depend on each other.

    Args:
        network: the network; it is not changed.
        x: inputs, shape (batch, n_in): enough rows to represent the data.

    Raises:
        DataError: if x is invalid.
    """
    fractions = {}
    for step in forward_steps(network, x):
        if not isinstance(step.layer, Activation) or isinstance(step.layer, Softmax):
            continue
        backend = network.backend
        ones = backend.from_host(np.ones(step.y.shape, network.dtype))
        derivative = backend.empty(step.y.shape, network.dtype)
        recorder = Recorder(backend)
        recorder.record(step.layer.backward, step.x, step.y, ones, derivative, recorded=step.layer.recorded)
        recorder.program().run()
        fractions[step.name] = float((backend.to_host(derivative) == 0).all(axis=0).mean())
    return fractions


def saturated_units(network: Sequential, x: Any, *, distance: float = SATURATION_DISTANCE) -> dict[str, float]:
    """Return the fraction of outputs near a limit in each sigmoid or tanh layer, by name: "1.Sigmoid", "3.Tanh", ...

    There the curve is flat and passes on little of the gradient: for a sigmoid output y, the fraction y (1 - y).

    Args:
        network: the network; it is not changed.
        x: inputs, shape (batch, n_in).
        distance: the largest distance from a limit that counts as near, above 0 and below ½. The limits are 0 and 1 for
            the sigmoid, -1 and 1 for tanh.

    Raises:
        DataError: if x is invalid, or the distance is out of range.
    """
    if positive("distance", distance) >= 0.5:
        raise DataError(f"distance must be above 0 and below 0.5, got {distance!r}")
    fractions = {}
    for step in forward_steps(network, x):
        if type(step.layer) in LIMITS:
            backend = network.backend
            units = backend.empty(step.y.shape[1], np.float64)
            record_saturation(Eager(backend), step.layer, step.y, units, distance)
            fractions[step.name] = float(backend.to_host(units).mean())
    return fractions


class Step(NamedTuple):
    """A layer with its input and output, on the device."""

    name: str
    layer: Layer
    x: Array
    y: Array


def forward_steps(network: Sequential, x: Any) -> list[Step]:
    """Run the forward pass of prediction, with a separate array for every output."""
    instance("network", network, Sequential, "a gradflow network")
    backend = network.backend
    current = backend.adopt(input_format(network)("x", x))
    recorder = Recorder(backend)
    steps = []
    for index, layer in enumerate(network.layers):
        if layer.training_only:
            continue
        y = backend.empty((len(current), layer.output_width(current.shape[1])), network.dtype)
        recorder.record(layer.infer, current, y, recorded=layer.recorded)
        steps.append(Step(f"{index}.{type(layer).__name__}", layer, current, y))
        current = y
    with network.inferring():
        recorder.program().run()
    return steps
