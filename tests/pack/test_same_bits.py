"""Each member of a pack gets the same bits as alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gradflow as gf

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(150, 5))
LABELS = (X[:, 0] * X[:, 1] + 0.3 * X[:, 2] > 0).astype(np.int64) + (X[:, 3] > 1)
WEIGHTS = RANDOM.uniform(0.5, 2, 150)
HELD_OUT = RANDOM.normal(size=(60, 5)), RANDOM.integers(0, 3, 60)

OPTIMIZERS = (
    lambda: gf.Adam(0.01),
    lambda: gf.AdamW(gf.CosineSchedule(0.02)),
    lambda: gf.SGD(0.05, momentum=0.9),
    lambda: gf.RMSprop(gf.OneCycleSchedule(0.02)),
    lambda: gf.Lion(1e-3),
)


@st.composite
def members(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the settings of a member: of its network, of its trainer and of its fit."""
    fit: dict[str, Any] = {
        "epochs": draw(st.integers(2, 4)),
        "batch_size": draw(st.sampled_from([7, 32, 64, 1000, None])),
        "shuffle": draw(st.booleans()),
        "drop_last": draw(st.booleans()),
        "sample_weight": draw(st.sampled_from([None, WEIGHTS])),
        "class_weight": draw(st.sampled_from([None, "balanced", {1: 3.0}])),
        "early_stopping": draw(st.sampled_from([None, gf.EarlyStopping("loss", patience=1, min_delta=0.05)])),
    }
    return {
        "network": {
            "sizes": [5, *draw(st.lists(st.sampled_from([3, 16, 33]), max_size=2)), 3],
            "activation": draw(st.sampled_from(["relu", "tanh", "gelu", "silu"])),
            "dropout": draw(st.sampled_from([0.0, 0.2])),
            "seed": draw(st.integers(0, 9)),
            "dtype": draw(st.sampled_from(["float32", "float64"])),
        },
        "optimizer": draw(st.sampled_from(OPTIMIZERS)),
        "trainer": {
            "l2": draw(st.sampled_from([0.0, 1e-3])),
            "clip_norm": draw(st.sampled_from([None, 1.0])),
            "average": draw(st.sampled_from([None, 0.9])),
            "metrics": draw(st.sampled_from([(), ("f1",)])),
        },
        "fit": fit,
        "rows": draw(st.sampled_from([None, "bootstrap", "fold"])),
    }


def chosen_rows(kind: str | None, seed: int) -> np.ndarray | None:
    random = np.random.default_rng(seed)
    if kind == "bootstrap":
        return random.integers(0, 150, 120)
    return None if kind is None else np.sort(random.permutation(150)[:100])


def trainer(member: dict[str, Any], **more: Any) -> gf.Trainer:
    network = gf.MLP(**member["network"], backend="numpy")
    return gf.Trainer(network, "softmax_cross_entropy", member["optimizer"](), **member["trainer"], **more)


def alone(member: dict[str, Any], rows: np.ndarray | None, validation: str | None) -> gf.Trainer:
    """Train a member by itself, on copies of its rows."""
    single, given = trainer(member, threads=1), dict(member["fit"])
    held_out = np.setdiff1d(np.arange(150), [] if rows is None else rows)
    weight = given.pop("sample_weight")
    if validation == "data":
        given["validation_data"] = HELD_OUT
    elif validation == "fraction":
        given["validation_fraction"] = 0.2
    elif validation == "rows":
        parts = X[held_out], LABELS[held_out], None if weight is None else weight[held_out]
        given["validation_data"] = parts[: 2 if weight is None else 3]
    x, y = (X, LABELS) if rows is None else (X[rows], LABELS[rows])
    weight = weight if rows is None or weight is None else weight[rows]
    single.fit(x, y, sample_weight=weight, progress=False, **given)
    return single


def assert_same(member: gf.Trainer, single: gf.Trainer) -> None:
    np.testing.assert_array_equal(member.network.state, single.network.state)
    assert member.history is not None
    assert single.history is not None
    assert dict(member.history) == dict(single.history)
    assert (member.history.stopped_by, member.history.best_epoch) == (
        single.history.stopped_by,
        single.history.best_epoch,
    )
    assert member.network.epochs_begun == single.network.epochs_begun
    np.testing.assert_array_equal(member.network.predict(X), single.network.predict(X))


@pytest.mark.filterwarnings("ignore::gradflow.TrainingWarning", "ignore::gradflow.DataWarning")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pack=st.lists(members(), min_size=1, max_size=4),
    validation=st.sampled_from([None, "data", "rows", "fraction"]),
    threads=st.integers(1, 3),
)
def test_members_of_random_packs(pack: list[dict[str, Any]], validation: str | None, threads: int) -> None:
    rows = [chosen_rows(member["rows"], seed) for seed, member in enumerate(pack)]
    held_out = [np.setdiff1d(np.arange(150), [] if each is None else each) for each in rows]
    if validation == "data":
        given: dict[str, Any] = {"validation_data": HELD_OUT}
    else:
        given = {"validation_rows": held_out} if validation == "rows" else {}
        given |= {"validation_fraction": 0.2} if validation == "fraction" else {}
    trainers = [trainer(member) for member in pack]
    together = gf.Pack(trainers)
    of_members = {name: gf.Each([member["fit"][name] for member in pack]) for name in pack[0]["fit"]}
    together.fit(X, LABELS, rows=rows, threads=threads, progress=False, **given, **of_members)
    for member, of_pack, chosen in zip(pack, trainers, rows, strict=True):
        assert_same(of_pack, alone(member, chosen, validation))


def test_regressions_on_standardized_targets_have_the_scale_of_their_own_rows() -> None:
    y = X[:, 0] * 50 + 200
    rows = [np.arange(100), np.arange(50, 150), None]

    def made(seed: int, **more: Any) -> gf.Trainer:
        network = gf.MLP([5, 8, 1], seed=seed, backend="numpy")
        return gf.Trainer(network, "mean_squared_error", "adam", standardize_targets=True, metrics=["r2"], **more)

    pack = gf.Pack([made(seed) for seed in range(3)])
    pack.fit(X, y, epochs=3, rows=rows, progress=False)
    for seed, chosen in enumerate(rows):
        single = made(seed, threads=1)
        single.fit(*((X, y) if chosen is None else (X[chosen], y[chosen])), epochs=3, progress=False)
        assert pack[seed].output_scale == single.network.output_scale
        assert_same(pack.trainers[seed], single)


def test_tables_with_preprocessing_fitted_to_each_fold() -> None:
    colors = np.array(["red", "green", "blue"])[RANDOM.integers(0, 3, 150)]
    table = {"size": X[:, 0] * 9, "color": colors, "weight": X[:, 1]}
    folds = [np.arange(0, 120), np.arange(30, 150)]

    def part(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: column[rows] for name, column in table.items()}

    def made(rows: np.ndarray, **more: Any) -> gf.Trainer:
        preprocessing = gf.data.fit_preprocessing(part(rows))
        network = gf.MLP([preprocessing.n_out, 8, 3], seed=1, backend="numpy")
        network.preprocessing = preprocessing
        return gf.Trainer(network, "softmax_cross_entropy", "adam", **more)

    pack = gf.Pack([made(rows) for rows in folds])
    pack.fit(table, LABELS, epochs=3, rows=folds, progress=False)
    for of_pack, rows in zip(pack.trainers, folds, strict=True):
        single = made(rows, threads=1)
        single.fit(part(rows), LABELS[rows], epochs=3, progress=False)
        np.testing.assert_array_equal(of_pack.network.state, single.network.state)


def test_members_that_read_a_source() -> None:
    def made(seed: int, **more: Any) -> gf.Trainer:
        return gf.Trainer(gf.MLP([5, 8, 3], seed=seed, backend="numpy"), "softmax_cross_entropy", "adam", **more)

    pack = gf.Pack([made(seed) for seed in range(3)])
    pack.fit(gf.data.Arrays(X, LABELS), epochs=2, threads=2, progress=False)
    for seed in range(3):
        single = made(seed, threads=1)
        single.fit(gf.data.Arrays(X, LABELS), epochs=2, progress=False)
        assert_same(pack.trainers[seed], single)


def test_l_bfgs_on_the_rows_of_a_fold() -> None:
    rows = [np.arange(100), np.arange(50, 150)]

    def made(seed: int, **more: Any) -> gf.Trainer:
        return gf.Trainer(gf.MLP([5, 4, 3], seed=seed, backend="numpy"), "softmax_cross_entropy", gf.LBFGS(), **more)

    pack = gf.Pack([made(seed) for seed in range(2)])
    pack.fit(X, LABELS, epochs=1, batch_size=None, rows=rows, progress=False)
    for seed, chosen in enumerate(rows):
        single = made(seed, threads=1)
        single.fit(X[chosen], LABELS[chosen], epochs=1, batch_size=None, progress=False)
        assert_same(pack.trainers[seed], single)


def test_a_second_fit_continues_as_it_does_alone() -> None:
    pack = gf.Pack([gf.Trainer(gf.MLP([5, 8, 3], seed=seed), "softmax_cross_entropy", "adam") for seed in range(2)])
    for _ in range(2):
        pack.fit(X, LABELS, epochs=2, progress=False)
    for seed in range(2):
        single = gf.Trainer(gf.MLP([5, 8, 3], seed=seed), "softmax_cross_entropy", "adam", threads=1)
        for _ in range(2):
            single.fit(X, LABELS, epochs=2, progress=False)
        assert_same(pack.trainers[seed], single)


def test_rows_of_a_fold_on_every_backend(backend_name: str) -> None:
    folds = [np.arange(100), np.arange(50, 150)]

    def made(seed: int) -> gf.Trainer:
        network = gf.MLP([5, 8, 3], dropout=0.1, seed=seed, backend=backend_name)
        return gf.Trainer(network, "softmax_cross_entropy", "adam", metrics=["f1"])

    pack = gf.Pack([made(seed) for seed in range(2)])
    pack.fit(X, LABELS, epochs=2, rows=folds, validation_rows=folds[::-1], sample_weight=WEIGHTS, progress=False)
    for seed, (rows, held_out) in enumerate(zip(folds, folds[::-1], strict=True)):
        single = made(seed)
        validation = X[held_out], LABELS[held_out], WEIGHTS[held_out]
        given: dict[str, Any] = {"sample_weight": WEIGHTS[rows], "validation_data": validation, "progress": False}
        history = single.fit(X[rows], LABELS[rows], epochs=2, **given)
        for name, weights in single.network.get_weights().items():
            np.testing.assert_allclose(pack[seed].get_weights()[name], weights, rtol=1e-6, err_msg=name)
        of_member = pack.histories[seed]
        assert of_member is not None
        np.testing.assert_allclose(of_member["val_loss"], history["val_loss"], rtol=1e-6)
