"""Files with valid checksums and invalid contents: whoever crafted them, they are refused or have no effect.

Each entry of a checkpoint, a model or a config.json is replaced by an impossible one. Kernels use numbers from a
checkpoint as memory indices, so a missing check can crash or hang the process here.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.files import read_json, write_json
from gradflow.json_shape import check_shape
from gradflow.optimizers.loss_scaling import LossScaling, check_scaling
from gradflow.storage import checksum, describe
from gradflow.training.runs.checkpoints import checkpoint_files
from gradflow.training.runs.snapshots import Snapshot

pytestmark = pytest.mark.thorough

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(size=(30, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int64)

WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    3,
    10**8,
    2**63 - 1,
    2**70,
    0.5,
    -1e8,
    math.nan,
    math.inf,
    "x",
    [],
    {},
    [[]],
)
"""Replacements for an entry; one of them may equal the entry."""


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the key paths of all values in a JSON object, except the object itself."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the object with another value at a key path."""
    content, inside = _and_inside(content, path)
    inside[path[-1]] = value
    return content


def crafted(content: Any, path: tuple[Any, ...]) -> Iterator[Any]:
    """Return the object with the value at a key path replaced, removed, or duplicated."""
    for wrong in WRONG:
        yield replaced(content, path, wrong)
    less, inside = _and_inside(content, path)
    del inside[path[-1]]
    yield less
    more, inside = _and_inside(content, path)
    if isinstance(inside, list):
        inside.append(inside[path[-1]])
        yield more


def _and_inside(content: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return a copy of the object, and the container of the value at a key path in it."""
    content = inside = copy.deepcopy(content)
    for key in path[:-1]:
        inside = inside[key]
    return content, inside


# -- checkpoints ------------------------------------------------------------------------------------------------------


class Kind:
    """A run, and where it is interrupted."""

    def __init__(self, backend: str, name: str) -> None:
        self.backend, self.name = backend, name

    def trainer(self) -> gf.Trainer:
        network = gf.MLP([3, 4, 2], dropout=0.1, seed=1, backend=self.backend)
        if self.name == "minimized":
            network = gf.MLP([3, 4, 2], "tanh", seed=1, backend=self.backend)
            return gf.Trainer(network, "softmax_cross_entropy", gf.LBFGS(max_iterations=2))
        schedule = gf.CosineSchedule(0.01)
        return gf.Trainer(network, "softmax_cross_entropy", gf.Adam(schedule), metrics=["f1"], average=0.9)

    def fit(self, of: gf.Trainer, **arguments: Any) -> gf.History:
        plain: dict[str, Any] = {
            "batch_size": None if self.name == "minimized" else 7,
            "shuffle": self.name != "in row order",
            "early_stopping": gf.EarlyStopping("val_loss", patience=2),
            "tolerance": 1e-9,
            "validation_data": (X, LABELS),
        }
        return of.fit(X, LABELS, epochs=3, progress=False, **plain | arguments)

    def result(self, **arguments: Any) -> Any:
        of = self.trainer()
        history = self.fit(of, **arguments)
        state = of.network.backend.to_host(of.network.state).tobytes()
        return state, {name: repr(history[name]) for name in history}, history.stopped_by, history.best_epoch


@pytest.fixture(params=["shuffled", "in row order", "minimized"])
def kind(request: pytest.FixtureRequest, backend_name: str) -> Kind:
    return Kind(backend_name, request.param)


def broken_off(kind: Kind, folder: Path) -> tuple[Path, Snapshot]:
    """Return the only checkpoint of a run folder, from the middle of the second epoch if possible, and its contents."""
    if kind.name == "minimized":
        kind.fit(kind.trainer(), output=folder, checkpoint=gf.Checkpoint(keep=50))
        kept = 1
    else:
        kind.fit(kind.trainer(), output=folder, checkpoint=gf.Checkpoint(every_steps=7, keep=50))
        kept = 7
    for path in checkpoint_files(folder / "checkpoints"):
        if int(path.name[5:17]) != kept:
            path.unlink()
    (path,) = checkpoint_files(folder / "checkpoints")
    return path, Snapshot.read(path)


def resumed(kind: Kind, folder: Path, path: Path, vectors: Any, record: Any) -> Any:
    """Return the result of a run resumed from a crafted checkpoint, or the error if it is refused as it must be."""
    header = {"gradflow-checkpoint": checksum(vectors, json.dumps(record)) + json.dumps(record)}
    for left in checkpoint_files(folder / "checkpoints"):
        left.unlink()
    path.write_bytes(safetensors.numpy.save(dict(vectors), metadata=header))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind.result(resume=folder)
    except (gf.FileFormatError, gf.DataError) as error:
        return error


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_crafted_record_is_refused_or_changes_nothing(kind: Kind, tmp_path: Path, every: int) -> None:
    expected = kind.result()
    path, (vectors, record) = broken_off(kind, tmp_path)
    record = json.loads(json.dumps(record))
    assert resumed(kind, tmp_path, path, vectors, record) == expected
    cases = [(place, wrong) for place in places(record) for wrong in crafted(record, place)][::every]
    refused = 0
    for place, wrong in cases:
        result = resumed(kind, tmp_path, path, vectors, wrong)
        refused += isinstance(result, Exception)
        is_a_measured_value = place[:3] == ("progress", "history", "values") and len(place) == 5
        assert isinstance(result, Exception) or result == expected or is_a_measured_value, (place, wrong)
    print(f"{kind.name}: {len(cases)} records, {refused} refused")
    assert refused > 0.5 * len(cases)


def test_an_invalid_record(kind: Kind, tmp_path: Path) -> None:
    path, (vectors, _) = broken_off(kind, tmp_path)
    for record in (*WRONG, {}, {"version": 1}):
        assert isinstance(resumed(kind, tmp_path, path, vectors, record), gf.FileFormatError)


def test_crafted_vectors_are_refused(kind: Kind, tmp_path: Path) -> None:
    path, (vectors, record) = broken_off(kind, tmp_path)
    for name, vector in vectors.items():
        others = (vector[:-1], np.append(vector, vector[:1]), vector.reshape(1, -1), vector.astype(np.int8))
        for other in [*others, None]:
            wrong = {**vectors, name: other}
            if other is None:
                del wrong[name]
            assert isinstance(resumed(kind, tmp_path, path, wrong, record), gf.FileFormatError), name


def test_the_clock_cannot_address_memory_out_of_bounds(kind: Kind, tmp_path: Path) -> None:
    """These numbers used to cause writes out of bounds, or endless loops in the shuffle."""
    expected = kind.result()
    path, (vectors, record) = broken_off(kind, tmp_path)
    record = json.loads(json.dumps(record))
    entries = [("clock", entry) for entry in range(4)] + [("batches_done",)]
    for entry in entries:
        for value in (1000, 10**8, 5 * 10**9, -(10**8), 2**62, 2**64):
            result = resumed(kind, tmp_path, path, vectors, replaced(record, ("progress", *entry), value))
            # The epochs of a minimizer count its evaluations, and nothing depends on them.
            is_free = kind.name == "minimized" and entry == ("clock", 1) and result == expected
            assert isinstance(result, gf.FileFormatError) or is_free, (entry, value)


def test_a_state_of_loss_scaling_that_no_run_has_is_refused() -> None:
    scaling = LossScaling(get_backend("reference"))
    check_scaling(scaling.scaling, scaling.update_clock, 1)
    for wrong in (math.nan, math.inf, 0, -2, 3, 2**25):
        with pytest.raises(gf.FileFormatError, match="no loss is scaled by"):
            check_scaling(np.array([wrong, 0, 0], np.float32), scaling.update_clock, 1)
    for good, overflowed in ((0.5, 0), (-1, 0), (2000, 0), (0, 1), (math.nan, 0)):
        with pytest.raises(gf.FileFormatError, match="no loss is scaled by"):
            check_scaling(np.array([8, good, overflowed], np.float32), scaling.update_clock, 1)
    for clock in ((2, 0, 0, 0), (-1, 0, 0, 0), (1, 0, 0, 5)):
        with pytest.raises(gf.FileFormatError, match="the update's clock is"):
            check_scaling(scaling.scaling, np.array(clock), 1)


# -- models and settings ----------------------------------------------------------------------------------------------


def test_a_crafted_model_is_refused_or_predicts(tmp_path: Path) -> None:
    layers = [
        gf.Dense(3, 4),
        gf.BatchNorm(4),
        gf.Residual([gf.Dense(4, 4), gf.LeakyReLU()]),
        gf.Dropout(0.2),
        gf.Dense(4, 1),
    ]
    network = gf.Sequential(layers, backend="numpy")
    network.preprocessing = gf.data.fit_preprocessing(X)
    trainer = gf.Trainer(network, "mean_squared_error", "adam", standardize_targets=True)
    trainer.fit(X, X[:, 0], epochs=1, progress=False)
    path, weights = tmp_path / "model.safetensors", network.get_weights()
    description = json.loads(json.dumps(describe(network)))

    def loaded(description: Any) -> gf.Sequential | gf.FileFormatError:
        model = {"version": 1, "network": description, "checksum": checksum(weights, json.dumps(description))}
        path.write_bytes(safetensors.numpy.save(weights, metadata={"gradflow": json.dumps(model)}))
        try:
            return gf.load(path, backend="numpy")
        except gf.FileFormatError as error:
            return error

    assert isinstance(loaded(description), gf.Sequential)
    for place in places(description):
        for wrong in crafted(description, place):
            found = loaded(wrong)
            if isinstance(found, gf.Sequential):
                with np.errstate(all="ignore"):
                    assert found.predict(X).shape == (30, 1), (place, wrong)
    nested = {"type": "Dense", "n_in": 4, "n_out": 4, "bias": True}
    for _ in range(450):
        nested = {"type": "Residual", "layers": [nested]}
    assert isinstance(loaded(replaced(description, ("layers", 2), nested)), gf.FileFormatError)


@pytest.mark.parametrize("every", [29, pytest.param(3, marks=pytest.mark.slow)])
def test_a_crafted_config_is_refused_or_repeated(tmp_path: Path, every: int) -> None:
    kind = Kind("numpy", "shuffled")
    arguments: dict[str, Any] = {"validation_data": (X, LABELS)}
    kind.fit(kind.trainer(), output=tmp_path)
    config = read_json(tmp_path / "config.json")
    assert gf.repeat(tmp_path, X, LABELS, **arguments).is_same
    crafted_configs = [(place, wrong) for place in places(config) for wrong in crafted(config, place)]
    refused = 0
    for place, wrong in crafted_configs[::every]:
        write_json(tmp_path / "config.json", wrong)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                gf.repeat(tmp_path, X, LABELS, **arguments)
        except gf.GradflowError:
            refused += 1
        except Exception as error:
            raise AssertionError(place, wrong) from error
    assert refused > 0.3 * len(crafted_configs) / every


def test_shapes_of_json() -> None:
    shape = {"a": int, "b": [float], "c": {str: (str, type(None))}}
    check_shape({"a": 1, "b": [0.5, math.nan], "c": {"x": None, "y": "z"}, "other": 1}, shape, "it")
    for wrong, reason in (
        ([], "it must be an object, but is list"),
        ({"a": 1, "b": []}, "it has no entry 'c'"),
        ({"a": True, "b": [], "c": {}}, "it.a must be an integer, but is True"),
        ({"a": 2**63, "b": [], "c": {}}, "it.a must be a 64-bit integer"),
        ({"a": 1, "b": {}, "c": {}}, "it.b must be a list, but is dict"),
        ({"a": 1, "b": [0.5, 1], "c": {}}, r"it.b\[1\] must be a number, but is 1"),
        ({"a": 1, "b": [], "c": {"x": 1}}, "it.c.x must be a string or null, but is 1"),
    ):
        with pytest.raises(gf.FileFormatError, match=reason):
            check_shape(wrong, shape, "it")
