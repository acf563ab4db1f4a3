"""Several epochs in one call of the backend: everything is as if Python had looked after each of them."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends.cpu.native import native_library
from gradflow.training.many_epochs import ManyEpochs

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 5)).astype(np.float32)
Y = (X[:, 0] + 0.5 * RNG.normal(size=70) > 0).astype(int)
VALIDATION = (X[:20] + 0.1, Y[:20])


class EachEpoch(gf.Callback):
    """Sees the network after each epoch, so that epochs run one at a time."""

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        assert trainer.network.epochs_begun >= epoch


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of epochs of each call."""
    numbers: list[int] = []
    run = ManyEpochs.run

    def noted(many: ManyEpochs, most: int, limit: float) -> Any:
        readings = run(many, most, limit)
        numbers.append(len(readings))
        return readings

    monkeypatch.setattr(ManyEpochs, "run", noted)
    return numbers


def trained(trainer: dict[str, Any], fit: dict[str, Any], callbacks: list[gf.Callback]) -> tuple[gf.Trainer, list[str]]:
    """Return a trainer after a fit, and the fit's warnings and error."""
    settings = {"loss": "softmax_cross_entropy", "optimizer": gf.Adam(0.01)} | trainer
    sizes, activation = settings.pop("sizes", [5, 8, 2]), settings.pop("activation", "relu")
    made = gf.Trainer(gf.MLP(sizes, activation=activation, seed=1, backend="numpy"), **settings)
    data = fit.pop("data", (X, Y))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = []
        try:
            made.fit(*data, progress=False, callbacks=callbacks, **({"epochs": 30, "batch_size": 16} | fit))
        except gf.DivergedError as error:
            said.append(str(error))
    return made, [str(each.message) for each in caught] + said


def assert_as_one_by_one(
    calls: list[int], trainer: dict[str, Any], fit: dict[str, Any], *, in_one_call: bool
) -> list[str]:
    """Check that a fit is the same as one whose epochs run one at a time; return its warnings and its error."""
    one_by_one, said_before = trained(trainer, dict(fit), [EachEpoch()])
    assert not calls
    together, said = trained(trainer, dict(fit), [])
    assert bool(calls) == (in_one_call and native_library() is not None)
    before, after = one_by_one.history, together.history
    assert before is not None
    assert after is not None
    assert {name: before[name] for name in before} == {name: after[name] for name in after}
    assert (before.stopped_by, before.best_epoch) == (after.stopped_by, after.best_epoch)
    assert said == said_before
    np.testing.assert_array_equal(one_by_one.network.state, together.network.state)
    assert one_by_one.network.epochs_begun == together.network.epochs_begun
    return said


@pytest.mark.parametrize(
    "fit",
    [
        {},
        {"validation_data": VALIDATION},
        {"validation_data": VALIDATION, "early_stopping": gf.EarlyStopping("val_loss", patience=3), "epochs": 200},
        {"validation_data": VALIDATION, "early_stopping": gf.EarlyStopping("val_loss", patience=4, min_delta=0.01)},
        {"validation_data": VALIDATION, "early_stopping": gf.EarlyStopping("val_loss", patience=5, ties="last")},
        {"tolerance": 0.01, "epochs": 200},
        {"sample_weight": RNG.uniform(0.5, 2, len(X))},
        {"batch_size": 70, "shuffle": False, "epochs": 150},
        {"drop_last": True, "accumulate": 2},
    ],
    ids=lambda fit: ",".join(fit),
)
def test_fits_are_as_one_by_one(fit: dict[str, Any], calls: list[int]) -> None:
    assert_as_one_by_one(calls, {}, fit, in_one_call=True)


@pytest.mark.parametrize("optimizer", [gf.SGD(0.1, 0.9), gf.AdamW(0.01, weight_decay=0.1)], ids=repr)
def test_optimizers_and_penalties_are_as_one_by_one(optimizer: gf.Optimizer, calls: list[int]) -> None:
    assert_as_one_by_one(calls, {"optimizer": optimizer, "l2": 0.01, "clip_norm": 0.5}, {}, in_one_call=True)


@pytest.mark.parametrize(
    ("trainer", "fit"),
    [
        ({"optimizer": gf.Adam(gf.CosineSchedule(0.01))}, {}),
        ({"average": 0.9}, {}),
        ({"metrics": ["f1"]}, {}),
        ({"layer_statistics": True}, {}),
        ({}, {"validation_data": VALIDATION, "early_stopping": gf.EarlyStopping("val_accuracy", patience=3)}),
        ({}, {"early_stopping": gf.EarlyStopping("loss", patience=3)}),
        ({}, {"validation_data": VALIDATION, "early_stopping": gf.EarlyStopping(patience=3, larger_is_better=True)}),
    ],
    ids=["schedule", "average", "metrics", "statistics", "accuracy", "training loss", "larger is better"],
)
def test_what_needs_python_between_epochs_runs_one_by_one(
    trainer: dict[str, Any], fit: dict[str, Any], calls: list[int]
) -> None:
    assert_as_one_by_one(calls, trainer, fit, in_one_call=False)


def test_a_stalled_loss_is_examined_after_the_same_epoch(calls: list[int]) -> None:
    settings, noise = {"optimizer": gf.GradientDescent(1e-7)}, RNG.integers(0, 2, len(X))
    (said,) = assert_as_one_by_one(calls, settings, {"data": (X, noise)}, in_one_call=True)
    assert "the loss has stalled" in said


@pytest.mark.parametrize(("rate", "expected"), [(0.8, "the loss has exploded"), (3.0, "became NaN or infinite")])
def test_a_loss_that_grows_is_noticed_after_the_same_epoch(rate: float, expected: str, calls: list[int]) -> None:
    targets = (X @ np.arange(5)).astype(np.float32)[:, None]
    settings = {"loss": "mean_squared_error", "optimizer": gf.GradientDescent(rate)}
    settings |= {"sizes": [5, 1], "activation": "identity"}
    said = assert_as_one_by_one(calls, settings, {"data": (X, targets), "batch_size": 70}, in_one_call=True)
    assert expected in said[-1]


def test_a_pack_runs_them_in_one_call_too(calls: list[int]) -> None:
    networks = [gf.MLP([5, 8, 2], seed=seed, backend="numpy") for seed in range(3)]
    pack = gf.fit_many(networks, "softmax_cross_entropy", gf.Adam(0.01), X, Y, epochs=12, progress=False)
    assert bool(calls) == (native_library() is not None)
    alone = gf.MLP([5, 8, 2], seed=2, backend="numpy")
    gf.Trainer(alone, "softmax_cross_entropy", gf.Adam(0.01), threads=1).fit(
        X, Y, epochs=12, progress=False, callbacks=[EachEpoch()]
    )
    np.testing.assert_array_equal(pack[2].state, alone.state)


def test_a_request_to_stop_from_another_thread_ends_the_fit() -> None:
    network = gf.MLP([5, 8, 2], seed=1, backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01))
    begun = threading.Event()

    class Begun(gf.Callback):
        def on_fit_begin(self, trainer: Any, epochs: int) -> None:
            begun.set()

    thread = threading.Thread(
        target=lambda: trainer.fit(X, Y, epochs=10**9, progress=False, callbacks=[Begun()]), daemon=True
    )
    thread.start()
    begun.wait()
    trainer.stop()
    thread.join()
    assert trainer.history is not None
    assert trainer.history.stopped_by == "callback"
    assert network.epochs_begun == trainer.history.epochs
