"""Schedules of weight decay, dropout and label smoothing: an epoch computes as with the constant value of its time."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import gradflow as gf
from gradflow.executors import Executor
from gradflow.layers import Layer
from gradflow.ops import Array, op
from gradflow.schedules import described, get_schedule
from gradflow.training.step.learning_rates import LearningRates
from tests.registries import forgotten

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
LABELS = RNG.integers(3, size=70)
HALVING = gf.StepSchedule(0.4, every=1, factor=0.5)
VALUES = (0.4, 0.2, 0.1)
"""Of HALVING, in the first epochs."""


def network(rate: Any = 0.0, backend: str = "numpy") -> gf.Sequential:
    inner: list[Layer] = [gf.Dense(6, 6), gf.Tanh(), *([gf.Dropout(rate)] if rate else [])]
    layers = [gf.Dense(4, 6), gf.ReLU(), *([gf.Dropout(rate)] if rate else []), gf.Residual(inner), gf.Dense(6, 3)]
    return gf.Sequential(layers, seed=1, backend=backend)


def fit(trainer: gf.Trainer, epochs: int = 3, **settings: Any) -> gf.History:
    return trainer.fit(X, LABELS, **{"epochs": epochs, "batch_size": 16, "progress": False} | settings)


def same(one: gf.Sequential, other: gf.Sequential) -> None:
    weights = other.get_weights()
    for name, weight in one.get_weights().items():
        assert_array_equal(weight, weights[name])


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}])
def test_each_epoch_has_its_rate_of_dropout(settings: dict[str, Any], backend_name: str) -> None:
    scheduled, expected = network(HALVING, backend_name), network(0.4, backend_name)
    fit(gf.Trainer(scheduled, "softmax_cross_entropy", gf.SGD(0.1)), **settings)
    for rate in VALUES:
        expected.layers[2].rate = rate  # type: ignore[attr-defined]
        expected.layers[3].layers[2].rate = rate  # type: ignore[attr-defined]
        fit(gf.Trainer(expected, "softmax_cross_entropy", gf.SGD(0.1)), epochs=1, **settings)
    same(scheduled, expected)


@pytest.mark.parametrize("kind", ["labels", "probabilities", "binary"])
def test_each_epoch_has_its_label_smoothing(kind: str, backend_name: str) -> None:
    def trained(smoothings: list[Any], epochs: int) -> tuple[gf.Sequential, list[float]]:
        of, losses = gf.MLP([4, 5, 3], seed=1, backend=backend_name), []
        y = LABELS if kind == "labels" else np.eye(3)[LABELS]
        for smoothing in smoothings:
            cls = gf.BinaryCrossEntropy if kind == "binary" else gf.SoftmaxCrossEntropy
            trainer = gf.Trainer(of, cls(label_smoothing=smoothing), gf.SGD(0.1))
            losses += trainer.fit(X, y, epochs=epochs, batch_size=16, progress=False)["loss"]
        return of, losses

    scheduled, losses = trained([HALVING], 3)
    expected, their_losses = trained(list(VALUES), 1)
    same(scheduled, expected)
    assert losses == their_losses


def test_each_epoch_has_its_weight_decay(backend_name: str) -> None:
    for cls in (gf.AdamW, gf.Lion):
        scheduled, expected = network(backend=backend_name), network(backend=backend_name)
        fit(gf.Trainer(scheduled, "softmax_cross_entropy", cls(0.01, weight_decay=HALVING)))
        state = None
        for decay in VALUES:
            trainer = gf.Trainer(expected, "softmax_cross_entropy", cls(0.01, weight_decay=decay))
            trainer.optimizer_state = state
            trainer.partial_fit(X, LABELS, batch_size=16)
            state = trainer.optimizer_state
        same(scheduled, expected)


def test_values_change_within_an_epoch(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The values on the device are read after each step."""
    seen = []

    class Records(gf.Callback):
        def on_step_end(self, trainer: gf.Trainer, *arguments: Any) -> None:
            rates: LearningRates = trainer._loop._state.step.update.learning_rates  # type: ignore[union-attr]
            seen.append(trainer.network.backend.to_host(rates._vector)[:3])

    dropout, decay = gf.FlatCosineSchedule(0.5, flat=0.25), gf.CosineSchedule(0.1)
    trainer = gf.Trainer(network(dropout, backend_name), "softmax_cross_entropy", gf.AdamW(0.01, weight_decay=decay))
    fit(trainer, epochs=2, callbacks=[Records()])
    times = np.arange(10) / 5
    # After the last step of an epoch the values of its first one are there, until the next epoch begins.
    after = [step + 1 if (step + 1) % 5 else step - 4 for step in range(10)]
    expected = np.stack([dropout.rates(times, 2, {}), np.full(10, 0.01), decay.rates(times, 2, {})], axis=1)
    assert_array_equal(seen, expected[after])


def all_scheduled(backend: str = "numpy", **settings: Any) -> gf.Trainer:
    loss = gf.SoftmaxCrossEntropy(label_smoothing=gf.FlatCosineSchedule(0.2))
    optimizer = gf.AdamW(gf.CosLogSchedule(0.02), weight_decay=gf.PlateauSchedule(0.1, patience=1, min_delta=9))
    return gf.Trainer(network(gf.FlatCosineSchedule(0.3), backend), loss, optimizer, **settings)


@pytest.mark.parametrize("steps", [15, 18])  # of 20
def test_a_resumed_run_has_the_same_bits(steps: int, tmp_path: Path, backend_name: str) -> None:
    whole = all_scheduled(backend_name, average=0.9)
    history = fit(whole, epochs=4)
    checkpoint = gf.Checkpoint(every_steps=steps)
    fit(all_scheduled(backend_name, average=0.9), epochs=4, output=tmp_path, checkpoint=checkpoint)
    resumed = all_scheduled(backend_name, average=0.9)
    again = fit(resumed, epochs=4, resume=tmp_path)
    same(resumed.network, whole.network)
    assert again["loss"] == history["loss"]


def test_a_run_is_repeated_from_its_folder(tmp_path: Path) -> None:
    trainer = all_scheduled()
    fit(trainer, output=tmp_path)
    assert gf.repeat(tmp_path, X, LABELS).is_same


def test_schedules_are_saved_and_copied(tmp_path: Path) -> None:
    of = network(gf.FlatCosineSchedule(0.3, flat=0.25))
    gf.save(of, tmp_path / "model.safetensors")
    for other in (gf.load(tmp_path / "model.safetensors", backend="numpy"), of.copy(), pickle.loads(pickle.dumps(of))):
        assert other.layers[2].rate.config() == {"learning_rate": 0.3, "flat": 0.25, "final": 0.0}
        fit(gf.Trainer(other, "softmax_cross_entropy", "adam"))
        assert_array_equal(other.predict(X), other.predict(X))
    twin = of.copy()
    for one in (of, twin):
        fit(gf.Trainer(one, "softmax_cross_entropy", "adam"))
    same(of, twin)


def test_members_of_a_pack_have_schedules_of_their_own() -> None:
    rates = [0.2, gf.FlatCosineSchedule(0.3), HALVING]
    trainers = [gf.Trainer(network(rate), "softmax_cross_entropy", "adam") for rate in rates]
    pack = gf.Pack(trainers)
    pack.fit(X, LABELS, epochs=3, batch_size=16, progress=False)
    for member, rate in zip(pack, rates, strict=True):
        alone = network(rate)
        fit(gf.Trainer(alone, "softmax_cross_entropy", "adam"))
        same(member, alone)


def test_evaluation_smooths_by_the_first_value(backend_name: str) -> None:
    of = network(backend=backend_name)
    scheduled = gf.Trainer(of, gf.SoftmaxCrossEntropy(label_smoothing=HALVING), "adam")
    constant = gf.Trainer(of, gf.SoftmaxCrossEntropy(label_smoothing=0.4), "adam")
    history = fit(scheduled, validation_data=(X, LABELS))
    expected = constant.evaluate(X, LABELS)["loss"]
    assert history["val_loss"][-1] == scheduled.evaluate(X, LABELS)["loss"] == expected


def test_mlp_and_gradients_take_schedules() -> None:
    of = gf.MLP([4, 6, 3], dropout=HALVING, input_dropout=gf.FlatCosineSchedule(0.1), backend="numpy")
    constant = gf.MLP([4, 6, 3], dropout=0.4, input_dropout=0.1, backend="numpy")
    ours, theirs = (gf.gradients(each, "softmax_cross_entropy", X, LABELS) for each in (of, constant))
    for name, gradient in ours.items():
        assert_array_equal(gradient, theirs[name])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gf.Dropout(lambda t: 0.1), "rate must be a number, at least 0 and below 1"),
        (lambda: gf.Dropout(gf.FlatCosineSchedule), "rate must be a number, at least 0 and below 1"),
        (lambda: gf.AdamW(weight_decay="flat"), "weight_decay must be a finite number, at least 0"),
        (lambda: fit(gf.Trainer(network(gf.FlatCosineSchedule(1.0)), "softmax_cross_entropy", "adam")),
         "rate of Dropout must be below 1, but FlatCosineSchedule.* returns 1"),
        (lambda: fit(gf.Trainer(network(gf.PlateauSchedule(0.1, monitor="f1")), "softmax_cross_entropy", "adam")),
         "the plateau schedule cannot monitor 'f1'"),
        (lambda: gf.Trainer(network(HALVING), "softmax_cross_entropy", "adam").partial_fit(X, LABELS),
         "partial_fit does not know when training ends, as StepSchedule"),
        (lambda: fit(gf.Trainer(network(), gf.SoftmaxCrossEntropy(label_smoothing=HALVING), gf.LBFGS()),
                     batch_size=None), "must be a number with L-BFGS"),
    ],
)  # fmt: skip
def test_wrong_schedules_are_refused(make: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        make()


@pytest.fixture
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


def test_a_layer_of_the_user_reads_its_schedule(registries: None) -> None:
    @op(shapes="x, y: *shape; strength: 1", writes=("y",))
    def strengthen(x: Array, y: Array, strength: Array) -> None:
        """y = strength x"""
        y[...] = strength[0] * x

    class Strength(Layer):
        recorded, elementwise, backward_reads = True, True, ()

        def __init__(self, strength: Any) -> None:
            self.strength = strength

        def config(self) -> dict[str, Any]:
            return {"strength": described(self.strength)}

        def forward(self, ops: Executor, x: Array, y: Array) -> None:
            ops(strengthen, x, y, ops.value(self.strength))

        def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
            if d_x is not None:
                ops(strengthen, d_y, d_x, ops.value(self.strength))

    def of(strength: Any) -> gf.Sequential:
        return gf.Sequential([gf.Dense(4, 6), Strength(strength), gf.Dense(6, 3)], seed=1, backend="numpy")

    scheduled, expected = of(gf.StepSchedule(4.0, every=1, factor=0.5)), of(4.0)
    fit(gf.Trainer(scheduled, "softmax_cross_entropy", gf.SGD(0.01)))
    for strength in (4.0, 2.0, 1.0):
        expected.layers[1].strength = strength  # type: ignore[attr-defined]
        fit(gf.Trainer(expected, "softmax_cross_entropy", gf.SGD(0.01)), epochs=1)
    same(scheduled, expected)


def test_a_function_is_refused_since_files_cannot_hold_it() -> None:
    with pytest.raises(gf.DataError, match="rate is saved with the model, which cannot hold a function"):
        gf.Dropout(get_schedule(lambda t: 0.1))
