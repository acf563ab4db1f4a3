"""Smaller networks of chosen members of one whose members share weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
TASKS: dict[str, tuple[Any, np.ndarray, int]] = {
    "numbers": ("mean_squared_error", X[:, :2] * [1, 30] + 5, 2),
    "classes": ("softmax_cross_entropy", np.array(["low", "middle", "high"])[X[:, :3].argmax(axis=1)], 3),
    "binary": ("binary_cross_entropy", (X[:, 0] > 0).astype(int), 1),
}


def trained(task: str, backend: str, *, full: bool = False, **settings: Any) -> gf.TabM:
    loss, y, n_out = TASKS[task]
    options: dict[str, Any] = {"members": 6, "batch_ensemble": full, "dtype": "float64", "seed": 3} | settings
    network = gf.TabM([4, 8, 8, n_out], backend=backend, **options)
    scaling = {"standardize_targets": True, "clamp_predictions": True} if task == "numbers" else {}
    gf.Trainer(network, loss, gf.Adam(0.01), **scaling).fit(X, y, epochs=5, progress=False)
    return network


@pytest.mark.parametrize("full", [False, True], ids=["mini", "batch_ensemble"])
@pytest.mark.parametrize("task", TASKS)
def test_the_prediction_is_the_mean_of_the_members(task: str, full: bool, backend_name: str, tmp_path: Path) -> None:
    network = trained(task, backend_name, full=full)
    singles = [gf.with_members(network, [member]).predict(X) for member in range(6)]
    assert len({single.tobytes() for single in singles}) == 6
    if task != "numbers":  # whose limits apply to the mean
        assert_allclose(np.mean(singles, axis=0), network.predict(X), rtol=1e-12)
    kept = gf.with_members(network, [4, 1, 4])
    if task != "numbers":
        assert_allclose(kept.predict(X), (2 * singles[4] + singles[1]) / 3, rtol=1e-12)
    assert_array_equal(gf.with_members(network, range(6)).predict(X), network.predict(X))
    for name in ("output_activation", "output_scale", "classes", "epochs_begun", "dtype", "seed", "precision"):
        assert getattr(kept, name) == getattr(network, name), name
    assert kept.backend is network.backend
    gf.save(kept, tmp_path / "model")
    gf.save(network, tmp_path / "whole")
    of_loaded = gf.with_members(gf.load(tmp_path / "whole", backend=backend_name), [4, 1, 4])
    loaded = gf.load(tmp_path / "model", backend=backend_name)
    for other in (loaded, of_loaded, pickle.loads(pickle.dumps(kept)), kept.copy()):
        assert other.predict(X).tobytes() == kept.predict(X).tobytes()
    before = network.get_weights()
    gf.Trainer(kept, TASKS[task][0], gf.Adam(0.01)).fit(X, TASKS[task][1], epochs=2, progress=False)
    assert all((before[name] == weight).all() for name, weight in network.get_weights().items())


def test_the_model_in_onnx_predicts_the_same(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    kept = gf.with_members(trained("classes", "numpy", full=True), [5, 0])
    gf.to_onnx(kept, tmp_path / "model.onnx")
    _, probabilities = runtime.InferenceSession(tmp_path / "model.onnx").run(None, {"x": X})
    assert_allclose(probabilities, kept.predict(X), rtol=1e-12)


def test_all_that_belongs_to_the_network_stays(backend_name: str) -> None:
    columns = {"size": X[:, 0], "place": np.array(["north", "south", "west"])[X[:, :3].argmax(axis=1)]}
    preprocessing = gf.data.fit_preprocessing(columns, {"place": gf.Embedding(3)})
    network = gf.TabM(
        [2, 8, 1], members=4, preprocessing=preprocessing, embedding=gf.CosineEmbedding(4, 1, size=3),
        dropout=0.2, backend=backend_name,
    )  # fmt: skip
    network.frozen = [0]
    gf.Trainer(network, "mean_squared_error", gf.Adam(0.01)).fit(columns, X[:, 1], epochs=2, progress=False)
    kept = gf.with_members(network, [2, 3])
    assert kept.preprocessing == preprocessing
    assert kept.frozen == (0,)
    singles = [gf.with_members(network, [member]).predict(columns) for member in (2, 3)]
    assert_allclose(kept.predict(columns), np.mean(singles, axis=0), rtol=1e-5)
    gf.Trainer(kept, "mean_squared_error", gf.Adam(0.01)).fit(columns, X[:, 1], epochs=1, progress=False)


def test_layers_inside_of_layers_and_statistics_of_batches(backend_name: str) -> None:
    inner = gf.Residual([gf.Dense(4, 4), gf.BatchNorm(4), gf.MemberScale(4, members=5, bias=True), gf.ReLU()])
    each = gf.EachMember([inner, gf.MemberDense(4, 2, members=5)], members=5)
    network = gf.Sequential([each, gf.MeanOfMembers(5)], seed=1, dtype="float64", backend=backend_name)
    gf.Trainer(network, "mean_squared_error", gf.Adam(0.1)).fit(X, X[:, :2], epochs=2, progress=False)
    kept = gf.with_members(network, [3])
    weights = kept.get_weights()
    assert weights["0.0.2.scale"].shape == (1, 4)
    assert_array_equal(weights["0.1.bias"], network.get_weights()["0.1.bias"][[3]])
    layer = kept.layers[0]
    assert isinstance(layer, gf.EachMember)
    assert layer.least_batch_size == 2
    all_of_them = np.mean([gf.with_members(network, [member]).predict(X) for member in range(5)], axis=0)
    assert_allclose(all_of_them, network.predict(X), rtol=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_the_selection_is_that_of_single_networks(task: str) -> None:
    network = trained(task, "numpy")
    y = TASKS[task][1]
    chosen = gf.select_members(network, X, y, size=4)
    singles = [gf.with_members(network, [member]) for member in range(6)]
    ensemble = gf.Ensemble.selected(singles, X, y, size=4)
    counts = np.bincount(chosen, minlength=6)
    assert_allclose(ensemble.weights, counts[counts > 0] / len(chosen))
    assert chosen == sorted(chosen)
    assert 1 <= len(chosen) <= 4
    if task != "numbers":
        assert_allclose(gf.with_members(network, chosen).predict(X), ensemble.predict(X), rtol=1e-12)
    best = gf.select_members(network, X, y, size=1)
    if task == "binary":
        accuracies = [np.mean((single.predict(X)[:, 0] > 0.5) == y) for single in singles]
        assert gf.select_members(network, X, y, size=1, metric="accuracy") == [int(np.argmax(accuracies))]
    losses = [-score for score in gf.Ensemble(singles).scores(X, y).members]
    assert best == [int(np.argmax(losses))]


def test_what_does_not_fit_is_refused() -> None:
    network = trained("numbers", "numpy")
    for members, message in (
        ([], "members must list at least one member to keep"),
        ([6], r"members\[0\] must be between 0 and 5, got 6"),
        ([0, 1.5], r"members\[1\] must be an integer"),
        (3, "members must be a list of the numbers of members"),
    ):
        with pytest.raises(gf.DataError, match=message):
            gf.with_members(network, members)  # type: ignore[arg-type]
    with pytest.raises(gf.DataError, match="a MLP without a MeanOfMembers has no members that share weights"):
        gf.with_members(gf.MLP([4, 2]), [0])
    with pytest.raises(gf.DataError, match="x has 60 rows, but y has 59; they must match"):
        gf.select_members(network, X, X[1:, :2])
