"""Schedules: their formulas by hand and compared with PyTorch's; invalid arguments; the rates that training really
used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.random import shuffled_rows
from gradflow.schedules import SCHEDULES as REGISTERED
from gradflow.schedules import ConstantSchedule, get_schedule

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
Y = X @ RNG.normal(size=(4, 2)) + 0.1 * RNG.normal(size=(70, 2))

# Each schedule for 12 epochs of one step, next to PyTorch's with the same arguments.
TORCH_CASES: dict[str, tuple[gf.Schedule, Any]] = {
    "step": (gf.StepSchedule(0.3, every=3, factor=0.5), lambda torch, rule: torch.StepLR(rule, 3, 0.5)),
    "exponential": (gf.ExponentialSchedule(0.3, 0.9), lambda torch, rule: torch.ExponentialLR(rule, 0.9)),
    "cosine": (
        gf.CosineSchedule(0.3, final=0.01),
        lambda torch, rule: torch.CosineAnnealingLR(rule, 12, eta_min=0.01),
    ),
    "restarts": (
        gf.CosineSchedule(0.3, final=0.01, restart_every=4),
        lambda torch, rule: torch.CosineAnnealingWarmRestarts(rule, 4, eta_min=0.01),
    ),
    "longer restarts": (
        gf.CosineSchedule(0.3, restart_every=1, growth=2),
        lambda torch, rule: torch.CosineAnnealingWarmRestarts(rule, 1, T_mult=2),
    ),
}


def rates(schedule: gf.Schedule, epochs: int, steps: int = 1, history: dict[str, list[float]] | None = None) -> Any:
    return schedule.rates(np.arange(epochs * steps) / steps, epochs, history or {})


@pytest.mark.peers
@pytest.mark.parametrize("case", TORCH_CASES)
def test_matches_pytorch(case: str) -> None:
    import torch

    schedule, make = TORCH_CASES[case]
    rule = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = make(torch.optim.lr_scheduler, rule)
    expected = []
    for _ in range(12):
        expected.append(theirs.get_last_lr()[0])
        rule.step()
        theirs.step()
    assert_allclose(rates(schedule, 12), expected, rtol=1e-12, atol=1e-17)


@pytest.mark.peers
def test_one_cycle_matches_pytorch() -> None:
    import torch

    rule = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        rule, 0.3, total_steps=101, pct_start=0.255, div_factor=20, final_div_factor=50, cycle_momentum=False
    )
    # PyTorch's rise ends at step 0.255 * 101 - 1, and its cycle at the last step; ours at the end of training.
    expected = []
    for _ in range(100):
        expected.append(theirs.get_last_lr()[0])
        rule.step()
        theirs.step()
    rise = (0.255 * 101 - 1) / 100
    ours = rates(gf.OneCycleSchedule(0.3, rise=rise, start_division=20, end_division=50), 10, steps=10)
    assert_allclose(ours, expected, rtol=1e-9)


def test_warm_up_rises_linearly_and_meets_the_cosine() -> None:
    schedule = gf.CosineSchedule(0.4, warmup=2.0, final=0.1)
    found = rates(schedule, 10, steps=4)
    assert_allclose(found[:8], 0.4 * np.arange(8) / 8)
    assert found[8] == 0.4
    assert_allclose(found[24], 0.1 + 0.15 * (1 + math.cos(math.pi * 4 / 8)))
    assert (np.diff(found[8:]) < 0).all()


def test_coslog_has_cycles_that_double() -> None:
    schedule = gf.CosLogSchedule(0.4)
    of_steps = rates(schedule, 15, steps=64)
    starts = np.array([0, 1, 3, 7]) * 64
    assert_allclose(of_steps[starts], 0, atol=1e-12)
    peaks = (2 ** (np.arange(4) + 0.5) - 1) / 15 * 15  # halfway through a cycle on the scale of log2
    assert_allclose(schedule.rates(peaks, 15, {}), 0.4, rtol=1e-12)
    t = np.arange(15 * 64) / (15 * 64)
    assert_allclose(of_steps, 0.4 * 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t))), rtol=1e-9, atol=1e-12)


def test_flat_cosine_by_hand() -> None:
    by_hand = [0.4, 0.4, 0.4, 0.1 + 0.3 * (1 + math.cos(math.pi / 3)) / 2, 0.1 + 0.3 * (1 - math.cos(math.pi / 3)) / 2]
    assert_allclose(rates(gf.FlatCosineSchedule(0.4, flat=0.4, final=0.1), 5), by_hand, rtol=1e-12)
    assert_allclose(gf.FlatCosineSchedule(0.4).rates(np.array([8.0]), 8, {}), 0, atol=1e-15)


def test_plateau_counts_epochs_without_progress() -> None:
    schedule = gf.PlateauSchedule(0.8, factor=0.5, patience=2, lowest=0.15)
    losses = [5, 4, 4, 4, 3.9, 4, 4, 4, 4, 4, 4]
    found = [float(rates(schedule, 1, history={"loss": losses[:epoch]})[0]) for epoch in range(len(losses) + 1)]
    assert found == [0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.15, 0.15, 0.15]
    accuracy = gf.PlateauSchedule(0.8, monitor="val_accuracy", patience=1, min_delta=0.05)
    assert rates(accuracy, 1, history={"val_accuracy": [0.5, 0.6]})[0] == 0.8
    assert_allclose(rates(accuracy, 1, history={"val_accuracy": [0.5, 0.6, 0.62]})[0], 0.08)


def weights_in_numpy(weight: np.ndarray, rates: np.ndarray, epochs: int) -> np.ndarray:
    """Train linear regression with these rates in plain NumPy, in batches of 16; return the weights."""
    step = 0
    for epoch in range(epochs):
        order = shuffled_rows(70, seed=9, epoch=epoch)
        for start in range(0, 70, 16):
            chosen = order[start : start + 16]
            error = X[chosen] @ weight - Y[chosen]
            weight = weight - rates[step] * 2 * X[chosen].T @ error / error.size
            step += 1
    return weight


SCHEDULES = [
    gf.StepSchedule(0.1, every=1, factor=0.3),
    gf.ExponentialSchedule(0.1, 0.5),
    gf.CosineSchedule(0.2, warmup=0.6, restart_every=1.3, growth=1.5),
    gf.OneCycleSchedule(0.2),
    gf.CosLogSchedule(0.2, cycles=2),
    gf.FlatCosineSchedule(0.2, flat=0.25, final=0.01),
    lambda time: 0.1 / (1 + time),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: getattr(schedule, "name", "function"))
def test_each_training_step_uses_its_rate(schedule: Any, backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2, bias=False)], dtype="float64", seed=9, backend=backend_name)
    weight = network.get_weights()["0.weight"]
    trainer = gf.Trainer(network, "mean_squared_error", gf.GradientDescent(schedule))
    history = trainer.fit(X, Y, epochs=4, batch_size=16)
    used = get_schedule(schedule).rates(np.arange(20) / 5, 4, {})
    assert_allclose(network.get_weights()["0.weight"], weights_in_numpy(weight, used, 4), rtol=1e-11)
    assert history["learning_rate"] == used[4::5].tolist()


def test_the_rate_falls_on_a_plateau_of_the_validation_loss(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2)], seed=9, backend=backend_name)
    schedule = gf.PlateauSchedule(0.05, factor=0.5, patience=1)
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(schedule))
    history = trainer.fit(X, Y, epochs=25, batch_size=16, validation_data=(X, -Y))
    worse = np.diff(np.minimum.accumulate(history["val_loss"])) == 0
    expected = 0.05 * 0.5 ** np.concatenate([[0, 0], np.cumsum(worse)])[:25]
    assert_allclose(history["learning_rate"], expected)
    assert history["learning_rate"][-1] < 0.01


def test_a_constant_rate_is_no_column_of_the_history(backend_name: str) -> None:
    network = gf.Sequential([gf.Dense(4, 2)], backend=backend_name)
    assert "learning_rate" not in gf.Trainer(network, "mean_squared_error", gf.SGD(0.1)).fit(X, Y, epochs=1)


@pytest.mark.parametrize(
    ("batch_size", "accumulate"),
    [(30, 2), (30, 3), (30, 5), (45, 3), (45, 5), (None, 2), (None, 3), (None, 5), (None, 48)],
)
def test_accumulated_gradients_are_those_of_the_whole_batch(
    accumulate: int, batch_size: int | None, backend_name: str
) -> None:
    def trained(parts: int) -> tuple[np.ndarray, list[float]]:
        layers = [gf.Dense(4, 6), gf.Tanh(), gf.Dense(6, 2)]
        network = gf.Sequential(layers, dtype="float64", seed=3, backend=backend_name)
        trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.01), l2=0.1, clip_norm=0.5)
        history = trainer.fit(X, Y, epochs=3, batch_size=batch_size, accumulate=parts, shuffle=batch_size is not None)
        return network.backend.to_host(network.parameters), history["loss"]

    whole, in_parts = trained(1), trained(accumulate)
    assert_allclose(in_parts[0], whole[0], rtol=1e-9, atol=1e-12)
    assert_allclose(in_parts[1], whole[1], rtol=1e-12)


def test_parts_of_a_batch_have_their_own_dropout_masks(backend_name: str) -> None:
    def gradient(rows: int, accumulate: int) -> np.ndarray:
        network = gf.Sequential([gf.Dropout(0.5), gf.Dense(4, 1)], seed=5, backend=backend_name)
        trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(1e-9))
        trainer.fit(np.ones((rows, 4)), np.ones((rows, 1)), epochs=1, batch_size=rows, accumulate=accumulate)
        return network.backend.to_host(network.gradients)

    # All rows are equal: with one mask for all parts, the gradient would be that of the first part.
    assert not np.allclose(gradient(8, accumulate=4), gradient(2, accumulate=1))


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "cosine that ends": (gf.CosineSchedule(0.1, epochs=4), {}, "ends after 4 epochs, but training has 5"),
    "one cycle that ends": (gf.OneCycleSchedule(0.1, epochs=4.5), {}, "ends after 4.5 epochs, but training has 5"),
    "only warm-up": (gf.CosineSchedule(0.1, warmup=5), {}, "a warm-up of 5 epochs leaves nothing of 5"),
    "unknown value": (gf.PlateauSchedule(0.1, monitor="val_loss"), {}, "cannot monitor 'val_loss'; valid names: loss"),
    "function below 0": (lambda t: 0.1 - 0.04 * t, {}, "returned -0.01.* for epoch 3; it must return finite numbers"),
    "function without number": (lambda t: None, {}, "returned None for epoch 0"),
    "parts that do not fit": (0.1, {"accumulate": 3}, "batch_size must be a multiple of accumulate, got 32 and 3"),
    "no parts": (0.1, {"accumulate": 0}, "accumulate must be at least 1, got 0"),
}


def test_a_function_is_not_called_for_each_of_many_epochs_before_the_first() -> None:
    """It may be slow, and training may end long before its last epoch."""
    calls: list[float] = []

    class Stops(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            trainer.stop()

    def rate(time: float) -> float:
        calls.append(time)
        return 0.1

    trainer = gf.Trainer(gf.Sequential([gf.Dense(4, 2)]), "mean_squared_error", gf.SGD(rate))
    trainer.fit(X, Y, epochs=10**12, callbacks=[Stops()])
    assert len(calls) < 1100
    assert {0.0, 10**12 - 1.0} <= set(calls)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_first_step(case: str, backend_name: str) -> None:
    schedule, arguments, message = REFUSED[case]
    network = gf.Sequential([gf.Dense(4, 2)], backend=backend_name)
    before = network.get_weights()["0.weight"]
    with pytest.raises(gf.DataError, match=message):
        gf.Trainer(network, "mean_squared_error", gf.SGD(schedule)).fit(X, Y, epochs=5, **arguments)
    assert network.get_weights()["0.weight"].tobytes() == before.tobytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gf.SGD("fast"), "learning_rate must be a finite number above 0, got 'fast'"),
        (lambda: gf.SGD(gf.CosineSchedule), "got the class"),
        (lambda: gf.StepSchedule(0.1, every=0), "every must be above 0"),
        (lambda: gf.ExponentialSchedule(0.1, -1), "factor must be above 0"),
        (lambda: gf.CosineSchedule(0.1, final=0.1), "final must be below learning_rate"),
        (lambda: gf.CosineSchedule(0.1, restart_every=2, epochs=5), "omit epochs"),
        (lambda: gf.CosineSchedule(0.1, growth=0.5), "growth must be at least 1"),
        (lambda: gf.CosLogSchedule(0), "learning_rate must be above 0"),
        (lambda: gf.CosLogSchedule(0.1, cycles=0), "cycles must be between 1 and 32, got 0"),
        (lambda: gf.FlatCosineSchedule(0.1, flat=1), "flat must be at least 0 and below 1"),
        (lambda: gf.FlatCosineSchedule(0.1, final=0.1), "final must be below learning_rate"),
        (lambda: gf.OneCycleSchedule(0.1, rise=1), "rise must be at least 0 and below 1"),
        (lambda: gf.OneCycleSchedule(0.1, end_division=0.5), "end_division must be at least 1"),
        (lambda: gf.PlateauSchedule(0.1, patience=0), "patience must be at least 1"),
    ],
)
def test_wrong_arguments(make: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        make()


def test_schedules_say_what_they_are() -> None:
    assert repr(gf.Adam(gf.StepSchedule(0.1, every=2))).startswith(
        "Adam(learning_rate=StepSchedule(learning_rate=0.1, every=2.0, factor=0.1)"
    )
    assert gf.SGD(0.5).learning_rate == 0.5
    for schedule in SCHEDULES[:-1]:
        assert isinstance(schedule, gf.Schedule)
        assert repr(type(schedule)(**schedule.config())) == repr(schedule)


def test_range_test_finds_a_rate_that_works(backend_name: str) -> None:
    network = gf.MLP([4, 16, 2], seed=1, backend=backend_name)
    before = network.get_weights()["0.weight"]
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.1, momentum=0.5))
    result = gf.learning_rate_range_test(trainer, X, Y, lowest=1e-5, highest=1e3, steps=80, batch_size=16)
    assert repr(result).startswith(f"RangeTest({len(result.rates)} steps, rates 1e-05 to ")
    assert network.get_weights()["0.weight"].tobytes() == before.tobytes()
    assert len(result.rates) == len(result.losses) == len(result.smoothed)
    assert np.isfinite(result.losses).all()
    assert_allclose(result.rates[:2], [1e-5, 1e-5 * 1e8 ** (1 / 79)])
    assert result.proposed is not None
    assert 1e-3 < result.proposed < 1
    # The first step has the loss of the untrained network on the first batch.
    rows = shuffled_rows(70, seed=1, epoch=0)[:16]
    assert_allclose(result.losses[0], ((network.predict(X[rows]) - Y[rows]) ** 2).mean(), rtol=1e-5)
    pytest.importorskip("matplotlib")
    assert len(result.plot().axes[0].lines) == 3


def test_range_test_standardizes_targets_as_training_does(backend_name: str) -> None:
    """Large targets are as easy as small ones, and the network is left without a scale."""
    network = gf.MLP([X.shape[1], 8, Y.shape[1]], seed=1, backend=backend_name, dtype="float64")
    trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.1), standardize_targets=True)
    results = [gf.learning_rate_range_test(trainer, X, y, steps=20, batch_size=16) for y in (Y, 1e6 + 1e4 * Y)]
    assert_allclose(results[1].losses, results[0].losses, rtol=1e-6)
    assert network.output_scale is None


def test_range_test_refuses() -> None:
    trainer = gf.Trainer(gf.MLP([4, 2], backend="numpy"), "mean_squared_error", gf.SGD(0.1))
    with pytest.raises(gf.DataError, match=r"highest must be above lowest, which is 1.0, got 0.5"):
        gf.learning_rate_range_test(trainer, X, Y, lowest=1, highest=0.5)
    for steps in (9, 10**12, 2**64):
        with pytest.raises(gf.DataError, match=f"steps must be between 10 and 1000000, got {steps}"):
            gf.learning_rate_range_test(trainer, X, Y, steps=steps)
    with pytest.raises(gf.DataError, match="had a finite loss; start with a rate below lowest=1e"):
        gf.learning_rate_range_test(trainer, X, Y, lowest=1e30, highest=1e38, steps=10)


def test_a_subclass_of_the_constant_schedule_has_rates_of_its_own() -> None:
    class Halving(ConstantSchedule):
        name = "halving_constant"

        def rates(self, times: np.ndarray, epochs: int, history: Any) -> np.ndarray:
            return super().rates(times, epochs, history) * 0.5 ** np.floor(times)

    try:
        trainer = gf.Trainer(gf.MLP([3, 2], backend="numpy"), "mean_squared_error", gf.SGD(Halving(0.4)))
        history = trainer.fit(np.zeros((9, 3)), np.zeros((9, 2)), epochs=3, progress=False)
        assert history["learning_rate"] == [0.4, 0.2, 0.1]
    finally:
        del REGISTERED["halving_constant"]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        (0.1, r"must return a number for each of 3 steps, an array of shape \(3,\), got float64 \(\)"),
        (np.full(2, 0.1), r"got float64 \(2,\)"),
        (np.array(["0.1"] * 3), r"got <U3 \(3,\)"),
        (np.array([0.1, np.nan, 0.1]), "must return finite rates, at least 0, got nan"),
        (np.array([0.1, -0.5, 0.1]), "must return finite rates, at least 0, got -0.5"),
    ],
)
def test_rates_of_a_user_schedule_are_checked(rates: Any, said: str) -> None:
    made: Any = type("Own", (gf.Schedule,), {"rates": lambda self, times, epochs, history: rates})
    try:
        trainer = gf.Trainer(gf.MLP([3, 2], backend="numpy"), "mean_squared_error", gf.SGD(made()))
        with pytest.raises(gf.DataError, match=said):
            trainer.fit(np.zeros((9, 3)), np.zeros((9, 2)), epochs=1, batch_size=3, progress=False)
    finally:
        del REGISTERED["Own"]
