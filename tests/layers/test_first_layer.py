"""In front of the first layer with parameters nobody reads dL/dx: it is not computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import ReferenceBackend
from gradflow.ops import Op
from tests.layers.cases import LAYER_CASES, WIDTH


class Calls:
    """An executor that notes which ops are called, and for which outputs."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self.backend = backend
        self.written: list[Any] = []

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        arguments = op.arguments(*args, **kwargs)
        self.written += [arguments[name] for name in op.writes if arguments[name] is not None]

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        method(self, *args)


@pytest.mark.parametrize("name", [name for name, case in LAYER_CASES.items() if case.make().places == 1])
def test_without_d_x_only_gradients_of_parameters_are_written(name: str) -> None:
    layer = LAYER_CASES[name].make()
    network = gf.Sequential([gf.Dense(WIDTH, WIDTH), layer, gf.Dense(WIDTH, 1)], backend="numpy")
    array, calls = np.zeros((3, WIDTH), np.float32), Calls(network.backend)
    layer.forward(calls, array, array)
    calls.written.clear()
    layer.backward(calls, array, array, array, None)
    gradients = [getattr(layer, f"d_{parameter}") for parameter in layer.parameters()]
    assert [id(written) for written in calls.written] == [id(gradient) for gradient in gradients]
