"""Looks at the status of an epoch while it runs: bounded, cheap, and without effect on results."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.clock import RunStatus, StatusReading
from gradflow.training.progress.display import Display
from gradflow.training.step import epoch as epoch_module
from gradflow.training.step import evaluation as evaluation_module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 400)
STEPS = 50
LOOKS = STEPS - 1
"""The last two steps of an epoch run together."""


class Looks:
    """The looks of all epochs: how many steps were enqueued at each, and what it saw."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.0) -> None:
        monkeypatch.setattr(epoch_module, "_SECONDS_BETWEEN_LOOKS", seconds)
        self.seen: list[StatusReading | None] = []
        look = RunStatus.look

        def noted(status: RunStatus) -> StatusReading | None:
            self.seen.append(look(status))
            self.at_look(len(self.seen))
            return self.seen[-1]

        monkeypatch.setattr(RunStatus, "look", noted)

    def at_look(self, number: int) -> None:
        """Do something at a look, counted from 1."""


def fitted(backend: str, x: np.ndarray = X, **kwargs: Any) -> gf.Trainer:
    network = gf.MLP([6, 16, 3], dropout=0.1, seed=3, backend=backend)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    trainer.fit(x, Y, **{"epochs": 2, "batch_size": 8, "progress": False} | kwargs)
    return trainer


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_looks_change_no_result(backend_name: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunStatus, "look", lambda status: None)
        expected = fitted(backend_name)
    looks = Looks(monkeypatch, seconds)
    trainer = fitted(backend_name)
    assert len(looks.seen) == 2 * LOOKS if not seconds else 4 < len(looks.seen) < STEPS
    assert trainer.network.backend.to_host(trainer.network.state).tobytes() == (
        expected.network.backend.to_host(expected.network.state).tobytes()
    )
    assert trainer.history is not None
    assert expected.history is not None
    assert trainer.history["loss"] == expected.history["loss"]


def test_divergence_ends_an_epoch(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, x = Looks(monkeypatch), X.copy()
    x[8 * 9] = 3e38  # in the tenth step, if rows come in order
    with pytest.raises(gf.DivergedError, match="in epoch 1, at step 10 of 50") as caught:
        fitted(backend_name, x, shuffle=False)
    assert caught.value.step == 10
    assert len(looks.seen) == (13 if backend_name == "cupy" else 10)
    assert looks.seen[-1] is not None
    assert looks.seen[-1].first_bad_step == 10


def test_an_infinite_loss_ends_no_evaluation(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_module, "_ROWS", 8)
    trainer, looks, x = fitted(backend_name), Looks(monkeypatch), X.copy()
    x[8] = 3e38
    assert not np.isfinite(trainer.evaluate(x, Y)["loss"])
    assert len(looks.seen) == LOOKS
    accuracy = np.mean(trainer.network.predict_classes(x) == Y)
    assert trainer.evaluate(x, Y)["accuracy"] == pytest.approx(accuracy)
    history = trainer.fit(X, Y, epochs=1, validation_data=(x, Y), progress=False)
    assert history.stopped_by == "epochs"
    assert not np.isfinite(history["val_loss"][0])


def test_ctrl_c_ends_an_epoch(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(Looks):
        def at_look(self, number: int) -> None:
            if number == 20:
                signal.raise_signal(signal.SIGINT)

    looks = Interrupting(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fitted(backend_name)
    assert len(looks.seen) == 20


@pytest.mark.gpu
def test_the_host_is_at_most_three_looks_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)
    fitted("cupy")
    assert looks.seen[:3] == [None] * 3
    assert [seen.step for seen in looks.seen[3:] if seen is not None] == [
        *range(2, STEPS), *range(STEPS + 1, 2 * STEPS - 2)
    ]  # fmt: skip


@pytest.mark.gpu
def test_looks_arrive_in_order() -> None:
    cupy, backend = pytest.importorskip("cupy"), get_backend("cupy")
    array = backend.zeros(2, np.int64)
    looks, seen = backend.looks(array), []
    for _ in range(6):
        with backend.running():
            cupy.add(array, 1, out=array)
        seen.append(looks.take())
    assert seen[:3] == [None] * 3
    assert [one.tolist() for one in seen[3:] if one is not None] == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.gpu
def test_a_look_is_one_copy_and_at_most_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    simgpu, stats = pytest.importorskip("simgpu"), []

    class Counts(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            stats.append(simgpu.stats())
            simgpu.reset()

    Looks(monkeypatch)
    fitted("cupy", callbacks=[Counts()])
    assert stats[1]["d2h"]["count"] == stats[1]["syncs"] == LOOKS + 1
    fitted("cupy", callbacks=[Display(), Counts()])  # the display hears of progress without another wait
    assert (stats[3]["d2h"]["count"], stats[3]["syncs"]) == (LOOKS + 1, LOOKS + 1)
    assert stats[1]["h2d"]["count"] == stats[1]["mallocs"] == stats[1]["host_allocs"] == stats[1]["launches"] == 0
    looks = Looks(monkeypatch, 1e6)
    fitted("cupy", epochs=4)
    assert len(looks.seen) < 15  # of 200 steps: as many steps as the pace allows, which doubles
