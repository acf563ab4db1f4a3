"""User-defined optimizers: what their step may do while its calls are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import gradflow as gf
from gradflow.executors import Executor
from gradflow.ops import Array
from gradflow.optimizers.base import hyper_vector
from gradflow.optimizers.sgd import gradient_descent
from tests.registries import forgotten

X = np.random.default_rng(0).normal(size=(40, 3))
LABELS = (X[:, 0] > 0).astype(int)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


def trained(optimizer: gf.Optimizer, backend: str, **settings: Any) -> dict[str, np.ndarray]:
    network = gf.MLP([3, 4, 2], "tanh", seed=1, backend=backend)
    gf.Trainer(network, "softmax_cross_entropy", optimizer, **settings).fit(X, LABELS, epochs=2, progress=False)
    return network.get_weights()


def test_a_step_that_only_calls_ops_is_recorded(backend_name: str) -> None:
    class Recorded(gf.Adam):
        def step(self, ops: Executor, *arguments: Any, **settings: Any) -> None:
            super().step(ops, *arguments, **settings)

    settings: dict[str, Any] = {"l2": 0.1, "clip_norm": 1.0, "average": 0.9}
    expected = trained(gf.Adam(), backend_name, **settings)
    for name, value in trained(Recorded(), backend_name, **settings).items():
        assert_array_equal(value, expected[name])


def test_a_step_that_computes_by_itself_is_refused(backend_name: str) -> None:
    class InNumPy(gf.GradientDescent):
        def step(self, ops: Executor, parameters: Array, gradients: Array, *others: Any) -> None:
            parameters -= 0.1 * gradients

    class BeforeAnOp(gf.Adam):
        def step(self, ops: Executor, parameters: Array, gradients: Array, state: Any, *others: Any) -> None:
            state["first_moment"][...] = 0
            super().step(ops, parameters, gradients, state, *others)

    class Nothing(gf.GradientDescent):
        def step(self, ops: Executor, *arguments: Any) -> None:
            pass

    for optimizer, said in (
        (InNumPy(0.1), r"InNumPy\.step does its own array math"),
        (BeforeAnOp(0.1), r"BeforeAnOp\.step does its own array math \(an assignment\)"),
        (Nothing(0.1), r"Nothing\.step records no op that writes parameters"),
    ):
        with pytest.raises(gf.DataError, match=said):
            trained(optimizer, backend_name)


@pytest.mark.parametrize("missing", ["hyper", "gradient_scale"])
def test_a_step_receives_penalties_and_clipping(missing: str, backend_name: str) -> None:
    class Forgets(gf.GradientDescent):
        def step(
            self,
            ops: Executor,
            parameters: Array,
            gradients: Array,
            state: Any,
            hyper: Array,
            gradient_scale: Array,
            clock: Array,
            n_decayed: int,
        ) -> None:
            own = {
                "hyper": ops.backend.from_host(hyper_vector([], learning_rate=0.1)),
                "gradient_scale": ops.backend.from_host(np.ones(1, parameters.dtype)),
            }
            settings = {"hyper": hyper, "gradient_scale": gradient_scale} | {missing: own[missing]}
            ops(gradient_descent, parameters, gradients, clock=clock, n_decayed=n_decayed, **settings)

    with pytest.raises(gf.DataError, match=rf"Forgets\.step passes no op its {missing}, so the"):
        trained(Forgets(0.1), backend_name)


def test_a_subclass_of_lbfgs_needs_no_step() -> None:
    pytest.importorskip("scipy")

    class Short(gf.LBFGS):
        pass

    network = gf.MLP([3, 2], dtype="float64", backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", Short(max_iterations=3))
    history = trainer.fit(X, LABELS, epochs=2, batch_size=None, progress=False)
    assert history["loss"][-1] < 0.6
