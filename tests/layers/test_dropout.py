"""The call of its op by a dropout layer: the dropped fraction, the scale, and its own random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.layers.dropout import dropout
from gradflow.random import DROPOUT_STREAM
from tests.layers.calls import Calls


def call_of(layer: gf.Dropout) -> dict[str, Any]:
    """Return the arguments of the only op that the layer's forward pass calls."""
    ops = Calls()
    layer.forward(ops, np.zeros((2, 3)), np.zeros((2, 3)))
    ((op, arguments),) = ops.calls
    assert op is dropout
    return arguments


def stack(*rates: float, seed: int = 5) -> list[gf.Dropout]:
    """Return dropout layers at the positions 1, 2, ... of a network."""
    layers = [gf.Dropout(rate) for rate in rates]
    gf.Sequential([gf.Dense(3, 3), *layers, gf.Dense(3, 1)], seed=seed, backend="numpy")
    return layers


@pytest.mark.parametrize(
    ("rate", "threshold"), [(0.0, 0), (0.25, 2**30), (0.5, 2**31), (1 - 2**-40, 2**32 - 1), (3 * 2**-33, 2)]
)
def test_the_threshold_is_the_rate_as_a_32_bit_word(rate: float, threshold: int) -> None:
    call = call_of(stack(rate)[0])
    assert call["threshold"] == threshold
    np.testing.assert_allclose(call["scale"] * (1 - rate), 1, rtol=1e-15)


def test_each_layer_has_its_own_stream() -> None:
    first, second = map(call_of, stack(0.5, 0.5, seed=5))
    assert (first["stream"], second["stream"]) == (DROPOUT_STREAM + 1, DROPOUT_STREAM + 2)
    assert first["seed"] == second["seed"] == 5
