"""Learned scales of columns, and activations of learned strength."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = X[:, :1] * X[:, 1:2]

LAYERS: dict[str, Callable[[], gf.Layer]] = {
    "scale": lambda: gf.Scale(4),
    "selu": lambda: gf.Parametric(4, "selu"),
    "mish": lambda: gf.Parametric(4, "mish"),
    "relu": lambda: gf.Parametric(4, "relu"),
}


def test_a_scale_multiplies_each_column(backend_name: str) -> None:
    network = gf.Sequential([gf.Scale(4)], dtype="float64", backend=backend_name)
    assert_array_equal(network.predict(X), X)
    scale = np.array([2.0, -1, 0, 0.3])
    network.set_weights({"0.scale": scale})
    assert_array_equal(network.predict(X), X * scale)


@pytest.mark.parametrize("name", ["selu", "mish", "relu"])
def test_it_begins_as_the_activation_and_may_become_the_identity(name: str, backend_name: str) -> None:
    activation = {"selu": gf.SELU, "mish": gf.Mish, "relu": gf.ReLU}[name]()
    identity = gf.Dense(4, 4, bias=False, initializer=lambda shape, random: np.eye(4))
    f = gf.Sequential([identity, activation, gf.Identity()], dtype="float64", backend=backend_name).predict(X)
    network = gf.Sequential([gf.Parametric(4, name)], dtype="float64", backend=backend_name)
    assert_array_equal(network.predict(X), f)
    alpha = np.array([1.0, 0, 0.5, -2])
    network.set_weights({"0.alpha": alpha})
    assert_allclose(network.predict(X), X + alpha * (f - X), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LAYERS)
def test_training_files_and_copies(name: str, backend_name: str, tmp_path: Path) -> None:
    network = gf.Sequential([gf.Dense(4, 4), LAYERS[name](), gf.Dense(4, 1)], seed=1, backend=backend_name)
    before = network.get_weights()
    gf.Trainer(network, "mean_squared_error", "adam").fit(X, Y, epochs=3, batch_size=16, progress=False)
    assert all((weight != before[key]).any() for key, weight in network.get_weights().items())
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    for twin in (loaded, network.copy(), pickle.loads(pickle.dumps(network))):
        assert repr(twin) == repr(network)
        assert twin.predict(X).tobytes() == network.predict(X).tobytes()
    wide = network.copy(dtype="float64")
    assert max(gf.check_gradients(wide, "mean_squared_error", X, Y).values()) < 1e-4


def test_what_is_no_function_of_each_element_is_refused() -> None:
    with pytest.raises(gf.DataError, match="a function of each element, such as 'selu', got 'softmax'"):
        gf.Parametric(3, "softmax")
    with pytest.raises(gf.DataError, match="selo"):
        gf.Parametric(3, "selo")
