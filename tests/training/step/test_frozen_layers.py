"""Frozen layers: training leaves them unchanged, and trains the others as if there were no others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from tests.optimizers.cases import OPTIMIZER_CASES

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3))
LABELS = (X[:, 0] > 0).astype(int)
BODY = (0, 1, 2)

OPTIMIZERS: dict[str, Callable[[], gf.Optimizer]] = {
    **{name: partial(case.make, 0.05) for name, case in OPTIMIZER_CASES.items()},
    "lbfgs": lambda: gf.LBFGS(max_iterations=5),
}


def body() -> list[gf.Layer]:
    return [gf.Dense(3, 6), gf.BatchNorm(6), gf.Tanh()]


def network(backend: str = "numpy", dtype: str = "float64") -> gf.Sequential:
    """A network whose body has been trained, so that the running values of its batch normalization are meaningful."""
    made = gf.Sequential([*body(), gf.Dense(6, 4), gf.Tanh(), gf.Dense(4, 2)], seed=1, backend=backend, dtype=dtype)
    gf.Trainer(made, "softmax_cross_entropy", gf.SGD(0.1)).fit(X, LABELS, epochs=3, batch_size=8, progress=False)
    return made


def trained(of: gf.Sequential, x: np.ndarray, optimizer: str, **settings: Any) -> gf.Sequential:
    batch_size = None if optimizer == "lbfgs" else 8
    trainer = gf.Trainer(of, "softmax_cross_entropy", OPTIMIZERS[optimizer](), **settings)
    trainer.fit(x, LABELS, epochs=3, batch_size=batch_size, progress=False)
    return of


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("settings", [{}, {"l2": 0.1, "l1": 0.01, "clip_norm": 0.5, "average": 0.9}], ids=str)
def test_the_others_train_like_a_separate_network(optimizer: str, settings: dict[str, Any], backend_name: str) -> None:
    if optimizer == "lbfgs" and settings:
        settings = {"l2": 0.1}
    whole = network(backend_name)
    before, features = whole.get_weights(), gf.inspect.layer_outputs(whole, X)["2.Tanh"]
    head = gf.Sequential([gf.Dense(6, 4), gf.Tanh(), gf.Dense(4, 2)], seed=1, backend=backend_name, dtype="float64")
    head.set_weights({f"{int(name[0]) - 3}{name[1:]}": w for name, w in before.items() if int(name[0]) not in BODY})
    head.epochs_begun = whole.epochs_begun

    whole.frozen = BODY
    trained(whole, X, optimizer, **settings)
    trained(head, features, optimizer, **settings)

    after, expected = whole.get_weights(), head.get_weights()
    for name, weight in before.items():
        if int(name[0]) in BODY:
            assert after[name].tobytes() == weight.tobytes(), name
        else:
            assert not np.array_equal(after[name], weight), name
            np.testing.assert_allclose(after[name], expected[f"{int(name[0]) - 3}{name[1:]}"], rtol=1e-9, atol=1e-12)


def test_gradients_pass_through_a_frozen_layer(backend_name: str) -> None:
    made = network(backend_name)
    made.frozen = (1, 3)
    errors = gf.check_gradients(made, "softmax_cross_entropy", X, LABELS)
    assert set(errors) == {"0.weight", "0.bias", "5.weight", "5.bias"}
    assert max(errors.values()) < 1e-5


def test_a_frozen_batch_norm_takes_batches_of_one_row() -> None:
    made = network()
    made.frozen = (1,)
    before = made.get_weights()
    gf.Trainer(made, "softmax_cross_entropy", "sgd").fit(X, LABELS, epochs=1, batch_size=1, progress=False)
    for name in ("1.running_mean", "1.running_variance", "1.gamma", "1.beta"):
        assert made.get_weights()[name].tobytes() == before[name].tobytes()


@pytest.mark.parametrize("frozen", [(0,), (1,)], ids=["block", "after it"])
def test_residual_blocks(frozen: tuple[int, ...], backend_name: str) -> None:
    block = gf.Residual([gf.Dense(3, 5), gf.BatchNorm(5), gf.ReLU()])
    made = gf.Sequential([block, gf.Dense(5, 4), gf.ReLU(), gf.Dense(4, 2)], backend=backend_name)
    before = made.get_weights()
    made.frozen = frozen
    trained(made, X, "adamw")
    same = {name for name, weight in made.get_weights().items() if weight.tobytes() == before[name].tobytes()}
    assert same == {name for name in before if int(name[0]) in frozen}


def test_freezing_and_thawing_change_no_weight_and_no_prediction(backend_name: str) -> None:
    made = network(backend_name, "float32")
    epochs, before, predictions = made.epochs_begun, made.get_weights(), made.predict(X)
    made.frozen = range(3)
    assert made.frozen == BODY
    assert [layer.trainable for layer in made.layers] == [False] * 3 + [True] * 3
    assert made.n_parameters == 6 * 4 + 4 + 4 * 2 + 2
    assert np.array_equal(made.predict(X), predictions)
    made.frozen = ()
    assert all(layer.trainable for layer in made.layers)
    assert np.array_equal(made.predict(X), predictions)
    assert made.epochs_begun == epochs
    for name, weight in made.get_weights().items():
        assert weight.tobytes() == before[name].tobytes()
    trained(made, X, "adam")
    assert not np.array_equal(made.get_weights()["0.weight"], before["0.weight"])


@pytest.mark.parametrize(
    "again",
    [lambda made, _: made.copy(), lambda made, _: copy.deepcopy(made), lambda made, _: pickle.loads(pickle.dumps(made)),
     lambda made, path: gf.save(made, path) or gf.load(path, backend="numpy")],
    ids=["copy", "deepcopy", "pickle", "file"],
)  # fmt: skip
def test_copies_and_files_keep_what_is_frozen(again: Callable[..., gf.Sequential], tmp_path: Path) -> None:
    made = network()
    made.frozen = BODY
    twin = again(made, tmp_path / "model.safetensors")
    assert twin.frozen == BODY
    trained(made, X, "adam")
    trained(twin, X, "adam")
    for name, weight in made.get_weights().items():
        assert twin.get_weights()[name].tobytes() == weight.tobytes(), name


class Stop(gf.Callback):
    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        if epoch == 2:
            raise RuntimeError("a fault of the machine")


def test_a_run_resumes_and_repeats_with_its_frozen_layers(tmp_path: Path) -> None:
    arguments = {"epochs": 4, "batch_size": 8, "progress": False}

    def trainer(*frozen: int) -> gf.Trainer:
        made = network()
        made.frozen = frozen
        return gf.Trainer(made, "softmax_cross_entropy", "adam", average=0.9)

    whole = trainer(*BODY)
    whole.fit(X, LABELS, **arguments, output=tmp_path / "whole")
    with pytest.raises(RuntimeError):
        trainer(*BODY).fit(
            X, LABELS, **arguments, output=tmp_path / "run", checkpoint=gf.Checkpoint(), callbacks=[Stop()]
        )
    with pytest.raises(gf.DataError, match="frozen"):
        trainer(0).fit(X, LABELS, **arguments, resume=tmp_path / "run")
    resumed = trainer(*BODY)
    resumed.fit(X, LABELS, **arguments, resume=tmp_path / "run")
    for name, weight in whole.network.get_weights().items():
        assert resumed.network.get_weights()[name].tobytes() == weight.tobytes(), name
    assert gf.repeat(tmp_path / "whole", X, LABELS, network=trainer(*BODY).network).is_same


def test_statistics_and_norms_are_those_of_the_layers_that_train(backend_name: str) -> None:
    made = network(backend_name)
    made.frozen = BODY
    trainer = gf.Trainer(made, "softmax_cross_entropy", "adam", layer_statistics=True, clip_norm=1.0)
    history = trainer.fit(X, LABELS, epochs=2, batch_size=8, accumulate=2, progress=False)
    assert [name for name in history if name.startswith("gradient_norm/")] == ["gradient_norm/3", "gradient_norm/5"]
    norms = gf.inspect.gradient_norms(made, "softmax_cross_entropy", X, LABELS)
    assert set(norms) == {"3.weight", "3.bias", "5.weight", "5.bias"}


def test_a_new_head_on_a_trained_body(backend_name: str) -> None:
    base = network(backend_name, "float32")
    made = gf.Sequential([*copy.deepcopy(base.layers[:3]), gf.Dense(6, 5)], backend=backend_name)
    kept = {name: weight for name, weight in base.get_weights().items() if int(name[0]) in BODY}
    head = made.get_weights()["3.weight"]
    made.set_weights(kept, partial=True)
    for name, weight in kept.items():
        assert made.get_weights()[name].tobytes() == weight.tobytes()
    assert np.array_equal(made.get_weights()["3.weight"], head)
    with pytest.raises(gf.DataError, match=r"Did you mean '0\.weight'"):
        made.set_weights({"0.wieght": kept["0.weight"]}, partial=True)


REFUSED: dict[str, tuple[Callable[[gf.Sequential], Any], str]] = {
    "a layer": (lambda made: setattr(made.layers[0], "trainable", False), "set network.frozen to the indices"),
    "all": (lambda made: setattr(made, "frozen", range(6)), "leave at least one to train"),
    "all with parameters": (lambda made: setattr(made, "frozen", [0, 1, 3, 5]), "leave at least one to train"),
    "no place": (lambda made: setattr(made, "frozen", [6]), r"frozen\[0\] must be between 0 and 5, got 6"),
    "a name": (lambda made: setattr(made, "frozen", "0.weight"), "frozen must be a list of the indices of layers"),
    "a layer for a place": (lambda made: setattr(made, "frozen", made.layers[:1]), r"frozen\[0\] must be an integer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_freezing_other_objects_is_refused(case: str) -> None:
    made = network()
    change, message = REFUSED[case]
    with pytest.raises(gf.GradflowError, match=message):
        change(made)
    assert made.frozen == ()


def test_no_layer_is_frozen_in_training() -> None:
    class Freeze(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            trainer.network.frozen = BODY

    made = network()
    with pytest.raises(gf.GradflowError, match="cannot be frozen during training"):
        gf.Trainer(made, "softmax_cross_entropy", "adam").fit(X, LABELS, epochs=1, callbacks=[Freeze()], progress=False)
    assert made.frozen == ()
