"""Warnings point to the line of the user's program, however deep in the library they arise."""

from __future__ import annotations

import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.errors import warn

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = np.arange(40) % 2


def trainer(learning_rate: float = 0.01) -> gf.Trainer:
    return gf.Trainer(gf.MLP([3, 4, 2], seed=1, backend="numpy"), "softmax_cross_entropy", gf.SGD(learning_rate))


def explode(folder: Path) -> None:
    y = 1e3 * X[:, :1]
    network = gf.MLP([3, 1], seed=1, backend="numpy")
    gf.Trainer(network, "mean_squared_error", gf.SGD(1.5)).fit(X, y, epochs=6, batch_size=None, progress=False)


def resume_after_damage(folder: Path) -> None:
    trainer().fit(X, Y, epochs=2, output=folder / "run", checkpoint=gf.Checkpoint(), progress=False)
    last = max((folder / "run" / "checkpoints").iterdir())
    last.write_bytes(last.read_bytes()[:-1])
    trainer().fit(X, Y, epochs=2, resume=folder / "run", progress=False)


def lose_the_folder(folder: Path) -> None:
    class Losing(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            shutil.rmtree(folder / "run", ignore_errors=True)

    arguments = {"output": folder / "run", "checkpoint": gf.Checkpoint(), "callbacks": [Losing()], "progress": False}
    with pytest.raises(OSError, match="the results cannot be written"):
        trainer().fit(X, Y, epochs=2, **arguments)


def fit_names(folder: Path) -> None:
    gf.data.fit_preprocessing({"name": np.array([f"name {n}" for n in range(100)], object), "n": np.arange(100.0)})


@pytest.mark.parametrize(
    "run", [explode, resume_after_damage, lose_the_folder, fit_names], ids=lambda run: run.__name__
)
def test_warnings_point_to_the_caller(run: Callable[[Path], None], tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(tmp_path)
    assert caught
    assert {warning.filename for warning in caught} == {__file__}


def test_a_warning_of_a_user_is_at_its_own_line() -> None:
    with pytest.warns(gf.TrainingWarning, match="look") as caught:
        warn("look", gf.TrainingWarning)
    assert caught[0].filename == __file__


def test_a_divergence_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(gf.DivergedError("it exploded", epoch=3, step=7)))
    assert type(error) is gf.DivergedError
    assert (str(error), error.epoch, error.step) == ("it exploded", 3, 7)
