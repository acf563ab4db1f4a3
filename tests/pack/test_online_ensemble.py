"""The ensemble that a pack chooses while it is trained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(200, 5))
LABELS = (X[:, 0] * X[:, 1] + 0.5 * RANDOM.normal(size=200) > 0).astype(np.int64)
HELD_OUT = X[150:], LABELS[150:]


def trainer(seed: int, **settings: Any) -> gf.Trainer:
    network = gf.MLP([5, 8 + 8 * (seed % 2), 2], seed=seed, backend="numpy")
    return gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.01 + 0.01 * seed), **settings)


def trained(threads: int = 2, epochs: Any = 12, **settings: Any) -> gf.Pack:
    pack = gf.Pack([trainer(seed) for seed in range(4)])
    given: dict[str, Any] = {"validation_data": HELD_OUT, "ensemble": gf.EnsembleSelection(), "progress": False}
    pack.fit(X[:150], LABELS[:150], epochs=epochs, threads=threads, **given | settings)
    return pack


def test_it_is_at_least_as_good_as_the_best_epoch_of_each_member() -> None:
    pack = trained()
    assert pack.ensemble is not None
    score = pack.ensemble.scores(*HELD_OUT).ensemble
    losses = [min(history["val_loss"]) for history in pack.histories if history is not None]
    assert len(losses) == 4
    assert score <= min(losses) + 1e-6


def test_members_get_the_same_bits_and_the_ensemble_does_not_depend_on_threads() -> None:
    one, two = trained(threads=1), trained(threads=3)
    assert one.ensemble is not None
    assert two.ensemble is not None
    assert one.ensemble.weights == two.ensemble.weights
    np.testing.assert_array_equal(one.ensemble.predict(X), two.ensemble.predict(X))
    single = trainer(2, threads=1)
    single.fit(X[:150], LABELS[:150], epochs=12, validation_data=HELD_OUT, progress=False)
    np.testing.assert_array_equal(one[2].state, single.network.state)
    assert dict(one.histories[2] or {}) == dict(single.history or {})
    chosen = [network.state.copy() for network in one.ensemble]
    one.fit(X[:150], LABELS[:150], epochs=1, progress=False)
    assert one.ensemble is None
    assert two.ensemble is not None
    for state, network in zip(chosen, two.ensemble, strict=True):
        np.testing.assert_array_equal(state, network.state)


def test_members_that_learn_nothing_are_a_cause_to_warn_only_if_all_are() -> None:
    def fit(rates: list[float]) -> None:
        networks = [gf.MLP([5, 4, 2], seed=4, backend="numpy") for _ in rates]
        trainers = [
            gf.Trainer(network, "softmax_cross_entropy", gf.SGD(rate))
            for network, rate in zip(networks, rates, strict=True)
        ]
        selection: dict[str, Any] = {"validation_data": HELD_OUT, "ensemble": gf.EnsembleSelection()}
        gf.Pack(trainers).fit(X[:150], (X[:150, 0] > 0).astype(int), epochs=12, progress=False, **selection)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit([1e-9, 1e-9, 0.1])
    with pytest.warns(gf.TrainingWarning, match="members 0, 1: the loss has stalled"):
        fit([1e-9, 1e-9])


def test_it_has_no_more_networks_than_additions() -> None:
    pack = trained(epochs=40, ensemble=gf.EnsembleSelection(size=3))
    assert pack.ensemble is not None
    assert 1 <= len(pack.ensemble) <= 3
    assert sum(pack.ensemble.weights) == pytest.approx(1)


def test_it_ends_the_pack_when_it_no_longer_improves() -> None:
    selection = gf.EnsembleSelection("accuracy", size=4, patience=2)
    pack = trained(epochs=1000, ensemble=selection)
    ended = [(history.epochs, history.stopped_by) for history in pack.histories if history is not None]
    assert len(set(ended)) == 1
    assert ended[0][0] < 1000
    assert ended[0][1] == "callback"


def test_members_of_different_lengths_and_one_that_diverges() -> None:
    diverging = gf.Trainer(gf.MLP([5, 8, 2], backend="numpy"), "softmax_cross_entropy", gf.SGD(1e30))
    pack = gf.Pack([trainer(0), diverging, trainer(1)])
    settings: dict[str, Any] = {"validation_rows": [np.arange(150, 200)] * 3, "rows": [np.arange(150)] * 3}
    with pytest.warns(gf.TrainingWarning, match="member 1 of 3 diverged"):
        pack.fit(
            X,
            LABELS,
            epochs=gf.Each([2, 5, 4]),
            early_stopping=gf.EarlyStopping(patience=3),
            ensemble=gf.EnsembleSelection(),
            progress=False,
            **settings,
        )
    assert pack.ensemble is not None
    assert np.isfinite(pack.ensemble.predict(X)).all()
    assert list(pack.errors) == [1]


def test_class_names_and_scaled_targets() -> None:
    names = np.array(["no", "yes"], object)[LABELS]
    pack = gf.Pack([trainer(seed) for seed in range(2)])
    given: dict[str, Any] = {"validation_data": (X[150:], names[150:]), "progress": False}
    pack.fit(X[:150], names[:150], epochs=3, ensemble=gf.EnsembleSelection("accuracy"), **given)
    assert pack.ensemble is not None
    assert set(pack.ensemble.predict_classes(X)) <= {"no", "yes"}
    y = 300 + 50 * X[:, 0]

    def regression(seed: int) -> gf.Trainer:
        network = gf.MLP([5, 8, 1], seed=seed, backend="numpy")
        return gf.Trainer(network, "mean_squared_error", gf.Adam(0.02), standardize_targets=True)

    pack = gf.Pack([regression(seed) for seed in range(2)])
    held_out = X[150:], y[150:]
    pack.fit(X[:150], y[:150], epochs=20, validation_data=held_out, ensemble=gf.EnsembleSelection(), progress=False)
    assert pack.ensemble is not None
    found = pack.ensemble.scores(*held_out)
    assert found.ensemble <= min(found.members) + 1e-6
    assert found.ensemble < np.var(y)


def test_what_is_refused(tmp_path: Path) -> None:
    for settings, message in (
        ({"validation_data": None}, "ensemble= needs validation data in memory that all members share"),
        ({"validation_data": gf.data.Arrays(*HELD_OUT)}, "ensemble= needs validation data in memory"),
        ({"validation_data": None, "validation_fraction": 0.2}, "ensemble= needs validation data in memory"),
        ({"ensemble": "loss"}, "ensemble must be a gradflow.EnsembleSelection, got 'loss'"),
        ({"ensemble": gf.EnsembleSelection("r2")}, "has no metric 'r2'"),
        (
            {"checkpoint": gf.Checkpoint(), "output": tmp_path / "a"},
            "a pack that chooses an ensemble cannot be resumed",
        ),
    ):
        with pytest.raises(gf.DataError, match=message):
            trained(**settings)
    assert not list(tmp_path.iterdir())
    with pytest.raises(gf.DataError, match="unknown metric 'acuracy'"):
        gf.EnsembleSelection("acuracy")
    with pytest.raises(gf.DataError, match="patience must be at least 1"):
        gf.EnsembleSelection(patience=0)
    assert repr(gf.EnsembleSelection()) == "EnsembleSelection('loss', size=32, patience=32)"
