"""Recorded steps: the same bits as eager ones, and no layer code runs once they are bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.executors import Eager
from gradflow.ops import Op
from gradflow.program import Program, Recorder
from gradflow.training.step import epoch as passes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 50)


def make_network(backend_name: str, **kwargs: Any) -> gf.Sequential:
    layers = [gf.Dense(6, 9), gf.ReLU(), gf.Dropout(0.2), gf.Dense(9, 8), gf.Tanh(), gf.Dense(8, 3)]
    return gf.Sequential(layers, backend=backend_name, seed=4, **kwargs)


def make_residual_network(backend_name: str) -> gf.Sequential:
    block = gf.Residual([gf.BatchNorm(9), gf.ReLU(), gf.Dropout(0.2), gf.Dense(9, 8), gf.LayerNorm(8), gf.GELU()])
    same_width = gf.Residual([gf.Dense(8, 8), gf.ReLU()])
    return gf.Sequential([gf.Dropout(0.1), gf.Dense(6, 9), block, same_width, gf.Dense(8, 3)], backend=backend_name)


NETWORKS = [make_network, make_residual_network]


class EagerProgram(Program):
    """Runs the recorded ops one by one through the eager executor."""

    def __init__(self, backend: Any, calls: list[tuple[Op, dict[str, Any]]]) -> None:
        ops = Eager(backend)
        super().__init__(backend, [lambda op=op, arguments=arguments: ops(op, **arguments) for op, arguments in calls])


class EagerRecorder(Recorder):
    """Records as usual, but the result is bound anew at each call, and nothing is fused."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self.calls: list[tuple[Op, dict[str, Any]]] = []

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        self.calls.append((op, op.arguments(*args, **kwargs)))

    def program(self, steps_per_launch: int = 1) -> Program:
        return EagerProgram(self.backend, self.calls)


@pytest.mark.parametrize("make_network", NETWORKS)
def test_replay_and_eager_give_the_same_bits(
    make_network: Callable[[str], gf.Sequential], backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> tuple[bytes, list[float]]:
        network = make_network(backend_name)
        trainer = gf.Trainer(network, "softmax_cross_entropy", gf.AdamW(0.01), l2=1e-3, clip_norm=0.5)
        history = trainer.fit(X, Y, epochs=3, batch_size=16)
        return network.backend.to_host(network.state).tobytes(), history["loss"]

    replayed = trained()
    monkeypatch.setattr(passes, "Recorder", EagerRecorder)
    assert trained() == replayed


@pytest.mark.parametrize("make_network", NETWORKS)
def test_no_layer_code_runs_after_binding(
    make_network: Callable[[str], gf.Sequential], backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*args: Any) -> None:
        raise AssertionError("layer code ran in a recorded step")

    class Saboteur(gf.Callback):
        """Breaks every layer once the programs are bound."""

        def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
            for layer in trainer.network.layers:
                for kind in type(layer).__mro__[:-1]:
                    for method in ("forward", "infer", "backward"):
                        if method in vars(kind):
                            monkeypatch.setattr(kind, method, raises)

    def losses(callbacks: list[gf.Callback]) -> tuple[list[float], list[float]]:
        network = make_network(backend_name)
        history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01)).fit(
            X, Y, epochs=4, batch_size=16, validation_data=(X, Y), callbacks=callbacks
        )
        return history["loss"], history["val_loss"]

    undisturbed = losses([])
    network = make_network(backend_name)
    assert losses([Saboteur()]) == undisturbed
    with pytest.raises(AssertionError, match="layer code ran"):
        network.layers[0].forward(Eager(network.backend), X, X)


class Cube(gf.Layer):
    """A user-defined layer: plain array code, no ops."""

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = x**3

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        if d_x is not None:
            d_x[...] = 3 * x**2 * d_y


class HalfRecordedCube(Cube):
    """A layer that mixes ops and array code."""

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        from gradflow.ops import copy

        ops(copy, x, y)
        y **= 3


@pytest.mark.parametrize("cube", [Cube, HalfRecordedCube])
def test_a_users_own_layer_runs_at_every_step(cube: type[gf.Layer], backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(6, 5), cube(), gf.Dense(5, 3)], backend=backend_name, dtype="float64")
    errors = gf.check_gradients(network, "softmax_cross_entropy", X, Y)
    assert max(errors.values()) < 1e-6
    history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.02)).fit(X, Y, epochs=30, batch_size=16)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    hidden = X.astype(np.float64) @ network.get_weights()["0.weight"] + network.get_weights()["0.bias"]
    logits = hidden**3 @ network.get_weights()["2.weight"] + network.get_weights()["2.bias"]
    assert_allclose(network.logits(X), logits, rtol=1e-9, atol=1e-12)


class UnfinishedLayer(gf.Layer):
    """A layer without methods."""


def test_a_layer_without_methods_says_what_is_missing(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(6, 3), UnfinishedLayer()], backend=backend_name)
    with pytest.raises(gf.GradflowError, match=r"UnfinishedLayer does not define forward\(ops, x, y\)"):
        network.predict(X)


def test_a_loss_or_optimizer_without_methods_says_what_is_missing() -> None:
    class UnfinishedLoss(gf.Loss):
        """A loss without methods."""

        output_activation = "identity"
        has_accuracy = False

    class UnfinishedOptimizer(gf.Optimizer):
        """An optimizer without an op."""

    network = gf.MLP([6, 3], backend="numpy")
    with pytest.raises(gf.GradflowError, match=r"UnfinishedLoss does not define targets"):
        gf.Trainer(network, UnfinishedLoss(), "sgd").fit(X, Y, epochs=1)
    with pytest.raises(gf.GradflowError, match="UnfinishedOptimizer does not define its op"):
        gf.Trainer(network, "softmax_cross_entropy", UnfinishedOptimizer(0.1)).fit(X, Y, epochs=1)


def test_batch_size_one_and_single_row(backend_name: str) -> None:
    network = make_network(backend_name)
    history = gf.Trainer(network, "softmax_cross_entropy", gf.SGD(0.01)).fit(X[:5], Y[:5], epochs=2, batch_size=1)
    assert len(history["loss"]) == 2
    assert np.isfinite(history["loss"]).all()
    assert network.predict(X[:1]).shape == (1, 3)
