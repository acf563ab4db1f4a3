"""User-defined losses: what they may do while their calls are recorded, and weights that they ignore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.losses.base import RegressionLoss, dense_targets, record_losses
from gradflow.losses.squared_error import squared_error
from gradflow.ops import Array, op
from tests.registries import forgotten

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(40, 3)), RANDOM.normal(size=40)
WEIGHT = np.repeat([0.0, 1.0], 20)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Remove the test's definitions afterwards."""
    with forgotten():
        yield


def network(backend: str = "numpy") -> gf.Sequential:
    return gf.MLP([3, 4, 1], "tanh", seed=1, backend=backend)


def loss_that(apply: Callable[..., None]) -> gf.Loss:
    made: gf.Loss = type("Own", (RegressionLoss,), {"apply": apply})()
    return made


def in_numpy(self: Any, ops: Any, outputs: Any, targets: Any, row_weight: Any, d_outputs: Any, *rest: Any) -> None:
    error = outputs - targets
    rest[0][...] = (error**2).sum(axis=1)
    d_outputs[...] = 2 * error / len(error)


def after_an_op(self: Any, ops: Any, outputs: Any, targets: Any, row_weight: Any, d_outputs: Any, *rest: Any) -> None:
    ops(squared_error, outputs, targets, row_weight, d_outputs, rest[0], rest[2], 1.0)
    d_outputs *= 2


@pytest.mark.parametrize("apply", [in_numpy, after_an_op])
def test_a_loss_that_computes_by_itself_is_refused(
    apply: Callable[..., None], backend_name: str, tmp_path: Path
) -> None:
    made, loss = network(backend_name), loss_that(apply)
    before = made.get_weights()
    trainer = gf.Trainer(made, loss, "adam")
    for call in (
        lambda: trainer.fit(X, Y, epochs=1, output=tmp_path),
        lambda: trainer.evaluate(X, Y),
        lambda: gf.check_gradients(made, loss, X, Y),
        lambda: gf.inspect.gradient_norms(made, loss, X, Y),
    ):
        with pytest.raises(gf.DataError, match=r"Own\.apply does its own array math .*put the formula into an op"):
            call()
    for name, value in made.get_weights().items():
        assert_array_equal(value, before[name])
    assert not (tmp_path / "model.safetensors").exists()


def test_a_regression_loss_needs_an_op_or_apply(backend_name: str) -> None:
    nothing = type("Nothing", (RegressionLoss,), {})()
    with pytest.raises(gf.GradflowError, match="loss Nothing defines neither its op nor apply"):
        gf.Trainer(network(backend_name), nothing, "adam").fit(X, Y, epochs=1)
    own = type("OwnOp", (RegressionLoss,), {"op": squared_error, "settings": lambda self, ops, outputs: (1.0,)})()
    histories = [
        gf.Trainer(network(backend_name), loss, "adam").fit(X, Y, epochs=2, sample_weight=WEIGHT, progress=False)
        for loss in (own, "mean_squared_error")
    ]
    assert histories[0]["loss"] == histories[1]["loss"]


def test_a_refused_loss_does_not_change_the_networks_output_activation(backend_name: str) -> None:
    made = network(backend_name)
    trainer = gf.Trainer(made, loss_that(in_numpy), "adam", standardize_targets=True)
    with pytest.raises(gf.DataError, match="does its own array math"):
        trainer.fit({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}, Y, epochs=1)
    assert made.output_scale is None
    assert made.feature_names is None


@pytest.mark.parametrize("missing", ["d_outputs", "row_losses", "row_correct"])
def test_a_loss_that_omits_a_result_is_refused(missing: str, backend_name: str) -> None:
    def apply(self: Any, ops: Any, outputs: Any, targets: Any, row_weight: Any, *results: Any) -> None:
        d_outputs, row_losses, _, clock = results
        if missing == "d_outputs":
            d_outputs = ops.backend.empty(outputs.shape, outputs.dtype)
        if missing == "row_losses":
            row_losses = ops.backend.empty(len(outputs), outputs.dtype)
        ops(squared_error, outputs, targets, row_weight, d_outputs, row_losses, clock, 1.0)

    loss: Any = type("Own", (RegressionLoss,), {"apply": apply, "has_accuracy": missing == "row_correct"})()
    with pytest.raises(gf.DataError, match=rf"Own\.apply records no op that writes {missing}"):
        gf.Trainer(network(backend_name), loss, "adam").fit(X, Y, epochs=1)


def test_a_loss_must_call_ops_and_not_functions(backend_name: str) -> None:
    def apply(self: Any, ops: Any, outputs: Any, *others: Any) -> None:
        ops(np.square, outputs)

    with pytest.raises(gf.DataError, match=r"<ufunc 'square'> is not an op; decorate the function"):
        gf.Trainer(network(backend_name), loss_that(apply), "adam").fit(X, Y, epochs=1)


def test_a_subclass_of_a_loss_that_only_calls_ops_is_recorded(backend_name: str) -> None:
    class Twice(gf.MeanSquaredError):
        def factor(self, n_out: int) -> float:
            return 2 * super().factor(n_out)

    values = [
        gf.Trainer(network(backend_name), loss, "adam").evaluate(X, Y, sample_weight=WEIGHT)["loss"]
        for loss in (gf.MeanSquaredError(), Twice())
    ]
    assert_allclose(values[1], 2 * values[0], rtol=1e-6)


# -- weights ----------------------------------------------------------------------------------------------------------


def without_weights() -> gf.Loss:
    @op(
        shapes="outputs, targets, d_outputs: rows columns; row_losses: epoch_rows; clock: 4",
        writes=("d_outputs", "row_losses", "clock"),
        in_place=(("outputs", "d_outputs"),),
    )
    def plain_squares(outputs: Array, targets: Array, d_outputs: Array, row_losses: Array, clock: Array) -> None:
        error = outputs - targets
        record_losses((error**2).sum(axis=1), row_losses, clock)
        d_outputs[...] = 2 * error / len(error)

    class Plain(gf.Loss):
        name = "plain"
        output_activation = "identity"
        has_accuracy = False

        def targets(self, y: Array, n_out: int, dtype: Any) -> Array:
            return dense_targets(y, n_out, dtype)

        def apply(self, ops: Any, outputs: Any, targets: Any, row_weight: Any, *results: Any) -> None:
            d_outputs, row_losses, _, clock = results
            ops(plain_squares, outputs, targets, d_outputs, row_losses, clock)

    return Plain()


@pytest.mark.parametrize("backend", ["reference", "numpy"])  # the op has no kernel for a GPU
def test_weights_that_a_loss_does_not_use_are_refused(backend: str) -> None:
    loss = without_weights()
    made = network(backend)
    trainer = gf.Trainer(made, loss, "adam")
    trainer.fit(X, Y, epochs=1, validation_data=(X, Y))
    before = made.get_weights()
    for call in (
        lambda: trainer.fit(X, Y, epochs=1, sample_weight=WEIGHT),
        lambda: trainer.fit(gf.data.Arrays(X, Y, WEIGHT), epochs=1),
        lambda: trainer.fit(X, Y, epochs=1, validation_data=(X, Y, WEIGHT)),
        lambda: trainer.fit(X, Y, epochs=1, validation_data=gf.data.Arrays(X, Y, WEIGHT)),
        lambda: trainer.evaluate(X, Y, sample_weight=WEIGHT),
        lambda: trainer.evaluate(gf.data.Arrays(X, Y, WEIGHT)),
    ):
        with pytest.raises(gf.DataError, match=r"have weights, but loss Plain\(\) passes no op its row_weight"):
            call()
    for name, value in made.get_weights().items():
        assert_array_equal(value, before[name])


@pytest.mark.parametrize("backend", ["reference", "numpy"])
def test_class_weights_that_a_loss_does_not_use_are_refused(backend: str) -> None:
    loss: Any = type("OfClasses", (type(without_weights()),), {"output_activation": "sigmoid"})()
    trainer = gf.Trainer(network(backend), loss, "adam")
    with pytest.raises(gf.DataError, match="passes no op its row_weight"):
        trainer.fit(X, (Y > 0).astype(int), epochs=1, class_weight="balanced")


@pytest.mark.parametrize(
    "targets",
    [
        lambda self, y, n_out, dtype: y.reshape(-1, 1)[:10].astype(dtype),
        lambda self, y, n_out, dtype: y.reshape(-1, 1).tolist(),
        lambda self, y, n_out, dtype: y.reshape(-1, 1).astype(str),
        lambda self, y, n_out, dtype: y.sum(),
        lambda self, y, n_out, dtype: None,
    ],
)
def test_targets_converted_by_a_loss_are_checked(targets: Callable[..., Any]) -> None:
    loss: Any = type("Own", (gf.MeanSquaredError,), {"targets": targets})()
    made = network()
    for data in ((X, Y), (gf.data.Arrays(X, Y), None)):
        with pytest.raises(gf.DataError, match=r"targets\(y, n_out, dtype\) of loss Own\(\) must return an array of"):
            gf.Trainer(made, loss, "adam").fit(*data, epochs=1)
    with pytest.raises(gf.DataError, match="must return an array of numbers"):
        gf.check_gradients(made, loss, X, Y)
