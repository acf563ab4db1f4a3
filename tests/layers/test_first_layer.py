"""Nothing reads dL/dx before the first layer with parameters, so it is not computed."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from tests.layers.calls import Calls
from tests.layers.cases import LAYER_CASES, WIDTH


@pytest.mark.parametrize("name", [name for name, case in LAYER_CASES.items() if case.make().places == 1])
def test_without_d_x_only_gradients_of_parameters_are_written(name: str) -> None:
    layer = LAYER_CASES[name].make()
    gf.Sequential([gf.Dense(WIDTH, WIDTH), layer, gf.Dense(layer.output_width(WIDTH), 1)], backend="numpy")
    array, calls = np.zeros((3, WIDTH), np.float32), Calls()
    layer.forward(calls, array, array)
    calls.calls.clear()
    layer.backward(calls, array, array, array, None)
    gradients = {id(getattr(layer, f"d_{parameter}")) for parameter in layer.parameters()}
    written = {id(written) for written in calls.written}
    assert gradients <= written
    assert id(array) not in written
