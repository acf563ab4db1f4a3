"""Packs on a GPU: members get what they get alone, and an epoch of all of them is one launch."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf

pytestmark = pytest.mark.gpu

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=(150, 5)).astype(np.float32)
LABELS = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
FOLDS = [np.sort(RANDOM.permutation(150)[:110]) for _ in range(2)]

MEMBERS: list[dict[str, Any]] = [
    {"sizes": [5, 16, 2], "optimizer": gf.Adam(0.01)},
    {"sizes": [5, 12, 7, 2], "activation": "gelu", "dropout": 0.2, "optimizer": gf.SGD(0.1, momentum=0.9)},
    {"sizes": [5, 33, 2], "activation": "tanh", "optimizer": gf.AdamW(gf.OneCycleSchedule(0.01)), "average": 0.9},
    {"sizes": [5, 16, 2], "seed": 4, "optimizer": gf.RMSprop(0.01, factors={"0": 0.2}), "clip_norm": 0.5, "l2": 1e-3},
    {"sizes": [5, 8, 2], "seed": 5, "optimizer": gf.Lion(0.003), "metrics": ("f1", "roc_auc")},
    {"sizes": [5, 8, 2], "seed": 6, "optimizer": gf.Adam(0.01), "layer_statistics": True},
]
ROWS = [None, None, FOLDS[0], FOLDS[1], None, None]
BATCH_SIZES = [32, 50, 32, 64, 150, 7]


def trainer(member: dict[str, Any]) -> gf.Trainer:
    member = dict(member)
    names = ("sizes", "activation", "dropout", "seed")
    network = gf.MLP(**{name: member.pop(name) for name in names if name in member}, backend="cupy")
    return gf.Trainer(network, "softmax_cross_entropy", **member)


def trained(epochs: int = 3, **settings: Any) -> gf.Pack:
    pack = gf.Pack([trainer(member) for member in MEMBERS])
    pack.fit(X, LABELS, epochs=epochs, rows=ROWS, batch_size=gf.Each(BATCH_SIZES), progress=False, **settings)
    return pack


def same_bits(pack: gf.Pack, other: gf.Pack) -> None:
    for one, two in zip(pack, other, strict=True):
        for name, weight in one.get_weights().items():
            np.testing.assert_array_equal(weight, two.get_weights()[name])
    for history, others in zip(pack.histories, other.histories, strict=True):
        assert history is not None
        assert others is not None
        assert {name: history[name] for name in history} == {name: others[name] for name in others}


def test_members_get_what_they_get_alone() -> None:
    pack = trained(validation_data=(X[:40], LABELS[:40]))
    for place, (member, rows) in enumerate(zip(MEMBERS, ROWS, strict=True)):
        alone = trainer(member)
        x, y = (X, LABELS) if rows is None else (X[rows], LABELS[rows])
        settings: dict[str, Any] = {"validation_data": (X[:40], LABELS[:40]), "progress": False}
        history = alone.fit(x, y, epochs=3, batch_size=BATCH_SIZES[place], **settings)
        of_member = pack.histories[place]
        assert of_member is not None
        assert list(of_member) == list(history)
        for name in history:
            np.testing.assert_allclose(of_member[name], history[name], rtol=1e-3, atol=1e-4, err_msg=f"{place}: {name}")
        assert pack[place].epochs_begun == alone.network.epochs_begun == 3
        for name, weight in alone.network.get_weights().items():
            np.testing.assert_allclose(pack[place].get_weights()[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("validation", [False, True])
def test_an_epoch_of_all_members_is_one_launch_and_their_validation_another(validation: bool) -> None:
    simgpu = pytest.importorskip("simgpu")
    settings = {"validation_data": (X[:40], LABELS[:40])} if validation else {}
    counts = []
    for epochs in (2, 5):
        pack = gf.Pack([trainer(MEMBERS[0] | {"seed": seed}) for seed in range(9)])
        simgpu.reset()
        pack.fit(X, LABELS, epochs=epochs, progress=False, **settings)
        stats = simgpu.stats()
        others = sum(kernel["count"] for name, kernel in stats["kernels"].items() if name != "run_programs")
        counts.append((stats["kernels"]["run_programs"]["count"], others, stats["graph_launches"]))
    per_epoch = [(two - one) / 3 for one, two in zip(*counts, strict=True)]
    assert per_epoch == [1 + validation, 0, 0]


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are merged, as if they were larger."""
    from gradflow.backends.cuda.backend import CupyBackend

    monkeypatch.setattr(CupyBackend, "fastest_way", lambda backend, ops, members, alike: "merged" if ops else "alone")


ALIKE = [
    MEMBERS[0],
    MEMBERS[0] | {"seed": 3, "optimizer": gf.Adam(0.03)},
    MEMBERS[0] | {"seed": 4, "l2": 1e-2},
    MEMBERS[0] | {"seed": 5, "optimizer": gf.SGD(0.1)},
]


STOPPING = [None, gf.EarlyStopping("loss", patience=1, min_delta=10), None, None]


def trained_alike(epochs: int = 4, **settings: Any) -> gf.Pack:
    pack = gf.Pack([trainer(member) for member in ALIKE])
    folds = [FOLDS[0], FOLDS[1], FOLDS[1], FOLDS[0]]
    pack.fit(X, LABELS, epochs=epochs, rows=folds, progress=False, early_stopping=gf.Each(STOPPING), **settings)
    return pack


@pytest.mark.usefixtures("merges")
def test_merged_members_get_what_they_get_alone() -> None:
    pack = trained_alike(validation_data=(X[:40], LABELS[:40]))
    assert [history and history.epochs for history in pack.histories] == [4, 2, 4, 4]
    for place, (member, stopping) in enumerate(zip(ALIKE, STOPPING, strict=True)):
        alone, fold = trainer(member), FOLDS[place in (1, 2)]
        settings: dict[str, Any] = {"validation_data": (X[:40], LABELS[:40]), "progress": False}
        history = alone.fit(X[fold], LABELS[fold], epochs=4, early_stopping=stopping, **settings)
        of_member = pack.histories[place]
        assert of_member is not None
        for name in history:
            np.testing.assert_allclose(of_member[name], history[name], rtol=1e-3, atol=1e-4, err_msg=f"{place}: {name}")
        for name, weight in alone.network.get_weights().items():
            np.testing.assert_allclose(pack[place].get_weights()[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("merges")
def test_merged_members_share_their_launches() -> None:
    simgpu = pytest.importorskip("simgpu")
    counts = []
    for members in (2, 7):
        for epochs in (2, 5):
            pack = gf.Pack([trainer(MEMBERS[0] | {"seed": seed}) for seed in range(members)])
            simgpu.reset()
            pack.fit(X, LABELS, epochs=epochs, progress=False, validation_data=(X[:40], LABELS[:40]))
            counts.append(simgpu.stats()["graph_launches"])
    assert counts[1] - counts[0] == counts[3] - counts[2] > 0


@pytest.mark.usefixtures("merges")
def test_an_interrupted_pack_of_merged_members_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    class Interrupts(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
            if epoch == 3:
                signal.raise_signal(signal.SIGINT)

    saved: dict[str, Any] = {"output": tmp_path / "runs", "checkpoint": gf.Checkpoint(every_epochs=1)}
    with pytest.raises(KeyboardInterrupt):
        trained_alike(callbacks=[Interrupts()], **saved)
    same_bits(trained_alike(resume=tmp_path / "runs"), trained_alike())


def test_the_same_pack_gives_the_same_bits_again() -> None:
    same_bits(trained(), trained())


def test_an_interrupted_pack_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    class Interrupts(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
            if epoch == 2 and trainer is pack.trainers[1]:
                signal.raise_signal(signal.SIGINT)

    saved: dict[str, Any] = {"output": tmp_path / "runs", "checkpoint": gf.Checkpoint(every_epochs=1)}
    pack = gf.Pack([trainer(member) for member in MEMBERS])
    common: dict[str, Any] = {"rows": ROWS, "batch_size": gf.Each(BATCH_SIZES), "progress": False}
    with pytest.raises(KeyboardInterrupt):
        pack.fit(X, LABELS, epochs=4, callbacks=[Interrupts()], **common, **saved)
    assert [history and history.stopped_by for history in pack.histories] == ["interrupted"] * 6
    same_bits(trained(4, resume=tmp_path / "runs"), trained(4))


def test_an_error_of_one_member_ends_all_and_is_raised(tmp_path: Path) -> None:
    class Fails(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
            if epoch == 2 and trainer is pack.trainers[1]:
                raise RuntimeError("no")

    pack = gf.Pack([trainer(member) for member in MEMBERS])
    with pytest.raises(RuntimeError, match="no"):
        pack.fit(X, LABELS, epochs=4, callbacks=[Fails()], progress=False, output=tmp_path)
    assert [history and history.epochs for history in pack.histories] == [2] * 6
    pack.fit(X, LABELS, epochs=1, progress=False, output=tmp_path, overwrite=True)  # the folders are free


def test_a_member_that_diverges_ends_alone() -> None:
    members = [*MEMBERS, {"sizes": [5, 16, 2], "optimizer": gf.SGD(1e30)}]
    pack = gf.Pack([trainer(member) for member in members])
    with pytest.warns(gf.TrainingWarning, match="member 6 of 7 diverged"):
        pack.fit(X, LABELS, epochs=3, progress=False)
    assert list(pack.errors) == [6]
    assert [history and history.epochs for history in pack.histories[:6]] == [3] * 6


def test_members_that_stop_early_leave() -> None:
    stopping = [None, gf.EarlyStopping("loss", patience=1, min_delta=10), None, None, None, None]
    pack = trained(6, early_stopping=gf.Each(stopping))
    assert [history and history.epochs for history in pack.histories] == [6, 2, 6, 6, 6, 6]


def test_members_with_16_bit_numbers_train_one_after_the_other() -> None:
    members = [MEMBERS[0] | {"precision": "float16", "seed": seed} for seed in range(3)]
    pack = gf.Pack([trainer(member) for member in members])
    pack.fit(X, LABELS, epochs=2, progress=False)
    assert [history and history.epochs for history in pack.histories] == [2, 2, 2]


def test_members_wait_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradflow.backends.cuda import backend as module

    class Little:
        free = 0

    monkeypatch.setattr(module.CupyBackend, "memory_plan", lambda backend: Little())
    monkeypatch.setattr(
        "gradflow.training.loop.within_memory", lambda objective, data, validation, **others: (data, validation)
    )
    pack = trained(2)
    assert [history and history.epochs for history in pack.histories] == [2] * 6


def test_an_ensemble_is_chosen_after_each_epoch_of_all() -> None:
    chosen = gf.EnsembleSelection()
    pack = trained(3, validation_data=(X[:60], LABELS[:60]), ensemble=chosen)
    assert pack.ensemble is not None
    predicted = pack.ensemble.predict(X[:60])
    assert predicted.shape == (60, 2)
    assert np.mean(predicted.argmax(axis=1) == LABELS[:60]) > 0.5
