"""`WeightPath`: the weights along a run, bounded in number and size, and never those of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.training.runs.weight_path import weights_by_time

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)


def trained(folder: Path, epochs: int, seed: int = 0, **arguments: Any) -> gf.Trainer:
    trainer = gf.Trainer(gf.MLP([3, 4, 1], seed=seed, backend="numpy"), "mean_squared_error", gf.Adam())
    callbacks = arguments.pop("callbacks", [gf.WeightPath(folder, most=8)])
    place = {} if "resume" in arguments else {"output": folder}
    trainer.fit(X, Y, epochs=epochs, callbacks=callbacks, **place, **arguments)
    return trainer


def labels(folder: Path, trainer: gf.Trainer) -> tuple[str, ...]:
    assert trainer.history is not None
    found = weights_by_time(folder, trainer.history["loss"], trainer.network.state.size)
    return () if found is None else found.labels


def epochs_kept(folder: Path, trainer: gf.Trainer) -> list[int]:
    return [int(label.removeprefix("epoch ")) for label in labels(folder, trainer)]


@pytest.mark.parametrize(("epochs", "kept"), [(3, range(4)), (7, range(8)), (8, range(0, 9, 2)), (20, range(0, 21, 4))])
def test_points_are_evenly_spaced_and_few(epochs: int, kept: range, tmp_path: Path) -> None:
    trainer = trained(tmp_path, epochs)
    assert epochs_kept(tmp_path, trainer) == list(kept)
    found = weights_by_time(tmp_path, trainer.history["loss"], trainer.network.state.size)
    assert found is not None
    if epochs in kept:
        assert (found.states[-1] == trainer.network.state).all()
    assert (found.states[0] == gf.MLP([3, 4, 1], seed=0, backend="numpy").state).all()


def test_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    weights = [
        trained(tmp_path / name, 5, callbacks=callbacks).network.state.tobytes()
        for name, callbacks in (("a", [gf.WeightPath(tmp_path / "a")]), ("b", []))
    ]
    assert weights[0] == weights[1]


def test_a_resumed_run_has_the_points_of_the_first_part(tmp_path: Path) -> None:
    trained(tmp_path, 5, checkpoint=gf.Checkpoint())
    trainer = trained(tmp_path, 10, resume=tmp_path)
    assert epochs_kept(tmp_path, trainer) == list(range(0, 11, 2))


def test_the_file_of_another_run_is_not_used(tmp_path: Path) -> None:
    trained(tmp_path, 5)
    trainer = trained(tmp_path, 5, seed=1, callbacks=[], overwrite=True)
    assert labels(tmp_path, trainer) == ()


def test_checkpoints_serve_where_nothing_else_was_kept(tmp_path: Path) -> None:
    trainer = trained(tmp_path, 4, callbacks=[], checkpoint=gf.Checkpoint(keep=10))
    assert labels(tmp_path, trainer) == ("step 0", "step 1", "step 2", "step 3", "step 4")
    damaged = tmp_path / "checkpoints" / "step-000000000002.safetensors"
    damaged.write_bytes(b"damaged")
    assert labels(tmp_path, trainer) == ("step 0", "step 1", "step 3", "step 4")


def test_a_large_network_keeps_fewer_points_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 * gf.MLP([3, 4, 1], backend="numpy").state.size
    monkeypatch.setattr("gradflow.training.runs.weight_path._MOST_BYTES", 8 * size)
    trainer = trained(tmp_path / "few", 10, callbacks=[gf.WeightPath(tmp_path / "few")])
    assert epochs_kept(tmp_path / "few", trainer) == list(range(0, 11, 2))
    monkeypatch.setattr("gradflow.training.runs.weight_path._MOST_BYTES", 7 * size)
    trained(tmp_path / "none", 10, callbacks=[gf.WeightPath(tmp_path / "none")])
    assert not (tmp_path / "none" / "weight-path.safetensors").exists()


def test_a_full_disk_costs_the_picture_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gradflow.training.runs.weight_path.write_atomically", full)
    with pytest.warns(gf.PictureWarning, match=r"path of the weights could not be saved: .*No space left"):
        trained(tmp_path, 2)
    assert (tmp_path / "model.safetensors").exists()
