"""A loss that explodes or stalls is reported once, with the layer where it began; an ordinary run is not."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.errors import BackendError, DeviceLostError
from gradflow.losses import get_loss
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.step.objective import Objective
from gradflow.training.watch.diagnosis import LookAtLayers, layer_grown_most
from gradflow.training.watch.loss_watch import LossWatch

DIGITS = gf.data.load_digits()
IMAGES, LABELS = DIGITS.x_train[:320], DIGITS.y_train[:320]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 5))
Y = X @ RNG.normal(size=(5, 1)) + 0.5 * X[:, :1] ** 2
NOISE = RNG.normal(size=(200, 1))
CE, MSE = "softmax_cross_entropy", "mean_squared_error"


def warned(network: gf.Sequential, optimizer: str | gf.Optimizer, x: Any, y: Any, loss: str, **fit: Any) -> list[str]:
    """Return the warnings of a fit of 15 epochs; they point to the line that called it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gf.Trainer(network, loss, optimizer).fit(x, y, **{"epochs": 15, **fit})
    for warning in caught:
        assert warning.category is gf.TrainingWarning
        assert Path(warning.filename) == Path(__file__)
    return [str(warning.message) for warning in caught]


# -- what is reported -------------------------------------------------------------------------------------------------


def test_an_exploding_loss(backend_name: str) -> None:
    network = gf.MLP([64, 32, 10], "leaky_relu", backend=backend_name)
    [message] = warned(network, gf.Adam(10.0), IMAGES, LABELS, CE)
    assert message.startswith("the loss has exploded: it was 2.")
    assert "in epoch 1. It began in layer" in message
    assert "whose weights grew most" in message
    assert message.endswith("Try a learning rate below 10, or clip_norm=1.0")


@pytest.mark.parametrize("before", [0.0, 0.1])
def test_the_layer_that_grew_most_is_named(before: float, backend_name: str) -> None:
    block = gf.Residual([gf.Dense(5, 4, initializer=before), gf.Tanh()])
    network = gf.Sequential(
        [gf.Dense(5, 5, initializer=1.0), block, gf.Dense(4, 1, initializer=1.0)], backend=backend_name
    )
    best_state = network.backend.empty(network.state.shape, network.dtype)
    network.backend.copy(network.state, best_state)
    weights = network.get_weights()
    network.set_weights(weights | {"0.weight": 5 * weights["0.weight"], "1.0.weight": np.full((5, 4), 10.0)})
    norms = f"from a norm of {before * 20**0.5:.3g} to {10 * 20**0.5:.3g}"
    expected = f"layer 1.0, Dense(n_in=5, n_out=4, bias=True), whose weights grew most, {norms}"
    assert layer_grown_most(network, best_state) == expected


def test_a_layer_whose_units_are_all_dead(backend_name: str) -> None:
    network = gf.MLP([64, 16, 16, 10], backend=backend_name)
    network.set_weights(network.get_weights() | {"2.bias": np.full(16, -100.0)})
    [message] = warned(network, "adam", IMAGES, LABELS, CE)
    assert message.startswith("the loss has stalled: it is 2.3")
    assert "has not fallen for 10 epochs" in message
    assert "It began in layer 3, ReLU(), all of whose units are dead" in message
    assert "learning rate below 0.001" in message


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_a_saturated_layer(activation: str, backend_name: str) -> None:
    network = gf.MLP([64, 16, 10], activation, backend=backend_name)
    network.set_weights(network.get_weights() | {"0.bias": np.full(16, 100.0)})
    [message] = warned(network, gf.Adam(0.01), IMAGES, LABELS, CE, epochs=30)
    layer = {"tanh": "Tanh()", "sigmoid": "Sigmoid()"}[activation]
    assert f"It began in layer 1, {layer}: 100% of its outputs are near a limit" in message


def test_a_vanished_gradient(backend_name: str) -> None:
    network = gf.MLP([64, *[32] * 8, 10], "sigmoid", backend=backend_name)
    [message] = warned(network, gf.GradientDescent(0.1), IMAGES, LABELS, CE)
    norms = gf.inspect.gradient_norms(network, CE, IMAGES, LABELS)
    joint = {place: np.hypot(norms[f"{place}.weight"], norms[f"{place}.bias"]) for place in range(0, 18, 2)}
    last = max(place for place, norm in joint.items() if norm < 1e-3 * max(joint.values()))
    assert f"It began in layer {last}, Dense(n_in=32, n_out=32, bias=True), where the gradient has vanished" in message


def test_a_rate_that_is_far_too_low(backend_name: str) -> None:
    network = gf.MLP([64, 16, 10], backend=backend_name)
    [message] = warned(network, gf.GradientDescent(1e-7), IMAGES, LABELS, CE, epochs=40)
    assert "No layer stands out, and a single step of the right length would lower it by more than 5%" in message
    assert "Try a learning rate above 1e-07" in message


def test_a_penalty_that_is_too_large(backend_name: str) -> None:
    network = gf.MLP([5, 8, 1], "tanh", backend=backend_name)
    with pytest.warns(gf.TrainingWarning, match=r"in layer 0, .* the gradient has vanished.*, or smaller penalties$"):
        gf.Trainer(network, MSE, gf.GradientDescent(1e-3), l2=100.0).fit(X, Y, epochs=40)


def test_a_schedule_that_ends_too_early(backend_name: str) -> None:
    network = gf.MLP([64, 16, 10], backend=backend_name)
    [message] = warned(network, gf.SGD(gf.ExponentialSchedule(0.1, 0.5)), IMAGES, LABELS, CE, epochs=30)
    assert "No layer stands out" in message


def test_a_stall_continues_through_a_resume(tmp_path: Path) -> None:
    def fit(epochs: int, **arguments: Any) -> list[str]:
        network = gf.MLP([64, 16, 10], backend="numpy")
        return warned(network, gf.GradientDescent(1e-7), IMAGES, LABELS, CE, epochs=epochs, **arguments)

    assert fit(6, output=tmp_path, checkpoint=gf.Checkpoint(every_epochs=1)) == []
    assert fit(10, resume=tmp_path) == []
    assert len(fit(12, resume=tmp_path)) == 1


def test_a_stream_is_watched_too() -> None:
    network = gf.MLP([64, 16, 10], backend="numpy")
    network.set_weights(network.get_weights() | {"0.bias": np.full(16, -100.0)})
    [message] = warned(network, "adam", gf.data.Arrays(IMAGES, LABELS), None, CE)
    assert "It began in layer 1, ReLU()" in message


# -- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", gf.SGD(0.1, momentum=0.9), gf.GradientDescent(0.1)], ids=repr)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_digits_are_learned_in_silence(activation: str, optimizer: Any) -> None:
    network = gf.MLP([64, 64, 32, 10], activation, dropout=0.2, backend="numpy")
    assert warned(network, optimizer, DIGITS.x_train, DIGITS.y_train, CE, epochs=40) == []


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_a_fit_that_has_converged_and_continues(offset: float) -> None:
    network, y = gf.MLP([5, 16, 1], backend="numpy"), Y + offset
    for _ in range(2):
        assert warned(network, gf.Adam(0.01), X, y, MSE, epochs=400) == []
    assert ((network.predict(X) - y) ** 2).mean() < 0.1 * y.var()


@pytest.mark.parametrize("rate", [0.01, 1e-8])
def test_an_exactly_fitted_line(rate: float) -> None:
    network = gf.Sequential([gf.Dense(5, 1)], dtype="float64", backend="numpy")
    exact = X @ np.ones((5, 1))
    for epochs in (200, 30):
        assert warned(network, gf.GradientDescent(0.1), X, exact, MSE, epochs=epochs, batch_size=None) == []
    assert warned(network, gf.Adam(rate), X, exact, MSE, epochs=30) == []


@pytest.mark.parametrize("y", [NOISE, RNG.integers(0, 3, 200)], ids=["numbers", "classes"])
@pytest.mark.parametrize("hidden", [[], [32]])
def test_targets_that_have_nothing_to_do_with_the_inputs(hidden: list[int], y: np.ndarray) -> None:
    loss, n_out = (MSE, 1) if y.ndim == 2 else (CE, 3)
    network = gf.MLP([5, *hidden, n_out], backend="numpy")
    for _ in range(2):
        assert warned(network, gf.Adam(0.01), X, y, loss, epochs=60) == []


@pytest.mark.parametrize("value", [0.0, 0.1, 3.0, 1000.0])
def test_constant_targets(value: float) -> None:
    network = gf.MLP([5, 16, 1], backend="numpy")
    network.set_weights(network.get_weights() | {"0.bias": np.full(16, -100.0)})  # the last bias is sufficient
    for _ in range(2):
        assert warned(network, gf.SGD(0.1), X, np.full((200, 1), value), MSE, epochs=60) == []


def test_a_single_class() -> None:
    assert warned(gf.MLP([5, 16, 3], backend="numpy"), "adam", X, np.ones(200, int), CE, epochs=100) == []


def test_unscaled_inputs_start_with_a_high_loss_that_falls() -> None:
    """This is not a stall; if the loss stays high to the end, the message is that inputs are unscaled."""
    [message] = warned(gf.MLP([5, 16, 1], backend="numpy"), gf.Adam(0.01), 1000 * X, Y, MSE, epochs=30)
    assert message.startswith("after 30 epochs the loss is still")


def test_a_loss_below_zero() -> None:
    counts = RNG.poisson(30, (200, 1)).astype(float)
    network = gf.MLP([5, 16, 1], backend="numpy")
    for _ in range(2):
        assert warned(network, gf.Adam(0.01), X, counts, "poisson", epochs=100) == []


def test_a_schedule_that_ends_near_zero() -> None:
    rate = gf.ExponentialSchedule(1.0, 0.8)
    assert warned(gf.MLP([64, 16, 10], backend="numpy"), gf.SGD(rate), IMAGES, LABELS, CE, epochs=80) == []


def test_a_schedule_with_cycles_raises_the_loss_now_and_then() -> None:
    def fit(rate: float | gf.Schedule) -> gf.History:
        network = gf.MLP([5, 32, 1], "leaky_relu", backend="numpy")
        return gf.Trainer(network, MSE, gf.Adam(rate)).fit(X, Y, epochs=64, batch_size=32)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss = fit(gf.CosLogSchedule(3.0))["loss"]
    assert max(loss) > 20 * loss[0]
    with pytest.warns(gf.TrainingWarning, match="exploded"):
        fit(3.0)


@pytest.mark.parametrize("restart_every", [None, 20.0])
def test_the_rate_of_a_schedule_with_cycles_is_no_cause_of_a_stall(restart_every: float | None) -> None:
    schedule = gf.CosineSchedule(1e-7, restart_every=restart_every)
    messages = warned(gf.MLP([64, 16, 10], backend="numpy"), gf.SGD(schedule), IMAGES, LABELS, CE, epochs=40)
    assert len(messages) == (restart_every is None)


@pytest.mark.parametrize("schedule", [gf.CosLogSchedule(0.1), gf.CosineSchedule(0.1, restart_every=20)])
def test_dead_layers_are_reported_whatever_the_schedule(schedule: gf.Schedule) -> None:
    network = gf.MLP([5, 4, 1], "relu", backend="numpy")
    network.set_weights({"0.bias": np.full(4, -100.0)}, partial=True)
    [message] = warned(network, gf.SGD(schedule), X, Y, MSE, epochs=40)
    assert "all of whose units are dead" in message


def test_dead_units_beside_a_shortcut() -> None:
    block = gf.Residual([gf.Dense(16, 16), gf.ReLU(), gf.Dense(16, 16)])
    network = gf.Sequential([gf.Dense(5, 16), block, gf.Dense(16, 1)], backend="numpy")
    network.set_weights(network.get_weights() | {"1.0.bias": np.full(16, -100.0)})
    assert warned(network, gf.Adam(0.01), X, X @ np.ones((5, 1)) + 2 * NOISE, MSE, epochs=60) == []


def test_checks_become_rarer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Epochs(gf.Callback):
        """Keeps the current epoch."""

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            self.now = epoch + 1

    epochs, looks = Epochs(), []
    monkeypatch.setattr(LookAtLayers, "cause", lambda *_, **__: looks.append(epochs.now))
    network = gf.MLP([5, 8, 1], "tanh", backend="numpy")
    assert warned(network, gf.GradientDescent(1e-12), X, Y, MSE, epochs=100, callbacks=[epochs]) == []
    assert looks == [11, 21, 41, 81]


def test_an_epoch_without_any_weight() -> None:
    weight = np.zeros(200)
    weight[0] = 1
    network = gf.MLP([5, 8, 1], backend="numpy")
    assert (
        warned(network, gf.Adam(0.01), X, Y, MSE, epochs=30, drop_last=True, batch_size=150, sample_weight=weight) == []
    )


def test_lbfgs() -> None:
    pytest.importorskip("scipy")
    network = gf.MLP([5, 8, 1], "tanh", backend="numpy")
    assert warned(network, "lbfgs", X, Y, MSE, epochs=12, batch_size=None) == []


# -- its format --------------------------------------------------------------------------------------------------------


def looking(loss: str | gf.Loss, n_out: int, y: np.ndarray, **weights: Any) -> LookAtLayers:
    network = gf.Sequential([gf.Dense(5, n_out)], dtype="float64", backend="numpy")
    data = prepare_arrays(network, get_loss(loss), X, y, **weights)
    return LookAtLayers(Objective(network, get_loss(loss), gf.Adam()), data)


def test_the_loss_of_a_constant_prediction() -> None:
    fractions = np.array([0.5, 0.3, 0.2])
    classes = np.repeat([0, 1, 2], [100, 60, 40])
    entropy = -(fractions * np.log(fractions)).sum()
    assert_allclose(looking(CE, 3, classes).loss_of_one_answer(), entropy, rtol=1e-12)
    assert_allclose(looking(CE, 3, classes).loss_of_zeros(), np.log(3), rtol=1e-12)
    assert_allclose(looking(CE, 3, np.eye(3)[classes]).loss_of_one_answer(), entropy, rtol=1e-12)
    smooth = 0.9 * fractions + 0.1 / 3
    smoothed = gf.SoftmaxCrossEntropy(label_smoothing=0.1)
    for y in (classes, np.eye(3)[classes]):
        assert_allclose(looking(smoothed, 3, y).loss_of_one_answer(), -(smooth * np.log(smooth)).sum(), rtol=1e-12)
    is_first = (classes == 0).astype(float)
    assert_allclose(looking("binary_cross_entropy", 1, is_first).loss_of_one_answer(), np.log(2), rtol=1e-12)
    assert_allclose(looking(MSE, 1, Y).loss_of_one_answer(), Y.var(), rtol=1e-12)
    assert_allclose(looking(MSE, 1, Y).loss_of_zeros(), (Y**2).mean(), rtol=1e-12)
    counts = classes + 1.0
    best = counts.mean() - counts.mean() * np.log(counts.mean())
    assert_allclose(looking("poisson", 1, counts).loss_of_one_answer(), best, rtol=1e-12)
    quantiles = looking(gf.QuantileLoss([0.1, 0.5, 0.9]), 3, Y)  # the mean is none of them, but still an answer
    pinball = [np.maximum(q * (Y - Y.mean()), (q - 1) * (Y - Y.mean())).mean() for q in (0.1, 0.5, 0.9)]
    assert_allclose(quantiles.loss_of_one_answer(), min(np.mean(pinball), quantiles.loss_of_zeros()), rtol=1e-12)


def test_the_loss_of_a_constant_prediction_uses_row_weights() -> None:
    weight = np.where(Y[:, 0] > 0, 3.0, 1.0)
    look = looking(MSE, 1, Y, sample_weight=weight)
    assert_allclose(look.loss_of_zeros(), np.average(Y[:, 0] ** 2, weights=weight), rtol=1e-12)
    mean = np.average(Y[:, 0], weights=weight)
    assert_allclose(look.loss_of_one_answer(), np.average((Y[:, 0] - mean) ** 2, weights=weight), rtol=1e-12)


def stalling_network(backend_name: str) -> gf.Sequential:
    layers = [gf.Dense(64, 16), gf.BatchNorm(16), gf.ReLU(), gf.Dropout(0.2), gf.Dense(16, 10)]
    return gf.Sequential(layers, backend=backend_name, seed=3)


def test_inspection_changes_nothing(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained() -> tuple[list[str], bytes]:
        network = stalling_network(backend_name)
        messages = warned(network, gf.SGD(1e-9), IMAGES, LABELS, CE, epochs=40)
        return messages, network.backend.to_host(network.state).tobytes()

    messages, looked = trained()
    assert len(messages) == 1
    monkeypatch.setattr(LossWatch, "epoch_ended", lambda *arguments: None)
    assert trained() == ([], looked)


@pytest.mark.parametrize("error", [BackendError, gf.DataError])
def test_training_continues_if_inspection_is_impossible(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any, **settings: Any) -> None:
        raise error("no memory, or weights that are infinite")

    monkeypatch.setattr(LookAtLayers, "cause", fails)
    assert warned(stalling_network("numpy"), gf.SGD(1e-9), IMAGES, LABELS, CE, epochs=40) == []


def test_a_device_lost_during_inspection_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **settings: Any) -> None:
        raise DeviceLostError("the GPU stopped")

    monkeypatch.setattr(LookAtLayers, "cause", fails)
    with pytest.raises(DeviceLostError, match=r"the GPU stopped\. No weights were saved"):
        warned(stalling_network("numpy"), gf.SGD(1e-9), IMAGES, LABELS, CE, epochs=40)
