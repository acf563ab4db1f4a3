"""A pack besides training: refusals, errors of members, folders, interruptions, callbacks."""

from __future__ import annotations

import copy
import os
import pickle
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends.blas import numpy_blas
from gradflow.pack import memory

RANDOM = np.random.default_rng(2)
X = RANDOM.normal(size=(90, 4)).astype(np.float32)
LABELS = np.arange(90) % 3


def trainer(seed: int = 0, sizes: tuple[int, ...] = (4, 8, 3), **settings: Any) -> gf.Trainer:
    return gf.Trainer(gf.MLP(sizes, seed=seed, backend="numpy"), "softmax_cross_entropy", "adam", **settings)


def pack_of(members: int, **settings: Any) -> gf.Pack:
    return gf.Pack([trainer(seed, **settings) for seed in range(members)])


def states(pack: gf.Pack) -> list[np.ndarray]:
    return [network.state.copy() for network in pack]


def refused(pack: gf.Pack, message: str, **settings: Any) -> None:
    """Check that a fit is refused with a message, before anything has changed."""
    before = states(pack)
    with pytest.raises(gf.DataError, match=message):
        pack.fit(**{"x": X, "y": LABELS, "epochs": 1, "progress": False} | settings)
    for was, network in zip(before, pack, strict=True):
        np.testing.assert_array_equal(network.state, was)
        assert network.epochs_begun == 0


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_members_that_do_not_match() -> None:
    with pytest.raises(gf.DataError, match="at least one member, got an empty list"):
        gf.Pack([])
    with pytest.raises(gf.DataError, match="trainers must be a list of gradflow Trainers"):
        gf.Pack([gf.MLP([4, 3])])  # type: ignore[list-item]
    with pytest.raises(gf.DataError, match="member 0 takes 4 and member 1 5"):
        gf.Pack([trainer(), trainer(sizes=(5, 8, 3))])
    other = gf.Trainer(gf.MLP([4, 1], backend="numpy"), "mean_squared_error", "adam")
    with pytest.raises(
        gf.DataError, match="'softmax_cross_entropy' and member 1 'mean_squared_error'; make a pack for"
    ):
        gf.Pack([trainer(), other])
    reference = gf.Trainer(gf.MLP([4, 3], backend="reference"), "softmax_cross_entropy", "adam")
    with pytest.raises(gf.DataError, match="member 0 is on 'numpy', 'cpu', and member 1 on 'reference', 'cpu'"):
        gf.Pack([trainer(), reference])
    same = trainer()
    with pytest.raises(gf.DataError, match=r"members 1 and 2 have the same network, .* network.copy\(\)"):
        gf.Pack([trainer(), same, gf.Trainer(same.network, "softmax_cross_entropy", "sgd")])
    named, others = trainer(), trainer()
    named.network.feature_names, others.network.feature_names = list("abcd"), list("abce")
    with pytest.raises(gf.DataError, match="those of member 0 and member 1 differ by name"):
        gf.Pack([named, others])


def test_arguments_that_do_not_match_the_members() -> None:
    pack = pack_of(2)
    refused(pack, r"epochs=Each\(...\) must have one value for each of the 2 members, got 3", epochs=gf.Each([1, 2, 3]))
    refused(pack, "member 1: epochs must be at least 1, got 0", epochs=gf.Each([1, 0]))
    refused(pack, "rows must list the rows of each of the 2 members, got 3", rows=[None, None, None])
    refused(pack, r"rows\[1\] must hold indices from 0 to 89, got 0 to 90", rows=[None, [0, 90]])
    refused(pack, r"rows\[0\] must hold indices from 0 to 89, got -1 to 1", rows=[[-1, 1], None])
    refused(pack, r"rows\[0\] must be the indices of at least one row, or a mask of shape \(90,\)", rows=[[], None])
    refused(pack, r"rows\[0\] must be the indices", rows=[np.ones(80, bool), None])
    refused(pack, "x has 90 rows, but y has 80", y=LABELS[:80], rows=[np.arange(9), None])
    refused(
        pack, "member 1: early stopping cannot monitor 'val_loss'", early_stopping=gf.Each([None, gf.EarlyStopping()])
    )
    refused(pack, "threads must be at least 1", threads=0)
    source = gf.data.Arrays(X, LABELS)
    refused(pack, "rows.*needs data in memory, but x is read from a source", x=source, y=None, rows=[np.arange(9)] * 2)
    with pytest.raises(gf.DataError, match="Each takes a list with one value for each member, got 3"):
        gf.Each(3)  # type: ignore[arg-type]


def test_rows_without_a_class_are_refused_by_its_name() -> None:
    pack, fold = pack_of(2), np.flatnonzero(LABELS != 2)
    refused(pack, "member 1: its rows lack class 2, which occur in y, .* stratified folds", rows=[None, fold])
    pack.may_lack_classes = True
    pack.fit(X, LABELS, epochs=1, rows=[None, fold], progress=False)
    refused_validation = {"rows": [None, fold], "validation_rows": [[0, 1, 2], [0, 1, 2]]}
    with pytest.raises(gf.DataError, match="member 1: validation y has classes that do not occur in training: 2"):
        pack.fit(X, LABELS, epochs=1, progress=False, **refused_validation)


def test_two_members_in_one_folder(tmp_path: Path) -> None:
    folders = gf.Each([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    refused(pack_of(2), "members 0 and 1 would both write to .*; give each its own folder", output=folders)
    assert not list(tmp_path.iterdir())


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8 kB\nMemAvailable: 2 kB\n")
    monkeypatch.setattr(memory, "_MEMORY", meminfo)
    refused(pack_of(3), r"2 members trained at the same time need 0.0 GB of memory, .* 1 of them would fit", threads=2)
    with pytest.raises(gf.DataError, match=r"copies of the network for 3 groups need .* 2 of them would fit\. Train"):
        gf.fit_many(gf.MLP([4, 12, 3]), "softmax_cross_entropy", "adam", X, LABELS, epochs=1, group=LABELS)
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "none")
    pack_of(3).fit(X, LABELS, epochs=1, progress=False)


def test_a_network_that_is_being_trained() -> None:
    pack = pack_of(2)
    entered, done = threading.Event(), threading.Event()

    class Wait(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
            entered.set()
            done.wait(60)

    elsewhere = threading.Thread(
        target=lambda: pack.trainers[1].fit(X, LABELS, epochs=1, progress=False, callbacks=[Wait()])
    )
    elsewhere.start()
    entered.wait(60)
    try:
        with pytest.raises(gf.GradflowError, match="another thread is training this network"):
            pack.fit(X, LABELS, epochs=1, progress=False)
    finally:
        done.set()
        elsewhere.join()
    assert pack[0].epochs_begun == 0


# -- members that fail -------------------------------------------------------------------------------------------------


def diverging(seed: int) -> gf.Trainer:
    network = gf.MLP([4, 8, 3], seed=seed, backend="numpy")
    return gf.Trainer(network, "softmax_cross_entropy", gf.SGD(1e30))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_member_that_diverges_ends_alone(threads: int) -> None:
    pack = gf.Pack([trainer(0), diverging(1), trainer(2)])
    with pytest.warns(gf.TrainingWarning, match=r"member 1 of 3 diverged; .* Member 1: the loss"):
        histories = pack.fit(X, LABELS, epochs=3, threads=threads, progress=False)
    assert list(pack.errors) == [1]
    assert isinstance(pack.errors[1], gf.DivergedError)
    ended = [None if history is None else history.stopped_by for history in histories]
    assert ended == ["epochs", "diverged", "epochs"]
    assert all(np.isfinite(network.state).all() for network in pack)
    single = trainer(2, threads=1)
    single.fit(X, LABELS, epochs=3, progress=False)
    np.testing.assert_array_equal(pack[2].state, single.network.state)


def test_an_error_if_all_diverge() -> None:
    pack = gf.Pack([diverging(0), diverging(1)])
    with pytest.raises(gf.DivergedError, match="became NaN or infinite"):
        pack.fit(X, LABELS, epochs=2, progress=False)
    assert list(pack.errors) == [0, 1]


class Break(gf.Callback):
    """Raises an error after an epoch of one network."""

    def __init__(self, network: gf.Sequential, after: int) -> None:
        self.network, self.after = network, after

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if trainer.network is self.network and epoch == self.after:
            raise RuntimeError("no room")


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_callback_ends_all(threads: int) -> None:
    pack = pack_of(4)
    with pytest.raises(RuntimeError, match="no room") as raised:
        pack.fit(X, LABELS, epochs=100_000, threads=threads, progress=False, callbacks=[Break(pack[0], 2)])
    assert raised.value.__notes__ == ["in member 0 of the pack"]
    assert all(not network.access.is_training for network in pack)
    pack.fit(X, LABELS, epochs=1, progress=False)


def test_warnings_name_their_members_once() -> None:
    pack = pack_of(3)
    far = X * 1e4
    with pytest.warns(gf.TrainingWarning) as given:
        pack.fit(far, LABELS, epochs=40, threads=2, progress=False)
    texts = [str(warning.message) for warning in given]
    assert all(re.match(r"members? \d(, \d)*: ", text) for text in texts)
    assert len(texts) == len(set(texts))
    assert all(warning.filename == __file__ for warning in given)


# -- folders, resuming, repeating --------------------------------------------------------------------------------------


def test_each_member_has_a_run_folder_that_can_be_repeated(tmp_path: Path) -> None:
    pack, rows = pack_of(3), [None, np.arange(60), np.arange(30, 90)]
    pack.fit(X, LABELS, epochs=2, rows=rows, output=tmp_path / "run", progress=False)
    folders = sorted((tmp_path / "run").iterdir())
    assert [folder.name for folder in folders] == ["member-000", "member-001", "member-002"]
    for folder, network, chosen in zip(folders, pack, rows, strict=True):
        np.testing.assert_array_equal(gf.load(folder).state, network.state)
        data = (X, LABELS) if chosen is None else (X[chosen], LABELS[chosen])
        assert gf.repeat(folder, *data).is_same
    refused(pack_of(3), "member 0: .* already contains|already contains", output=tmp_path / "run")


class Interrupt(gf.Callback):
    """Sends Ctrl-C to this process after some epochs of all members, and waits until Python has taken notice."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        self.left -= 1
        if not self.left:
            handler = signal.getsignal(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            until = time.monotonic() + 120
            while signal.getsignal(signal.SIGINT) == handler and time.monotonic() < until:
                time.sleep(0.001)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("after", [1, 8])
def test_an_interrupted_pack_resumes_bit_for_bit(tmp_path: Path, threads: int, after: int) -> None:
    whole, settings = pack_of(4), {"epochs": gf.Each([5, 3, 4, 2]), "progress": False, "batch_size": 16}
    whole.fit(X, LABELS, **settings)
    pack = pack_of(4)
    saved: dict[str, Any] = {"output": tmp_path / "run", "checkpoint": gf.Checkpoint()}
    with pytest.raises(KeyboardInterrupt):
        pack.fit(X, LABELS, threads=threads, callbacks=[Interrupt(after)], **saved, **settings)
    assert "interrupted" in {None if history is None else history.stopped_by for history in pack.histories}
    resumed = pack_of(4)
    resumed.fit(X, LABELS, threads=threads, resume=tmp_path / "run", **settings)
    for place in range(4):
        np.testing.assert_array_equal(resumed[place].state, whole[place].state)
        assert dict(resumed.histories[place] or {}) == dict(whole.histories[place] or {})
        assert (tmp_path / "run" / f"member-{place:03}" / "checkpoints").is_dir()


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    refused(pack_of(2), "there is no pack to resume in .*: none of its members has a checkpoint", resume=tmp_path)


# -- callbacks, threads, copies ----------------------------------------------------------------------------------------


class Record(gf.Callback):
    """Records calls, and how many run at a time."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any]] = []
        self.inside = self.most = 0

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self.calls.append((trainer, "begin"))

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        trainer.network.predict(X[:2])
        if epoch == 2:
            trainer.stop()
        self.calls.append((trainer, epoch))
        self.inside -= 1

    def on_fit_end(self, trainer: Any, history: Any) -> None:
        self.calls.append((trainer, history.stopped_by))


def test_callbacks_are_called_one_at_a_time_for_each_member() -> None:
    pack, record = pack_of(4), Record()
    pack.fit(X, LABELS, epochs=5, threads=3, callbacks=[record], progress=False)
    assert record.most == 1
    for each in pack.trainers:
        assert [call for trainer, call in record.calls if trainer is each] == ["begin", 1, 2, "callback"]
    own = Record()
    pack.fit(X, LABELS, epochs=1, callbacks=gf.Each([[], [own], [], []]), progress=False)
    assert [call for _, call in own.calls] == ["begin", 1, "epochs"]


@pytest.mark.skipif(numpy_blas() is None, reason="the threads of this BLAS are unknown")
def test_the_blas_has_one_thread_while_a_pack_is_trained() -> None:
    blas = numpy_blas()
    assert blas is not None
    before, seen = blas.threads, []

    class Look(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
            seen.append(blas.threads)

    pack = gf.Pack([trainer(seed, threads=2) for seed in range(2)])
    pack.fit(X, LABELS, epochs=2, callbacks=[Look()], progress=False)
    assert seen == [1] * 4
    assert blas.threads == before


def test_progress_counts_the_epochs_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    pack = pack_of(3)
    pack.fit(X, LABELS, epochs=gf.Each([2, 4, 4]), progress=True)
    lines = capsys.readouterr().err.splitlines()
    counts = [line.split("  ")[0] for line in lines]
    assert counts == [f"epoch {epoch}/10 of 3 networks" for epoch in range(1, 11)]
    means = [float(line.split("  loss ")[1].split()[0]) for line in lines]
    members = [history["loss"][-1] for history in pack.histories]
    assert means[-1] == pytest.approx(np.mean(members), abs=1e-4)


def test_a_pack_is_copied_and_pickled_with_its_networks() -> None:
    pack = pack_of(2)
    pack.fit(X, LABELS, epochs=1, progress=False)
    assert (len(pack), list(pack), pack.networks) == (2, [pack[0], pack[1]], (pack[0], pack[1]))
    assert pack[-1] is pack[1]
    assert repr(pack).startswith("Pack of 2: [Trainer(MLP(")
    for other in (copy.deepcopy(pack), pickle.loads(pickle.dumps(pack))):
        np.testing.assert_array_equal(other[1].state, pack[1].state)
        other.fit(X, LABELS, epochs=1, progress=False)
    pack.fit(X, LABELS, epochs=1, progress=False)
    np.testing.assert_array_equal(other[1].state, pack[1].state)


def test_class_names_are_found_and_those_of_a_fold_too() -> None:
    names = np.array(["ant", "bee", "cat"], object)[LABELS]
    pack = pack_of(2)
    pack.fit(X, names, epochs=2, rows=[None, np.arange(60)], validation_fraction=0.2, progress=False)
    assert [network.classes for network in pack] == [("ant", "bee", "cat")] * 2
    single = trainer(1, threads=1)
    single.fit(X[:60], names[:60], epochs=2, validation_fraction=0.2, progress=False)
    np.testing.assert_array_equal(pack[1].predict_classes(X), single.network.predict_classes(X))
    refused(pack_of(2), "member 1: its rows lack class bee, which", y=names, rows=[None, np.flatnonzero(LABELS != 1)])


# -- many networks in one call -----------------------------------------------------------------------------------------


def test_fit_many_makes_trains_and_returns_a_pack() -> None:
    networks = [gf.MLP([4, 8, 3], seed=seed, backend="numpy") for seed in range(2)]
    optimizers = [gf.Adam(0.01), gf.SGD(0.1)]
    settings: dict[str, Any] = {"metrics": ["f1"], "l2": gf.Each([0.0, 0.1]), "batch_size": 16, "progress": False}
    pack = gf.fit_many(networks, "softmax_cross_entropy", optimizers, X, LABELS, epochs=2, **settings)
    assert pack.networks == tuple(networks)
    assert [each.l2 for each in pack.trainers] == [0.0, 0.1]
    assert [each.optimizer for each in pack.trainers] == optimizers
    assert all("f1" in (history or {}) for history in pack.histories)


@pytest.mark.parametrize("kind", ["array", "column"])
def test_a_network_for_each_group_of_rows(kind: str) -> None:
    cities = np.array(["Rome", "Oslo", "Bern"], object)[RANDOM.integers(0, 3, 90)]
    table = {name: X[:, place] for place, name in enumerate("abcd")}
    given: dict[str, Any] = (
        {"x": X, "group": cities} if kind == "array" else {"x": {**table, "city": cities}, "group": "city"}
    )
    start = gf.MLP([4, 8, 3], seed=3, backend="numpy")
    pack = gf.fit_many(start, "softmax_cross_entropy", "adam", y=LABELS, epochs=2, progress=False, **given)
    assert pack.groups == ("Bern", "Oslo", "Rome")
    assert start.epochs_begun == 0
    for city, network in pack.by_group.items():
        single = gf.Trainer(start.copy(), "softmax_cross_entropy", "adam", threads=1)
        rows = cities == city
        single.fit(X[rows], LABELS[rows], epochs=2, progress=False)
        np.testing.assert_array_equal(network.state, single.network.state)
        assert network.feature_names == (None if kind == "array" else ("a", "b", "c", "d"))


def test_groups_that_cannot_be_used() -> None:
    def many(network: Any, x: Any = X, **settings: Any) -> None:
        gf.fit_many(network, "softmax_cross_entropy", "adam", x, LABELS, epochs=1, progress=False, **settings)

    network, group = gf.MLP([4, 3], backend="numpy"), LABELS.astype(float)
    group[7] = np.nan
    for settings, message in (
        ({"group": group}, "group has no value in row 7; give each row a group"),
        ({"group": LABELS[:80]}, r"group must hold one group for each of the 90 rows, got \(80,\)"),
        ({"group": "city"}, "group='city' names a column, but x has no named columns"),
        ({"group": "city", "x": {"town": X[:, 0]}}, "unknown column 'city'"),
        ({"group": LABELS, "rows": [None] * 3}, "group= chooses the rows of each network; omit rows="),
        ({"group": LABELS, "x": gf.data.Arrays(X, LABELS)}, "group= needs data in memory"),
    ):
        with pytest.raises(gf.DataError, match=message):
            many(network, **settings)
    with pytest.raises(gf.DataError, match="one for each of the 3 groups, got 1; or pass one network, of which each"):
        many([network], group=LABELS)
    with pytest.raises(gf.DataError, match="networks must be a list of gradflow networks"):
        many(network)
    with pytest.raises(gf.DataError, match=r"unknown setting 'bach_size'\. Did you mean 'batch_size'"):
        many([network], bach_size=3)
