"""Ensembles: predictions, selection, scores, files and copies."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow.ensemble.selection import select

RANDOM = np.random.default_rng(4)
X = RANDOM.normal(size=(120, 4))
LABELS = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5)
NAMES = np.array(["ant", "bee", "cat"], object)[LABELS]


def fitted(seed: int, y: np.ndarray = LABELS, loss: str = "softmax_cross_entropy", **settings: Any) -> gf.Sequential:
    n_out = 3 if loss == "softmax_cross_entropy" else 1
    network = gf.MLP([4, 8, n_out], seed=seed, backend="numpy")
    gf.Trainer(network, loss, gf.Adam(0.01), **settings).fit(X, y, epochs=4, progress=False)
    return network


@pytest.fixture(scope="module")
def networks() -> list[gf.Sequential]:
    return [fitted(seed) for seed in range(4)]


def test_predictions_are_the_weighted_mean(networks: list[gf.Sequential]) -> None:
    ensemble = gf.Ensemble(networks, [1, 0, 2, 1])
    assert ensemble.weights == (0.25, 0, 0.5, 0.25)
    expected = sum(weight * network.predict(X) for weight, network in zip(ensemble.weights, networks, strict=True))
    np.testing.assert_allclose(ensemble.predict(X), expected, rtol=1e-6)
    assert ensemble.predict(X).dtype == np.float32
    np.testing.assert_array_equal(ensemble.predict_classes(X), ensemble.predict(X).argmax(axis=1))
    assert gf.Ensemble(networks, [5e-324, 0, 0, 0]).weights == (1, 0, 0, 0)
    np.testing.assert_array_equal(gf.Ensemble(networks[:1]).predict(X), networks[0].predict(X))


def test_class_names_of_one_output_and_of_several() -> None:
    several = gf.Ensemble([fitted(seed, NAMES) for seed in range(2)])
    assert several.classes == ("ant", "bee", "cat")
    np.testing.assert_array_equal(
        several.predict_classes(X), np.array(several.classes)[several.predict(X).argmax(axis=1)]
    )
    sides = np.where(X[:, 0] > 0, "right", "left").astype(object)
    one = gf.Ensemble([fitted(seed, sides, "binary_cross_entropy") for seed in range(2)])
    np.testing.assert_array_equal(one.predict_classes(X), np.where(one.predict(X)[:, 0] > 0.5, "right", "left"))
    assert one.scores(X, sides, metric="accuracy").ensemble == np.mean(one.predict_classes(X) == sides)


def test_values_are_averaged_in_the_units_of_the_targets() -> None:
    y = 100 + 20 * X[:, 0]
    networks = [fitted(seed, y * (seed + 1), "mean_squared_error", standardize_targets=True) for seed in range(2)]
    assert networks[0].output_scale != networks[1].output_scale
    expected = (networks[0].predict(X) + networks[1].predict(X)) / 2
    np.testing.assert_allclose(gf.Ensemble(networks).predict(X), expected, rtol=1e-6)
    with pytest.raises(gf.DataError, match="predict numbers, not classes"):
        gf.Ensemble(networks).predict_classes(X)


def test_tables_and_sources(networks: list[gf.Sequential]) -> None:
    table = {name: X[:, place] for place, name in enumerate("abcd")}
    trained = []
    for seed in range(2):
        network = gf.MLP([4, 8, 3], seed=seed, backend="numpy")
        gf.Trainer(network, "softmax_cross_entropy", "adam").fit(table, LABELS, epochs=1, progress=False)
        trained.append(network)
    ensemble = gf.Ensemble(trained)
    assert ensemble.feature_names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(ensemble.predict(dict(reversed(table.items()))), ensemble.predict(X))
    of_arrays = gf.Ensemble(networks)
    np.testing.assert_array_equal(of_arrays.predict(gf.data.Arrays(X, LABELS)), of_arrays.predict(X))


def test_networks_that_do_not_match(networks: list[gf.Sequential]) -> None:
    names = fitted(0, NAMES)
    y = X[:, 0]
    for given_networks, message in (
        ([], "at least one network, got an empty list"),
        ([networks[0], gf.MLP([4, 2])], "the same number of outputs, but network 0 has 3 and network 1 2"),
        (
            [networks[0], gf.MLP([4, 3])],
            "the same output activation, but network 0 has 'softmax' and network 1 'identity'",
        ),
        ([networks[0], names], r"the same classes, but network 0 has None and network 1 \('ant', 'bee', 'cat'\)"),
        ([gf.MLP([4, 1]), gf.MLP([3, 1])], "the same number of input columns, but network 0 has 4 and network 1 3"),
    ):
        with pytest.raises(gf.DataError, match=message):
            gf.Ensemble(given_networks)
    for weights in ([1, 2], [0, 0, 0, 0]):
        with pytest.raises(gf.DataError, match="weights must be a number for each of the 4 networks, and one above 0"):
            gf.Ensemble(networks, weights)
    with pytest.raises(gf.DataError, match=r"weights\[1\] must be at least 0, got -1"):
        gf.Ensemble(networks, [1, -1, 1, 1])
    with pytest.raises(gf.DataError, match="x has 120 rows, but y has 100"):
        gf.Ensemble.selected(networks, X, LABELS[:100])
    with pytest.raises(gf.DataError, match="y holds names, such as 'ant', but the networks have no classes"):
        gf.Ensemble.selected(networks, X, NAMES)
    with pytest.raises(gf.DataError, match="has no metric 'r2'"):
        gf.Ensemble.selected(networks, X, LABELS, metric="r2")
    quantiles = gf.MLP([4, 2], backend="numpy")
    with pytest.raises(gf.DataError, match=r"y has 1 column, but the networks have 2 outputs .* pass metric="):
        gf.Ensemble.selected([quantiles], X, y)


# -- selection ------------------------------------------------------------------------------------------------------


@given(data=st.data(), size=st.integers(1, 12))
def test_a_selection_is_at_least_as_good_as_each_candidate(data: st.DataObject, size: int) -> None:
    y = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=3, max_size=3)))
    rows = st.lists(st.floats(-5, 5), min_size=3, max_size=3)
    candidates = [np.array(each) for each in data.draw(st.lists(rows, min_size=1, max_size=5))]

    def score(predictions: np.ndarray) -> float:
        return -float(((predictions - y) ** 2).mean())

    chosen = select(candidates, score, size)
    assert 1 <= chosen.counts.sum() <= size
    assert chosen.score >= max(map(score, candidates))
    mean = sum(count * each for count, each in zip(chosen.counts, candidates, strict=True)) / chosen.counts.sum()
    assert score(np.asarray(mean)) == pytest.approx(chosen.score, rel=1e-9, abs=1e-12)


def test_a_selection_by_hand() -> None:
    y = np.array([0.0, 3.0])
    candidates = [np.array([3.0, 3.0]), np.array([-1.5, 3.0]), np.array([9.0, 9.0])]
    chosen = select(candidates, lambda predictions: -float(((predictions - y) ** 2).mean()), 10)
    assert chosen.counts.tolist() == [1, 2, 0]  # -1.5 · 2/3 + 3 / 3 = 0
    assert chosen.score == 0


@pytest.mark.parametrize("metric", ["loss", "accuracy", "f1", "roc_auc", "log_loss"])
def test_selected_networks_are_at_least_as_good_as_the_best(networks: list[gf.Sequential], metric: str) -> None:
    ensemble = gf.Ensemble.selected(networks, X, LABELS, metric=metric, size=8)
    scores = ensemble.scores(X, LABELS, metric=metric)
    of_all = gf.Ensemble(networks).scores(X, LABELS, metric=metric)
    is_better = max if metric in ("accuracy", "f1", "roc_auc") else min
    assert is_better(scores.ensemble, is_better(of_all.members)) == pytest.approx(scores.ensemble, rel=1e-6)
    assert set(ensemble.networks) <= set(networks)
    assert sum(ensemble.weights) == pytest.approx(1)


def test_scores_are_those_of_the_trainer(networks: list[gf.Sequential]) -> None:
    scores = gf.Ensemble(networks).scores(X, LABELS)
    for metric in ("loss", "accuracy", "f1", "roc_auc"):
        found = gf.Ensemble(networks).scores(X, LABELS, metric=metric)
        for network, score in zip(networks, found.members, strict=True):
            extra = [metric] if metric not in ("loss", "accuracy") else []
            trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", metrics=extra)
            assert trainer.evaluate(X, LABELS)[metric] == pytest.approx(score, rel=1e-5)
    assert str(scores).splitlines()[0].split() == ["weight", "loss"]
    assert len(str(scores).splitlines()) == 7


def test_a_function_as_the_metric(networks: list[gf.Sequential]) -> None:
    def recall_of_cats(y: np.ndarray, predictions: np.ndarray) -> float:
        return float((predictions.argmax(axis=1)[y == 2] == 2).mean())

    found = gf.Ensemble.selected(networks, X, LABELS, metric=recall_of_cats).scores(X, LABELS, metric=recall_of_cats)
    assert found.name == "recall_of_cats"
    assert found.ensemble >= max(found.members)
    with pytest.raises(gf.DataError, match="must return a number, got None"):
        gf.Ensemble.selected(networks, X, LABELS, metric=lambda y, predictions: None)  # type: ignore[arg-type,return-value]


def test_diversity() -> None:
    y = 3 * X[:, 0]
    ensemble = gf.Ensemble([fitted(seed, y, "mean_squared_error") for seed in range(3)], [3, 2, 1])
    scores = ensemble.scores(X, y)
    assert scores.ensemble == pytest.approx(np.average(scores.members, weights=scores.weights) - scores.diversity)
    same = fitted(0)
    assert gf.Ensemble([same, same.copy()]).scores(X, LABELS).diversity == 0


# -- files and copies -----------------------------------------------------------------------------------------------


def test_an_ensemble_in_a_file(networks: list[gf.Sequential], tmp_path: Path) -> None:
    path = tmp_path / "ensemble.safetensors"
    table = gf.data.fit_preprocessing(X)
    other = gf.MLP([table.n_out, 5, 3], dtype="float64", seed=9, backend="numpy")
    other.preprocessing = table
    gf.Trainer(other, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, progress=False)
    ensemble = gf.Ensemble([*networks, other], [4, 1, 2, 3, 5])
    gf.save(ensemble, path)
    loaded = gf.load(path, backend="numpy")
    assert isinstance(loaded, gf.Ensemble)
    assert loaded.weights == ensemble.weights
    np.testing.assert_array_equal(loaded.predict(X), ensemble.predict(X))
    first = path.read_bytes()
    gf.save(loaded, path)
    assert path.read_bytes() == first
    path.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    with pytest.raises(gf.FileFormatError, match="is damaged"):
        gf.load(path)


def test_copies_are_independent(networks: list[gf.Sequential]) -> None:
    ensemble = gf.Ensemble([network.copy() for network in networks], [1, 2, 3, 4])
    before = ensemble.predict(X)
    others = [ensemble.copy(), copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))]
    gf.Trainer(ensemble.networks[0], "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, progress=False)
    for other in others:
        np.testing.assert_array_equal(other.predict(X), before)
        assert other.weights == ensemble.weights
    assert (len(ensemble), list(ensemble)) == (4, list(ensemble.networks))
    assert repr(ensemble).startswith("Ensemble of 4 networks, weights (0.1, 0.2, 0.3, 0.4): MLP(")
