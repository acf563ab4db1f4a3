"""Networks are loaded from run folders and from checkpoints exactly as they were during training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.training.runs.snapshots import Snapshot
from tests.training.runs.test_resume import LABELS, BrokenOffError, Dies, X

TABLE = {"a": X[:, 0], "b": np.where(LABELS > 0, "yes", "no"), "c": X[:, 1]}
Y = 50 + 20 * X[:, 2]


def plain(backend: str) -> gf.Sequential:
    return gf.MLP([6, 9, 3], dropout=0.3, seed=3, backend=backend)


def normalized(backend: str) -> gf.Sequential:
    layers = [gf.Dense(6, 9), gf.BatchNorm(9), gf.ReLU(), gf.Residual([gf.Dense(9, 9), gf.Tanh()]), gf.Dense(9, 3)]
    network = gf.Sequential(layers, seed=2, backend=backend)
    network.frozen = [0]
    return network


def preprocessed(backend: str) -> gf.Sequential:
    preprocessing = gf.data.fit_preprocessing(TABLE)
    network = gf.MLP([preprocessing.n_out, 8, 1], seed=1, backend=backend)
    network.preprocessing = preprocessing
    return network


KINDS: dict[str, tuple[Any, str, Any, Any, dict[str, Any]]] = {
    "plain": (plain, "softmax_cross_entropy", X, LABELS, {}),
    "average": (plain, "softmax_cross_entropy", X, LABELS, {"average": 0.9}),
    "running values and frozen layers": (normalized, "softmax_cross_entropy", X, LABELS, {"average": 0.5}),
    "preprocessing and scale": (preprocessed, "mean_squared_error", TABLE, Y, {"standardize_targets": True}),
    "names of columns": (
        lambda backend: gf.MLP([2, 4, 1], backend=backend),
        "mean_squared_error",
        {name: TABLE[name] for name in "ca"},
        Y,
        {},
    ),
}


def trained(kind: str, backend: str, **arguments: Any) -> gf.Sequential:
    """Train and return the network, also if training ends with an error."""
    make, loss, x, y, settings = KINDS[kind]
    network: gf.Sequential = make(backend)
    trainer = gf.Trainer(network, loss, gf.Adam(0.01), **settings)
    trainer.fit(x, y, **{"epochs": 3, "batch_size": 16} | arguments)
    return network


def assert_same(loaded: gf.Sequential, expected: gf.Sequential, x: Any) -> None:
    for name, weight in expected.get_weights().items():
        assert loaded.get_weights()[name].tobytes() == weight.tobytes(), name
    assert loaded.predict(x).tobytes() == expected.predict(x).tobytes()
    assert (loaded.seed, loaded.frozen, loaded.feature_names) == (
        expected.seed,
        expected.frozen,
        expected.feature_names,
    )
    assert loaded.epochs_begun == expected.epochs_begun


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_the_network_of_its_epoch(tmp_path: Path, backend_name: str, kind: str) -> None:
    x = KINDS[kind][2]
    finished = trained(kind, backend_name, output=tmp_path, checkpoint=gf.Checkpoint(keep=9))
    checkpoints = sorted((tmp_path / "checkpoints").iterdir())
    assert len(checkpoints) == 4
    for epochs, path in enumerate(checkpoints[1:], start=1):
        expected = finished if epochs == 3 else trained(kind, backend_name, epochs=epochs)
        assert_same(gf.load(path, backend_name), expected, x)
    assert_same(gf.load(tmp_path, backend_name), finished, x)
    assert_same(gf.load(str(tmp_path), "reference").copy(), gf.load(tmp_path / "model.safetensors", "reference"), x)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_of_a_run_that_was_killed_is_its_last_checkpoint(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BrokenOffError):
        trained(kind, "numpy", output=tmp_path, checkpoint=gf.Checkpoint(), callbacks=[Dies(3)])
    assert_same(gf.load(tmp_path, "numpy"), trained(kind, "numpy", epochs=2), KINDS[kind][2])
    (tmp_path / "checkpoints" / "step-000000000010.safetensors").write_bytes(b"")
    with pytest.warns(gf.CheckpointWarning, match="The previous checkpoint is used"):
        before = gf.load(tmp_path, "numpy")
    assert_same(before, trained(kind, "numpy", epochs=1), KINDS[kind][2])


@pytest.mark.parametrize("kind", ["plain", "average"])
def test_within_an_epoch_it_is_the_weights_or_their_average(tmp_path: Path, kind: str) -> None:
    trained(kind, "numpy", output=tmp_path, checkpoint=gf.Checkpoint(every_steps=7, keep=9))
    path = tmp_path / "checkpoints" / "step-000000000007.safetensors"
    vectors, loaded = Snapshot.read(path).vectors, gf.load(path, "numpy")
    expected = vectors["update.average" if kind == "average" else "network"]
    np.testing.assert_array_equal(loaded.parameters, expected)
    assert kind == "plain" or not np.array_equal(expected, vectors["network"])
    assert loaded.epochs_begun == 2


def rewritten(path: Path, change: Any) -> None:
    """Modify a checkpoint, and update its checksum."""
    snapshot = Snapshot.read(path)
    vectors = {name: vector.copy() for name, vector in snapshot.vectors.items()}
    record = {name: entry for name, entry in snapshot.record.items() if name != "version"}
    change(vectors, record)
    Snapshot(vectors, record).write(path)


@pytest.mark.parametrize("kind", ["plain", "preprocessing and scale"])
def test_checkpoints_of_earlier_versions_say_what_the_run_began_with(tmp_path: Path, kind: str) -> None:
    network = trained(kind, "numpy", output=tmp_path, checkpoint=gf.Checkpoint(keep=1))
    (path,) = (tmp_path / "checkpoints").iterdir()
    rewritten(path, lambda vectors, record: record.pop("network"))
    if kind == "plain":
        assert_same(gf.load(path, "numpy"), network, X)
        return
    with pytest.raises(gf.FileFormatError, match=r"lacks the scale of the targets.* Finish the run"):
        gf.load(path, "numpy")


def not_finite(vectors: dict[str, Any], record: dict[str, Any]) -> None:
    vectors["network"][3] = np.nan


DAMAGES: dict[str, tuple[Any, str]] = {
    "no number": (not_finite, "holds values that are NaN"),
    "too few": (lambda vectors, record: vectors.update(network=np.ones(4, np.float32)), "has .4,. numbers"),
    "too long an average": (
        lambda vectors, record: vectors.update({"update.average": np.ones(9999, np.float32)}),
        "could not broadcast",
    ),
    "no vector": (lambda vectors, record: vectors.pop("network"), "the network in the checkpoint is damaged"),
    "no layers": (lambda vectors, record: record["network"].pop("layers"), "the network in the checkpoint is damaged"),
    "no description": (lambda vectors, record: record.update(network=3), "the network in the checkpoint is damaged"),
    "no clock": (
        lambda vectors, record: record["progress"].update(clock=[]),
        "the network in the checkpoint is damaged",
    ),
    "before time": (
        lambda vectors, record: record["progress"].update(clock=[1, -1, 0, 1]),
        "epochs_begun must be between 0 and",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_checkpoints_of_no_network_are_refused(tmp_path: Path, damage: str) -> None:
    trained("plain", "numpy", output=tmp_path, checkpoint=gf.Checkpoint(keep=1))
    (path,) = (tmp_path / "checkpoints").iterdir()
    change, message = DAMAGES[damage]
    rewritten(path, change)
    with pytest.raises(gf.FileFormatError, match=f"{path}.*{message}"):
        gf.load(path, "numpy")


def test_other_objects_than_networks_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "is a folder with neither model.safetensors nor checkpoints"), ("", "path must")):
        with pytest.raises(gf.DataError, match=message):
            gf.load(path)
    (tmp_path / "text").write_text("text")
    with pytest.raises(gf.FileFormatError, match="not a gradflow model or is damaged"):
        gf.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        gf.load(tmp_path / "gone")
