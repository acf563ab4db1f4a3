"""`Trainer.partial_fit`: the steps of a longer fit, whenever their data arrive."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import gradflow as gf
from gradflow.optimizers import OPTIMIZERS

RANDOM = np.random.default_rng(3)
X, Y = RANDOM.standard_normal((50, 4)).astype(np.float32), RANDOM.integers(3, size=50)


def trainer(backend: str = "numpy", optimizer: str | gf.Optimizer = "adam", **settings: object) -> gf.Trainer:
    network = gf.MLP([4, 8, 3], dropout=0.2, seed=5, backend=backend)
    return gf.Trainer(network, "softmax_cross_entropy", optimizer, **settings)


def weights(of: gf.Trainer) -> bytes:
    return of.network.backend.to_host(of.network.parameters).tobytes()


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS) - {"lbfgs"}))
def test_passes_are_the_epochs_of_a_fit(name: str, backend_name: str) -> None:
    optimizer = gf.SGD(0.1, momentum=0.9, nesterov=True) if name == "sgd" else name
    whole, parts = trainer(backend_name, optimizer), trainer(backend_name, optimizer)
    history = whole.fit(X, Y, epochs=4, batch_size=16, progress=False)
    losses = [parts.partial_fit(X, Y, batch_size=16)["loss"] for _ in range(4)]
    assert losses == history["loss"]
    assert weights(parts) == weights(whole)


def test_it_continues_after_a_fit_which_begins_afresh() -> None:
    whole, parts = trainer(), trainer()
    whole.fit(X, Y, epochs=3, progress=False)
    parts.fit(X, Y, epochs=2, progress=False)
    parts.partial_fit(X, Y)
    assert weights(parts) == weights(whole)
    whole.fit(X, Y, epochs=1, progress=False)
    parts.optimizer_state = None
    parts.partial_fit(X, Y)
    assert weights(parts) == weights(whole)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda of: pickle.loads(pickle.dumps(of))], ids=["copy", "pickle"])
def test_copies_continue_in_the_same_way(copied: object) -> None:
    assert callable(copied)
    first = trainer()
    first.partial_fit(X, Y)
    twin = copied(first)
    first.partial_fit(X[:20], Y[:20])
    twin.partial_fit(X[:20], Y[:20])
    assert weights(twin) == weights(first)


def test_another_trainer_of_the_network_may_take_over() -> None:
    first, whole = trainer(optimizer=gf.SGD(0.1, momentum=0.9)), trainer(optimizer=gf.SGD(0.1, momentum=0.9))
    whole.fit(X, Y, epochs=2, progress=False)
    first.partial_fit(X, Y)
    second = gf.Trainer(first.network, first.loss, gf.SGD(0.1, momentum=0.9))
    second.optimizer_state = first.optimizer_state
    second.partial_fit(X, Y)
    assert weights(second) == weights(whole)


def test_a_state_of_another_optimizer_is_refused_and_nothing_changed() -> None:
    of = trainer()
    of.partial_fit(X, Y)
    other = gf.Trainer(of.network, of.loss, "sgd")
    other.optimizer_state = of.optimizer_state
    before = weights(of)
    with pytest.raises(gf.DataError, match=r"optimizer_state = None"):
        other.partial_fit(X, Y)
    assert weights(of) == before


def test_frozen_layers_need_a_fresh_state() -> None:
    of = trainer()
    of.partial_fit(X, Y)
    of.network.frozen = [0]
    with pytest.raises(gf.DataError, match=r"optimizer_state = None"):
        of.partial_fit(X, Y)
    of.optimizer_state = None
    assert of.partial_fit(X, Y)["loss"] > 0


def test_what_must_know_the_end_of_training_is_refused() -> None:
    with pytest.raises(gf.DataError, match=r"as CosineSchedule.* must; use constant numbers, or fit"):
        trainer(optimizer=gf.Adam(gf.CosineSchedule(0.1))).partial_fit(X, Y)
    with pytest.raises(gf.DataError, match="omit average"):
        trainer(average=0.9).partial_fit(X, Y)
    minimizer = gf.Trainer(gf.MLP([4, 8, 3]), "softmax_cross_entropy", gf.LBFGS())
    with pytest.raises(gf.DataError, match="partial_fit does not know"):
        minimizer.partial_fit(X, Y)


def test_weights_and_metrics() -> None:
    of, alone = trainer(metrics=["f1"]), trainer()
    weight = np.r_[np.ones(25), np.zeros(25)]
    values = of.partial_fit(X, Y, batch_size=None, sample_weight=weight)
    assert set(values) == {"loss", "accuracy", "f1"}
    assert values["loss"] != alone.partial_fit(X, Y, batch_size=None)["loss"]


def test_a_pass_that_diverges_names_its_own_step() -> None:
    of = trainer(optimizer=gf.SGD(0.1))
    for _ in range(3):
        of.partial_fit(X, Y, batch_size=10)
    far = X.copy()
    far[10:20] = 3e38
    with pytest.raises(gf.DivergedError, match=r"in epoch 1, at step 2 of 5") as error:
        of.partial_fit(far, Y, batch_size=10, shuffle=False)
    assert error.value.step == 2
