"""Training in TF32 and in 16 bits: the accuracy it reaches, its costs, and where it is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.precision import PRECISIONS
from gradflow.training.step.update import Update
from tests.training.step.test_launches import dense_layers, layers_again, nodes_per_step

LOW = ("tf32", "bfloat16", "float16")


def trained(
    precision: str, layers: list[gf.Layer], *, epochs: int = 4, **kwargs: Any
) -> tuple[gf.Sequential, gf.History]:
    pytest.importorskip("ml_dtypes")
    digits = gf.data.load_digits()
    network = gf.Sequential(layers, backend="cupy", seed=1)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(3e-3), precision=precision, **kwargs)
    x, y = digits.x_train[:640], digits.y_train[:640]
    return network, trainer.fit(x, y, epochs=epochs, batch_size=64, validation_data=(digits.x_test, digits.y_test))


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("width", [32, 256])
def test_the_loss_is_that_of_float32_within_two_percent(precision: str, width: int) -> None:
    def layers() -> list[gf.Layer]:
        return [gf.Dense(64, width), gf.ReLU(), gf.Dense(width, width), gf.ReLU(), gf.Dense(width, 10)]

    (_, expected), (network, history) = trained("float32", layers()), trained(precision, layers())
    assert history["loss"] != expected["loss"]  # it has a different precision
    assert_allclose(history["loss"], expected["loss"], rtol=0.02)
    assert_allclose(history["val_loss"], expected["val_loss"], rtol=0.02)
    assert network.parameters.dtype == np.float32


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LOW)
def test_every_kind_of_layer_trains(precision: str) -> None:
    layers = [
        gf.Dense(64, 16), gf.BatchNorm(16), gf.Tanh(), gf.Dropout(0.1), gf.Dense(16, 16), gf.LayerNorm(16),
        gf.GELU(approximate="tanh"), gf.Dense(16, 1), gf.Softmax(), gf.Dense(1, 10, bias=False),
    ]  # fmt: skip
    again = [type(layer)(**layer.config()) for layer in layers]
    settings = {"l2": 1e-3, "clip_norm": 1.0, "average": 0.9}
    (_, expected), (_, history) = trained("float32", layers, **settings), trained(precision, again, **settings)
    assert_allclose(history["loss"], expected["loss"], rtol=0.02)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LOW)
def test_the_same_seed_gives_the_same_bits(precision: str) -> None:
    layers = dense_layers(3, gf.ReLU(), n_in=64, n_out=10)
    weights = [trained(precision, layers_again(layers))[0].get_weights() for _ in range(2)]
    for name, weight in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], weight)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "more"), [("tf32", 0), ("bfloat16", 3), ("float16", 6)])
@pytest.mark.parametrize("depth", [1, 3])
def test_nodes_per_step(precision: str, more: int, depth: int) -> None:
    # 16 bits: the batch, the outputs and dL/doutputs change their type; float16: the gradient is unscaled and checked,
    # and so are the weights.
    pytest.importorskip("ml_dtypes")
    layers = dense_layers(depth, gf.ReLU())
    nodes = nodes_per_step(layers, "mean_squared_error", "adam", batch_size=16, precision=precision)
    assert nodes == 3 * depth + 2 + more


class Overflow(gf.Callback):
    """Sets the loss scale so that the first steps of an epoch overflow, and records the scales at the ends of
    epochs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
        self.updates: list[Update] = []
        self.scale = scale
        make = Update.__init__

        def keep(update: Update, *args: Any, **kwargs: Any) -> None:
            make(update, *args, **kwargs)
            if not isinstance(update._objective.network.parameters, np.ndarray):
                self.updates.append(update)

        monkeypatch.setattr(Update, "__init__", keep)

    def scaling(self, trainer: gf.Trainer) -> Any:
        return self.updates[-1].precision._loss_scaling

    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        backend = trainer.network.backend
        scaling = np.array([self.scale, 0, 0], np.float32)
        backend.copy(backend.from_host(scaling), self.scaling(trainer).scaling)


@pytest.mark.gpu
def test_steps_that_overflow_are_left_out_and_lower_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    overflow = Overflow(monkeypatch, 2.0**30)
    network = gf.Sequential(dense_layers(2, gf.ReLU()), backend="cupy")
    x = np.random.default_rng(0).normal(size=(64, 6))
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(), precision="float16")
    history = trainer.fit(x, x[:, :3], epochs=4, batch_size=8, callbacks=[overflow])
    scaling = overflow.scaling(trainer)
    scale, _, overflowed = network.backend.to_host(scaling.scaling)
    assert 2.0**10 < scale < 2.0**30
    assert overflowed == 0
    left_out = round(np.log2(2.0**30 / scale))
    assert network.backend.to_host(scaling.update_clock)[0] == 32 - left_out
    assert history["loss"][-1] < history["loss"][0]
    assert all(np.isfinite(weight).all() for weight in network.get_weights().values())


@pytest.mark.gpu
def test_an_overflow_at_every_scale_has_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    overflow = Overflow(monkeypatch, 1.0)
    network = gf.Sequential([gf.Dense(2, 3), gf.Dense(3, 2, initializer=60000.0)], backend="cupy")
    x = np.full((8, 2), 1e-3)
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(1e-30), precision="float16")
    with pytest.raises(gf.DivergedError):
        trainer.fit(x, np.full((8, 2), -60000.0), epochs=2, batch_size=4, callbacks=[overflow])


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LOW)
def test_weights_that_are_not_finite_stop_the_run_in_the_last_step_too(precision: str) -> None:
    network = gf.Sequential([gf.Dense(2, 1, initializer=0.0)], backend="cupy")
    x = np.full((8, 2), 2.0)
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(3e38), precision=precision)
    with pytest.raises(gf.DivergedError, match="a weight became NaN or infinite in epoch 1, at step 1 of 1"):
        trainer.fit(x, np.ones((8, 1)), epochs=1, batch_size=None)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(gf.DataError, match=r"unknown precision 'float61'\. Did you mean 'float16'"):
        gf.Trainer(gf.MLP([2, 1], backend="numpy"), "mean_squared_error", "adam", precision="float61")


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("backend", ["numpy", "reference"])
def test_cpu_backends_refuse(precision: str, backend: str) -> None:
    with pytest.raises(gf.BackendError, match=f"precision='{precision}' needs an NVIDIA GPU, and .*'{backend}'"):
        gf.Trainer(gf.MLP([2, 1], backend=backend), "mean_squared_error", "adam", precision=precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LOW)
def test_float64_networks_are_refused(precision: str) -> None:
    network = gf.MLP([2, 1], backend="cupy", dtype="float64")
    with pytest.raises(gf.DataError, match="is for float32 networks, but this one is float64"):
        gf.Trainer(network, "mean_squared_error", "adam", precision=precision)


@pytest.mark.gpu
def test_lbfgs_refuses() -> None:
    pytest.importorskip("scipy")
    trainer = gf.Trainer(gf.MLP([2, 1], backend="cupy"), "mean_squared_error", "lbfgs", precision="tf32")
    with pytest.raises(gf.DataError, match="'tf32' is too coarse for the line search of L-BFGS"):
        trainer.fit(np.ones((4, 2)), np.ones(4), epochs=1, batch_size=None)


@pytest.mark.gpu
def test_layers_that_compute_by_themselves_are_refused_in_16_bits() -> None:
    class Own(gf.Layer):
        """y = x"""

        elementwise = True

        def forward(self, ops: Any, x: Any, y: Any) -> None:
            y[...] = x

    for layer in (Own(), gf.Residual([gf.Dense(2, 2), Own()])):
        network = gf.Sequential([gf.Dense(2, 2), layer], backend="cupy")
        with pytest.raises(gf.DataError, match=r"layer 1, .*Own.*does its own array math"):
            gf.Trainer(network, "mean_squared_error", "adam", precision="float16")
        gf.Trainer(network, "mean_squared_error", "adam", precision="tf32")


@pytest.mark.gpu
def test_without_ml_dtypes_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda.backend import CupyBackend

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(gf.BackendError, match="pip install ml-dtypes"):
        CupyBackend.check_precision(object.__new__(CupyBackend), "bfloat16")


def test_the_default_is_float32() -> None:
    trainer = gf.Trainer(gf.MLP([2, 1], backend="numpy"), "mean_squared_error", "adam")
    assert trainer.precision == "float32"
    assert next(iter(PRECISIONS)) == "float32"


@pytest.mark.gpu
@pytest.mark.parametrize("precision", LOW)
def test_evaluation_and_prediction_follow_the_precision(precision: str) -> None:
    layers = [
        gf.Dense(64, 16), gf.BatchNorm(16), gf.ReLU(), gf.Dropout(0.1), gf.Dense(16, 16), gf.LayerNorm(16),
        gf.GELU(), gf.Residual([gf.Dense(16, 16), gf.Tanh()]), gf.Dense(16, 10),
    ]  # fmt: skip
    network, history = trained(precision, layers, average=0.9)
    assert network.precision == precision
    digits = gf.data.load_digits()
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", precision=precision)
    evaluated = trainer.evaluate(digits.x_test, digits.y_test)
    assert evaluated["loss"] == history["val_loss"][-1]

    outputs, probabilities = network.logits(digits.x_test), network.predict(digits.x_test)
    assert outputs.dtype == probabilities.dtype == np.float32
    assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    wide = gf.Trainer(network, "softmax_cross_entropy", "adam").evaluate(digits.x_test, digits.y_test)
    assert evaluated["loss"] != wide["loss"]
    assert_allclose(evaluated["loss"], wide["loss"], rtol=0.02)
    network.precision = "float32"
    exact = network.logits(digits.x_test)
    assert exact.tobytes() != outputs.tobytes()
    assert_allclose(outputs, exact, atol=0.02 * abs(exact).max())


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_prediction_in_16_bits_sees_new_weights(precision: str) -> None:
    x = np.ones((3, 2))
    network = gf.Sequential([gf.Dense(2, 2, initializer=1.0)], backend="cupy")
    network.precision = precision
    assert network.predict(x).tolist() == [[2.0, 2.0]] * 3
    network.set_weights({"0.weight": [[1.0, 2.0], [1.0, 2.0]], "0.bias": [0.0, 3.0]})
    assert network.predict(x).tolist() == [[2.0, 7.0]] * 3
    with network.backend.running():
        network.parameters[:] = 0.5
    assert network.predict(x).tolist() == [[1.5, 1.5]] * 3


def test_precision_of_predictions_is_kept_with_the_network(backend_name: str, tmp_path: Path) -> None:
    network = gf.MLP([2, 8, 2], backend=backend_name)
    expected = network.predict(np.ones((5, 2)))
    network.precision = "bfloat16"
    gf.save(network, tmp_path / "model")
    for twin in (network.copy(), gf.load(tmp_path / "model", backend_name), pickle.loads(pickle.dumps(network))):
        assert twin.precision == "bfloat16"
        assert twin.predict(np.ones((5, 2))).tobytes() == network.predict(np.ones((5, 2))).tobytes()
    assert (network.predict(np.ones((5, 2))).tobytes() == expected.tobytes()) == (backend_name != "cupy")
    with pytest.raises(gf.DataError, match=r"unknown precision 'half'\. Did you mean 'float16'"):
        network.precision = "half"
    twin = network.copy(dtype="float64")
    assert twin.predict(np.ones((5, 2))).dtype == np.float64


def test_a_fit_sets_the_precision_of_predictions(backend_name: str) -> None:
    network = gf.MLP([2, 8, 2], backend=backend_name)
    network.precision = "bfloat16"
    gf.Trainer(network, "mean_squared_error", "adam").fit(np.ones((5, 2)), np.ones((5, 2)), epochs=1)
    assert network.precision == "float32"
