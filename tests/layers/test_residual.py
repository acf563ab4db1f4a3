"""Residual blocks: names, shortcuts and projections, nesting, saving, and parity with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.random import DROPOUT_STREAM
from tests.layers.calls import Calls

RNG = np.random.default_rng(0)
X = RNG.normal(size=(33, 4))
Y = RNG.normal(size=(33, 2))


def make_network(backend: str, **settings: Any) -> gf.Sequential:
    inner = gf.Residual([gf.LayerNorm(5), gf.ReLU(), gf.Dense(5, 5)])
    layers = [
        gf.Residual([gf.Dense(4, 6), gf.BatchNorm(6), gf.Tanh(), gf.Dense(6, 5)]),
        gf.Residual([gf.Dropout(0.2), gf.Dense(5, 5, bias=False), inner, gf.Sigmoid()]),
        gf.Dense(5, 2),
    ]
    return gf.Sequential(layers, backend=backend, seed=3, **settings)


def test_prediction_by_hand(backend_name: str) -> None:
    layers = [gf.Residual([gf.Dense(4, 3), gf.ReLU()]), gf.Residual([gf.Tanh(), gf.Dense(3, 3)])]
    network = gf.Sequential(layers, dtype="float64", backend=backend_name)
    w = network.get_weights()
    assert list(w) == ["0.0.weight", "0.0.bias", "0.projection.weight", "1.1.weight", "1.1.bias"]
    assert network.n_decayed == 4 * 3 + 4 * 3 + 3 * 3
    hidden = np.maximum(X @ w["0.0.weight"] + w["0.0.bias"], 0) + X @ w["0.projection.weight"]
    expected = np.tanh(hidden) @ w["1.1.weight"] + w["1.1.bias"] + hidden
    assert_allclose(network.predict(X), expected, rtol=1e-12)
    assert network.layers[0].projection.weight.shape == (4, 3)
    assert network.layers[1].projection is None


@pytest.mark.parametrize("rows", [1, 33])
def test_gradients(rows: int, backend_name: str) -> None:
    network = make_network(backend_name, dtype="float64")
    assert max(gf.check_gradients(network, "mean_squared_error", X[:rows], Y[:rows]).values()) < 1e-5


def test_nested_blocks_are_named_by_position_and_start_with_different_weights() -> None:
    weights = make_network("numpy").get_weights()
    assert {"0.0.weight", "0.1.running_mean", "1.2.0.gamma", "1.2.2.weight", "2.bias"} <= weights.keys()
    assert (weights["1.1.weight"] != weights["1.2.2.weight"]).all()


def test_each_dropout_layer_has_its_own_stream() -> None:
    inside, after = gf.Dropout(0.5), gf.Dropout(0.5)
    first = gf.Residual([gf.Dense(4, 4), gf.Dropout(0.5), gf.Residual([inside, gf.Dense(4, 4)])])
    gf.Sequential([gf.Dropout(0.5), first, after], backend="numpy")
    ops = Calls()
    for layer in (inside, after):
        layer.forward(ops, X, X)
    assert [arguments["stream"] - DROPOUT_STREAM for _, arguments in ops.calls] == [3, 5]


def test_training_lowers_the_loss_and_prediction_is_saved(backend_name: str, tmp_path: Path) -> None:
    network = make_network(backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.02))
    history = trainer.fit(X, Y, epochs=20, batch_size=16, progress=False)  # the last batch has one row
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    assert repr(loaded) == repr(network)
    for other in (loaded, network.copy()):
        assert list(other.get_weights()) == list(network.get_weights())
        assert other.predict(X).tobytes() == network.predict(X).tobytes()


def test_a_block_at_the_front_computes_no_gradient_of_the_inputs() -> None:
    class Counted(gf.Dense):
        """Counts the GEMMs that compute dL/dx."""

        d_inputs = 0

        def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
            Counted.d_inputs += d_x is not None
            super().backward(ops, x, y, d_y, d_x)

    network = gf.Sequential([gf.Residual([gf.Tanh(), Counted(4, 3), Counted(3, 4)]), Counted(4, 2)], backend="numpy")
    gf.Trainer(network, "mean_squared_error", "sgd").fit(X, Y, epochs=1, batch_size=None, progress=False)
    assert Counted.d_inputs == 2


class Cube(gf.Layer):
    """A user-defined layer: plain array code, no ops; it overwrites d_y."""

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = x**3

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        d_y *= 3 * x**2
        if d_x is not None:
            d_x[...] = d_y


def test_a_users_own_layer_inside_runs_at_every_step(backend_name: str) -> None:
    layers = [gf.Dense(4, 5), gf.Residual([gf.Dense(5, 5), Cube()]), gf.Dense(5, 2)]
    network = gf.Sequential(layers, dtype="float64", backend=backend_name)
    assert max(gf.check_gradients(network, "mean_squared_error", X, Y).values()) < 1e-6
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.02))
    history = trainer.fit(X, Y, epochs=20, batch_size=16, progress=False)
    assert history["loss"][-1] < history["loss"][0]


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no layers": (lambda: gf.Residual([]), "needs at least one layer with parameters"),
    "no parameters": (lambda: gf.Residual([gf.ReLU()]), "needs at least one layer with parameters"),
    "no layer": (
        lambda: gf.Residual([gf.Dense(4, 4), "relu"]),
        "layers must be a list of gradflow layers, but it holds 'relu'",
    ),
    "misfit inside": (lambda: gf.Residual([gf.Dense(4, 3), gf.Dense(4, 4)]), "has 4 inputs, but .* has 3"),
    "misfit in front": (
        lambda: gf.Sequential([gf.Dense(4, 3), gf.Residual([gf.Dense(4, 4)])], backend="numpy"),
        r"Residual\(\[Dense\(n_in=4, .*\)\]\) has 4 inputs, but the layer before it has 3",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_oversized_fits_are_refused(case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(gf.DataError, match=message):
        make()


def test_a_block_with_batch_norm_refuses_single_rows() -> None:
    trainer = gf.Trainer(make_network("numpy"), "mean_squared_error", "sgd")
    with pytest.raises(gf.DataError, match=r"layer 0, Residual\(.*needs batches of at least 2 rows"):
        trainer.fit(X, Y, epochs=1, batch_size=1)


@pytest.mark.peers
@pytest.mark.parametrize("width", [4, 3])
def test_training_matches_pytorch(width: int, backend_name: str) -> None:
    import torch

    block = gf.Residual([gf.Dense(4, 6), gf.Tanh(), gf.Dense(6, width)])
    network = gf.Sequential([block, gf.Dense(width, 2)], dtype="float64", backend=backend_name)
    weights = network.get_weights()
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    optimizer = torch.optim.SGD(tensors.values(), lr=0.1)

    def outputs() -> Any:
        x, w = torch.tensor(X), tensors
        of_stack = torch.tanh(x @ w["0.0.weight"] + w["0.0.bias"]) @ w["0.2.weight"] + w["0.2.bias"]
        shortcut = x if width == 4 else x @ w["0.projection.weight"]
        return (of_stack + shortcut) @ w["1.weight"] + w["1.bias"]

    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(outputs(), torch.tensor(Y)).backward()
        optimizer.step()
    gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(X, Y, epochs=5, batch_size=None, progress=False)
    for name, value in network.get_weights().items():
        assert_allclose(value, tensors[name].detach().numpy(), rtol=1e-11, atol=1e-12, err_msg=name)
    assert_allclose(network.predict(X), outputs().detach().numpy(), rtol=1e-11, atol=1e-12)
