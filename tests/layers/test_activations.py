"""Every activation: compared with PyTorch, and its limits at both ends of the number line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.executors import Eager
from gradflow.layers import ACTIVATIONS, LAYERS, Activation
from gradflow.names import is_built_in
from gradflow.testing.activations import ACTIVATION_CASES

INF = np.inf


def test_every_elementwise_activation_has_a_case() -> None:
    assert {name.split()[0] for name in ACTIVATION_CASES} == ACTIVATIONS.keys() - {"identity", "softmax"}
    assert all(case.make().name == name.split()[0] for name, case in ACTIVATION_CASES.items())


def test_every_activation_has_a_name() -> None:
    shipped = {cls for cls in LAYERS.values() if issubclass(cls, Activation) and is_built_in(cls)}
    assert shipped - {Activation} == set(ACTIVATIONS.values()) - {gf.Identity}


def applied(layer: Activation, x: np.ndarray, backend_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return y and dy/dx."""
    backend = get_backend(backend_name)
    x_there, ones = backend.from_host(x), backend.from_host(np.ones_like(x))
    y, d_x = (backend.empty(x.shape, x.dtype) for _ in range(2))
    ops = Eager(backend)
    layer.forward(ops, x_there, y)
    layer.backward(ops, x_there, y, ones, d_x)
    return backend.to_host(y), backend.to_host(d_x)


@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 1e4])
@pytest.mark.parametrize("name", ACTIVATION_CASES)
def test_value_and_derivative_match_pytorch(name: str, scale: float, dtype: str, backend_name: str) -> None:
    import torch

    case = ACTIVATION_CASES[name]
    x = (np.random.default_rng(3).normal(size=(20, 50)) * scale).astype(dtype)
    tensor = torch.tensor(x, requires_grad=True)
    expected = case.in_torch(torch.nn.functional, tensor)
    expected.sum().backward()
    y, d_x = applied(case.make(), x, backend_name)
    # PyTorch's own forms lose the relative accuracy of small results: its 1 + tanh(v / 2) is rounded at the size of 1
    # and multiplied by x dv/dx, which is up to 100 there.
    epsilon = np.finfo(dtype).eps
    assert_allclose(y, expected.detach().numpy(), rtol=8 * epsilon, atol=8 * epsilon)
    assert_allclose(
        d_x, tensor.grad.numpy(), rtol=16 * epsilon, atol=100 * epsilon if "by tanh" in name else 16 * epsilon
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATION_CASES)
def test_infinity_gives_the_limit_and_nan_stays_nan(name: str, dtype: str, backend_name: str) -> None:
    case = ACTIVATION_CASES[name]
    largest = np.finfo(dtype).max
    x = np.array([[-INF, -largest, INF, largest / 2, np.nan]], dtype)
    with np.errstate(all="ignore"):
        y, d_x = applied(case.make(), x, backend_name)
    for values, expected in ((y[0], np.array(case.limits, dtype)), (d_x[0], np.array(case.slopes, dtype))):
        assert_allclose(values[[0, 2]], expected, rtol=2 * np.finfo(dtype).eps)
        is_finite = np.isfinite(expected)
        assert_array_equal(values[[1, 3]][is_finite], values[[0, 2]][is_finite])
    assert np.isnan(y[0, 4])


def test_gelu_refuses_an_unknown_form() -> None:
    with pytest.raises(gf.DataError, match=r"unknown approximation of GELU 'tan'\. Did you mean 'tanh'"):
        gf.GELU(approximate="tan")


def test_gelu_is_copied_and_saved_with_its_form(tmp_path: Any) -> None:
    network = gf.Sequential([gf.Dense(3, 4), gf.GELU(approximate="tanh"), gf.Dense(4, 2)], backend="numpy")
    gf.save(network, tmp_path / "gelu.safetensors")
    for twin in (network.copy(), gf.load(tmp_path / "gelu.safetensors", backend="numpy")):
        assert repr(twin.layers[1]) == "GELU(approximate='tanh')"
