"""The loss around the path of the weights: right directions, right values, and nothing drawn without a plane."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from gradflow.data.table import Table
from gradflow.reports.rows import SampledRows
from gradflow.reports.surface import loss_surface
from gradflow.training.runs.weight_path import WeightsByTime

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 3))


def rows_of(x: np.ndarray, y: np.ndarray) -> SampledRows:
    return SampledRows(Table(tuple(x.T), ("0", "1", "2")), y, np.arange(len(x)), len(x))


def along(states: np.ndarray) -> WeightsByTime:
    return WeightsByTime(states, tuple(f"epoch {epoch}" for epoch in range(len(states))))


def linear(weight: np.ndarray) -> gf.Sequential:
    network = gf.Sequential([gf.Dense(3, 1, bias=False)], dtype="float64", weights={"0.weight": weight[:, None]})
    network.output_activation = "identity"
    return network


def test_of_a_linear_network_it_is_the_known_parabola() -> None:
    best = np.array([1.0, -2.0, 0.5])
    y = X @ best[:, None]
    offsets = np.array([[2.0, 1, 0.1], [1, 0.2, 0], [0.3, 0, 0], [0, 0, 0]])
    found = loss_surface(linear(best), gf.MeanSquaredError(), along(best + offsets), rows_of(X, y))
    assert found is not None
    _, _, right = np.linalg.svd(offsets)
    directions = right[:2] * np.sign(found.path[0] / (right[:2] @ offsets[0]))[:, None]
    np.testing.assert_allclose(found.path, offsets @ directions.T, atol=1e-12)
    assert found.path[0, 0] < 0 < found.path[0, 1]
    for row, column in ((0, 0), (5, 20), (32, 32)):
        shift = found.across[column] * directions[0] + found.along[row] * directions[1]
        assert found.loss[row, column] == pytest.approx(((X @ shift) ** 2).mean(), rel=1e-9)
    expected = [((X @ offset) ** 2).mean() for offset in offsets]
    np.testing.assert_allclose(found.path_loss, expected, atol=1e-12)
    singular = np.linalg.svd(offsets, compute_uv=False) ** 2
    assert found.explained == pytest.approx(tuple(singular[:2] / singular.sum()))
    assert found.rows == 200


@pytest.mark.parametrize(
    "offsets",
    [[[1.0, 0, 0], [0, 0, 0]], [[2.0, 2, 2], [1, 1, 1], [0, 0, 0]], [[0.0, 0, 0]] * 4, [[np.inf, 0, 0]] * 3],
    ids=["two points", "a straight line", "no motion", "infinite weights"],
)
def test_without_a_plane_there_is_no_surface(offsets: list[list[float]]) -> None:
    weights = along(np.array(offsets))
    assert loss_surface(linear(np.zeros(3)), gf.MeanSquaredError(), weights, rows_of(X, X[:, :1])) is None


def test_running_variances_stay_valid_and_dropout_is_off() -> None:
    network = gf.Sequential([gf.Dense(3, 4), gf.BatchNorm(4), gf.Dropout(0.5), gf.Dense(4, 2)], backend="numpy")
    network.output_activation = "softmax"
    state = network.state.astype(np.float64)
    states = state + RANDOM.normal(size=(5, len(state)))
    states[-1] = state
    before = network.state.tobytes()
    y = (X[:, 0] > 0).astype(np.int64)
    weights = along(states)
    surfaces = [loss_surface(network, gf.SoftmaxCrossEntropy(), weights, rows_of(X, y)) for _ in range(2)]
    assert surfaces[0] is not None
    assert surfaces[1] is not None
    assert np.isfinite(surfaces[0].loss).all()
    assert (surfaces[0].loss == surfaces[1].loss).all()
    evaluated = gf.Trainer(network, "softmax_cross_entropy", "sgd").evaluate(X, y)["loss"]
    assert surfaces[0].path_loss[-1] == pytest.approx(evaluated, rel=1e-5)
    assert network.state.tobytes() == before


def test_an_infinite_loss_is_marked_as_missing() -> None:
    network = linear(np.array([1e160, 0, 0]))
    offsets = np.array([[3e160, 1e160, 0], [2e160, 0, 0], [0, 0, 0.0]])
    y = X[:, :1] * 1e160
    found = loss_surface(network, gf.MeanSquaredError(), along(offsets), rows_of(X, y))
    assert found is not None
    assert np.isnan(found.loss).any()
    assert not np.isinf(found.loss).any()
