"""Functions as losses: the same as built-in losses of the same formula, and clear errors for anything else."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import gradflow as gf
from gradflow.names import function_at, import_path

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(70, 3)), RANDOM.normal(size=(70, 2))
WEIGHT = np.linspace(0, 2, 70)


def squares(outputs: Any, targets: Any) -> tuple[Any, Any]:
    error = outputs - targets
    return (error**2).mean(axis=1), 2 * error / error.shape[1]


def mean_of_squares(outputs: Any, targets: Any) -> tuple[Any, Any]:
    error = outputs - targets
    return (error**2).mean(), 2 * error / error.size


def forgetful(outputs: Any, targets: Any) -> tuple[Any, Any]:
    error = outputs - targets
    return (error**2).mean(axis=1), 2 * error


def network(backend: str = "numpy", **options: Any) -> gf.Sequential:
    return gf.MLP([3, 8, 2], "tanh", **{"seed": 1, "backend": backend} | options)


def trainer(loss: Any, backend: str = "numpy", *, dtype: str = "float32", **settings: Any) -> gf.Trainer:
    return gf.Trainer(network(backend, dtype=dtype), loss, "adam", **settings)


def fit(of: gf.Trainer, **arguments: Any) -> gf.History:
    return of.fit(X, Y, **{"epochs": 3, "batch_size": 16, "progress": False} | arguments)


FUNCTIONS = [squares, mean_of_squares]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({}, {}),
        ({"standardize_targets": True, "metrics": ["r2"]}, {"validation_data": (X[:20], Y[:20])}),
        ({"average": 0.9, "l2": 0.01, "clip_norm": 0.1}, {"accumulate": 2, "drop_last": True}),
        ({"layer_statistics": True, "steps_per_launch": 3}, {"shuffle": False, "batch_size": None}),
    ],
    ids=["plain", "validated", "accumulated", "measured"],
)
def test_a_function_trains_as_the_built_in_loss(
    function: Callable[..., Any], dtype: str, settings: Any, arguments: Any, backend_name: str
) -> None:
    own = trainer(function, backend_name, dtype=dtype, **settings)
    built_in = trainer("mean_squared_error", backend_name, dtype=dtype, **settings)
    histories = fit(own, **arguments), fit(built_in, **arguments)
    rounding = 1e-4 if dtype == "float32" else 1e-10
    for name in histories[1]:
        assert_allclose(*(history[name] for history in histories), rtol=rounding, atol=rounding, err_msg=name)
    assert_allclose(own.network.predict(X), built_in.network.predict(X), rtol=rounding, atol=rounding)
    values = [each.evaluate(X, Y) for each in (own, built_in)]
    assert_allclose([*values[0].values()], [*values[1].values()], rtol=rounding)


def test_losses_of_rows_are_weighted(backend_name: str) -> None:
    own, built_in = trainer(squares, backend_name), trainer("mean_squared_error", backend_name)
    arguments: dict[str, Any] = {"sample_weight": WEIGHT, "validation_data": (X, Y, WEIGHT)}
    histories = fit(own, **arguments), fit(built_in, **arguments)
    for name in ("loss", "val_loss"):
        assert_allclose(histories[0][name], histories[1][name], rtol=1e-5)


def test_one_loss_of_all_rows_takes_no_weights(backend_name: str) -> None:
    of = trainer(mean_of_squares, backend_name)
    before = of.network.get_weights()
    for call in (
        lambda: fit(of, sample_weight=WEIGHT),
        lambda: of.evaluate(X, Y, sample_weight=WEIGHT),
    ):
        with pytest.raises(
            gf.DataError, match="mean_of_squares returns one loss for all rows; return the losses of the"
        ):
            call()
        for name, value in of.network.get_weights().items():
            assert_array_equal(value, before[name])
    with pytest.raises(gf.DataError, match="one loss for all rows"):
        fit(of, validation_data=(X, Y, WEIGHT))


def test_a_wrong_derivative_shows(backend_name: str) -> None:
    for function in FUNCTIONS:
        assert max(gf.check_gradients(network(backend_name), function, X, Y).values()) < 1e-5
    assert min(gf.check_gradients(network(backend_name), forgetful, X, Y).values()) > 0.4
    norms = [gf.inspect.gradient_norms(network(backend_name), loss, X, Y) for loss in (squares, "mean_squared_error")]
    assert_allclose([*norms[0].values()], [*norms[1].values()], rtol=1e-4)


def test_streams_and_frozen_layers(backend_name: str) -> None:
    histories = []
    for loss in (squares, "mean_squared_error"):
        of = trainer(loss, backend_name)
        of.network.frozen = [0]
        blocks = [(X[start : start + 10], Y[start : start + 10]) for start in range(0, 70, 10)]
        histories.append(of.fit(gf.data.Batches(blocks, rows=70, block_rows=10), epochs=2, progress=False))
        assert_array_equal(of.network.get_weights()["0.weight"], network(backend_name).get_weights()["0.weight"])
    assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
def test_a_function_gets_outputs_in_full_precision_on_a_gpu(precision: str) -> None:
    dtypes = set()

    def noted(outputs: Any, targets: Any) -> tuple[Any, Any]:
        dtypes.add((type(outputs).__module__.partition(".")[0], outputs.dtype.name, targets.dtype.name))
        return squares(outputs, targets)

    histories = [fit(trainer(loss, "cupy", precision=precision)) for loss in (noted, "mean_squared_error")]
    assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-2)
    assert dtypes == {("cupy", "float32", "float32")}


@pytest.mark.parametrize("backend_name", ["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_members_of_a_pack_may_have_functions(backend_name: str) -> None:
    members = [trainer(function, backend_name) for function in (squares, mean_of_squares)]
    alone = trainer("mean_squared_error", backend_name)
    gf.Pack(members).fit(X, Y, epochs=2, batch_size=16, progress=False)
    expected = fit(alone, epochs=2)["loss"]
    for member in members:
        assert member.history is not None
        assert_allclose(member.history["loss"], expected, rtol=1e-5)


def test_a_loss_that_is_not_finite_ends_the_training(backend_name: str) -> None:
    calls = []

    def diverging(outputs: Any, targets: Any) -> tuple[Any, Any]:
        calls.append(len(outputs))
        losses, derivatives = squares(outputs, targets)
        return losses * (np.inf if len(calls) == 7 else 1), derivatives

    with pytest.raises(gf.DivergedError, match="the loss became NaN or infinite in epoch 2, at step 2"):
        fit(trainer(diverging, backend_name))


# -- what a function may return ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y, t: None, r"a pair \(losses, d_outputs\).* got None"),
        (lambda y, t: ((y - t) ** 2).mean(), "a pair"),
        (lambda y, t: (squares(y, t)[0], squares(y, t)[1], 0), "a pair"),
        (lambda y, t: (squares(y, t)[0], squares(y, t)[1][:, 0]), r"d_outputs .*of shape \(16, 2\).* got float32"),
        (lambda y, t: (squares(y, t)[0], 2.0), r"d_outputs .*of shape \(16, 2\).* got 2\.0"),
        (lambda y, t: (squares(y, t)[0], (y - t).astype(int)), "d_outputs .*numbers.* got int64 of"),
        (lambda y, t: (squares(y, t)[0], (y - t).tolist()), "d_outputs as a numpy array"),
        (lambda y, t: ((y - t) ** 2, y - t), r"losses .*of shape \(16,\) or \(\).* got float32 of shape \(16, 2\)"),
        (lambda y, t: (squares(y, t)[0] > 0, y - t), "losses .*of floating-point numbers.* got bool"),
        (lambda y, t: ("low", y - t), "losses .*got "),
        (lambda y, t: (1, y - t), "losses .*got "),
    ],
)  # fmt: skip
def test_other_results_are_refused(function: Any, said: str) -> None:
    of = trainer(function)
    before = of.network.get_weights()
    for call in (lambda: fit(of), lambda: of.evaluate(X[:16], Y[:16])):
        with pytest.raises(gf.DataError, match=rf"the loss function tests\..*<lambda> must return .*{said}"):
            call()
    for name, value in of.network.get_weights().items():
        assert_array_equal(value, before[name])


def test_a_single_number_may_be_of_python(backend_name: str) -> None:
    def of_floats(outputs: Any, targets: Any) -> tuple[Any, Any]:
        loss, derivatives = mean_of_squares(outputs, targets)
        return float(loss), derivatives

    histories = [fit(trainer(loss, backend_name))["loss"] for loss in (of_floats, mean_of_squares)]
    assert_allclose(*histories, rtol=1e-6)


def test_a_function_cannot_change_the_data() -> None:
    def careless(outputs: Any, targets: Any) -> tuple[Any, Any]:
        targets -= outputs
        return squares(outputs, targets)

    with pytest.raises(ValueError, match="read-only"):
        fit(trainer(careless), batch_size=None)


def test_what_a_function_raises_reaches_the_caller() -> None:
    def fails(outputs: Any, targets: Any) -> tuple[Any, Any]:
        raise ZeroDivisionError("of the function")

    with pytest.raises(ZeroDivisionError, match="of the function"):
        fit(trainer(fails))


def test_targets_have_as_many_columns_as_there_are_outputs() -> None:
    with pytest.raises(gf.DataError, match=r"targets must have shape \(batch, 2\)"):
        trainer(squares).fit(X, Y[:, 0], epochs=1)


# -- files and copies -------------------------------------------------------------------------------------------------


def test_a_run_keeps_the_name_of_its_function(tmp_path: Path) -> None:
    history = fit(trainer(squares), output=tmp_path, checkpoint=gf.Checkpoint())
    path = f"{__name__}:squares"
    assert json.loads((tmp_path / "config.json").read_text())["loss"] == {"name": path}
    assert function_at(path) is squares
    assert gf.repeat(tmp_path, X, Y).is_same
    assert len(fit(trainer(squares), epochs=5, resume=tmp_path)["loss"]) == 5
    with pytest.raises(gf.DataError, match=r"loss\.name was .*:squares', but is .*:mean_of_squares'"):
        fit(trainer(mean_of_squares), epochs=6, resume=tmp_path)
    assert_allclose(gf.load(tmp_path).predict(X).shape, (70, 2))
    assert history.epochs == 3


def test_a_function_that_is_gone_cannot_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(trainer(squares), output=tmp_path)
    monkeypatch.delattr(f"{__name__}.squares")
    with pytest.raises(
        gf.DataError, match=r"the loss of the run was the function .*:squares; define it, or import its module"
    ):
        gf.repeat(tmp_path, X, Y)


def local() -> Callable[..., Any]:
    def inner(outputs: Any, targets: Any) -> tuple[Any, Any]:
        return squares(outputs, targets)

    return inner


@pytest.mark.parametrize(
    "function", [lambda y, t: squares(y, t), local(), partial(squares)], ids=["lambda", "local", "partial"]
)
def test_a_function_without_a_name_trains_but_is_not_saved(function: Any, tmp_path: Path) -> None:
    of = trainer(function)
    with pytest.raises(gf.DataError, match="a run folder keeps a function by the name by which it can be imported"):
        fit(of, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert_allclose(fit(of)["loss"], fit(trainer(squares))["loss"])
    gf.save(of.network, tmp_path / "model.safetensors")


def test_trainers_with_functions_are_copied_and_pickled() -> None:
    of = trainer(squares, metrics=[largest_error])
    fit(of, epochs=1)
    expected = of.evaluate(X, Y)
    for other in (copy.deepcopy(of), pickle.loads(pickle.dumps(of))):
        assert other.evaluate(X, Y) == expected
        assert other.loss.function is squares
        fit(other, epochs=1)


def largest_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    return float(abs(predictions - targets).max())


def test_names_of_functions() -> None:
    assert import_path(squares) == f"{__name__}:squares"
    assert import_path(partial(squares)) == "functools:partial"
    for path in ("", ":", "tests", "nowhere:squares", f"{__name__}:missing.part", f"{__name__}:squares:more"):
        assert not callable(function_at(path))
