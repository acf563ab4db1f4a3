"""User-defined metrics: what their statistics may do while their calls are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.executors import Executor
from gradflow.metrics import Batch, Metric, Statistics, Task
from gradflow.metrics.regression import Errors, add_error_moments
from gradflow.ops import Array, op
from tests.registries import forgotten

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 3)), RANDOM.normal(size=40)
WEIGHT = np.linspace(0, 2, 40)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


def metric_of(statistics: type[Statistics]) -> Metric:
    class Own(Metric):
        larger_is_better = False
        kinds = ("numbers",)

        def value(self, statistics: np.ndarray, task: Task) -> float:
            return float(statistics[0].sum() / statistics[-1].sum())

    Own.statistics = statistics
    return Own()


def trainer(statistics: type[Statistics], backend: str) -> gf.Trainer:
    network = gf.MLP([3, 4, 1], "tanh", seed=1, backend=backend)
    return gf.Trainer(network, "mean_squared_error", "adam", metrics=[metric_of(statistics), "mean_squared_error"])


def test_statistics_that_only_call_ops_are_recorded(backend_name: str) -> None:
    class Recorded(Errors):
        def record(self, ops: Executor, batch: Batch) -> None:
            assert batch.outputs.shape == batch.targets.shape
            ops(add_error_moments, batch.outputs, batch.targets, batch.row_weight, self.sums)

    values = trainer(Recorded, backend_name).evaluate(X, Y, sample_weight=WEIGHT)
    assert_allclose(values["Own"], values["mean_squared_error"], rtol=1e-12)


def test_statistics_that_compute_by_themselves_are_refused(backend_name: str) -> None:
    class InNumPy(Errors):
        def record(self, ops: Executor, batch: Batch) -> None:
            self.sums[0] += ((batch.outputs - batch.targets) ** 2).sum()

    class AfterAnOp(Errors):
        def record(self, ops: Executor, batch: Batch) -> None:
            super().record(ops, batch)
            self.sums[0] = 0

    class Nothing(Errors):
        def record(self, ops: Executor, batch: Batch) -> None:
            pass

    for statistics, said in (
        (InNumPy, r"InNumPy\.record does its own array math \(numpy\.subtract\)"),
        (AfterAnOp, r"AfterAnOp\.record does its own array math \(an assignment\)"),
        (Nothing, r"Nothing\.record records no op that writes moments"),
    ):
        for of_user in (trainer(statistics, backend_name), trainer(statistics, backend_name)):
            with pytest.raises(gf.DataError, match=said):
                of_user.evaluate(X, Y)
            with pytest.raises(gf.DataError, match=said):
                of_user.fit(X, Y, epochs=1)


@pytest.mark.parametrize("backend", ["reference", "numpy"])  # the op has no kernel for a GPU
def test_weights_that_statistics_do_not_use_are_refused(backend: str) -> None:
    @op(shapes="outputs, targets: rows columns; sums: n", writes=("sums",))
    def add_squares(outputs: Array, targets: Array, sums: Array) -> None:
        sums += [((outputs - targets) ** 2).sum(), len(outputs)]

    class Plain(Statistics):
        def __init__(self, task: Task) -> None:
            super().__init__(task, (2,))

        def record(self, ops: Executor, batch: Batch) -> None:
            ops(add_squares, batch.outputs, batch.targets, self.sums)

    plain = trainer(Plain, backend)
    values: dict[str, Any] = plain.evaluate(X, Y)
    assert_allclose(values["Own"], values["mean_squared_error"], rtol=1e-6)
    with pytest.raises(gf.DataError, match="the statistics Plain pass no op the row_weight of the batch"):
        plain.evaluate(X, Y, sample_weight=WEIGHT)


@pytest.mark.parametrize("value", [None, "good", [1.0, 2.0]])
def test_the_value_of_a_metric_is_a_number(value: Any) -> None:
    made: Any = type("Own", (gf.metrics.R2,), {"value": lambda self, statistics, task: value})
    network = gf.MLP([3, 1], backend="numpy")
    with pytest.raises(gf.DataError, match=r"of metric Own\(\) must be a number"):
        gf.Trainer(network, "mean_squared_error", "adam", metrics=[made()]).evaluate(X, Y)


def test_a_base_of_several_metrics_needs_no_kinds() -> None:
    class Base(Metric):
        larger_is_better = True

    with pytest.raises(
        gf.DataError, match="a task with numbers to predict has no metric 'f1'; it has mean_absolute_error"
    ):
        gf.Trainer(gf.MLP([3, 1], backend="numpy"), "mean_squared_error", "adam", metrics=["f1"])
