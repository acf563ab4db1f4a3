"""Saving and loading: the same network, or an error; never half a file."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import gradflow as gf
from gradflow import files
from gradflow.storage import checksum

X = np.random.default_rng(0).normal(size=(9, 4))


class Scale(gf.Layer):
    """A user-defined layer with a parameter and a setting."""

    def __init__(self, n: int, factor: float = 1.0) -> None:
        self.n, self.factor = n, factor

    def config(self) -> dict[str, Any]:
        return {"n": self.n, "factor": self.factor}

    def parameters(self) -> dict[str, Any]:
        from gradflow.layers import ParameterSpec

        return {"scale": ParameterSpec((self.n,), decayed=False, initializer=1.0)}

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = self.factor * x * self.scale

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        self.d_scale[...] = (self.factor * x * d_y).sum(axis=0)
        if d_x is not None:
            d_x[...] = self.factor * self.scale * d_y


def make_network(backend: str = "numpy") -> gf.Sequential:
    layers = [
        gf.Dense(4, 5), gf.LeakyReLU(0.3), gf.Dropout(0.25), Scale(5, 2.0), gf.Dense(5, 5, bias=False), gf.ELU(0.5),
        gf.Identity(), gf.Tanh(), gf.ReLU(), gf.Sigmoid(), gf.Dense(5, 3), gf.Softmax(),
    ]  # fmt: skip
    return gf.Sequential(layers, seed=11, dtype="float64", backend=backend)


def test_a_loaded_network_is_the_saved_one(backend_name: str, tmp_path: Path) -> None:
    network = make_network(backend_name)
    gf.save(network, tmp_path / "model.safetensors")
    loaded = gf.load(tmp_path / "model.safetensors", backend=backend_name)
    assert repr(loaded) == repr(network)
    assert loaded.output_activation == "softmax"
    assert loaded.predict(X).tobytes() == network.predict(X).tobytes()
    for name, weight in network.get_weights().items():
        assert loaded.get_weights()[name].tobytes() == weight.tobytes()


def test_the_output_activation_of_the_loss_is_saved(tmp_path: Path) -> None:
    network = gf.MLP([4, 1], backend="numpy")
    gf.Trainer(network, "binary_cross_entropy", "sgd").fit(X, np.arange(9) % 2, epochs=1)
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend="numpy")
    assert loaded.output_activation == "sigmoid"
    assert loaded.predict(X).tobytes() == network.predict(X).tobytes()


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        gf.save(make_network(), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        gf.load(tmp_path / "none.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    gf.save(make_network(), path)
    return path.read_bytes()


def load_bytes(content: bytes, folder: Path) -> gf.Sequential:
    path = folder / "changed.safetensors"
    path.write_bytes(content)
    return gf.load(path, backend="numpy")


def with_header(saved: bytes, change: Any) -> bytes:
    """Return the file with a changed description and the matching checksum."""
    size = int.from_bytes(saved[:8], "little")
    model = json.loads(json.loads(saved[8 : 8 + size])["__metadata__"]["gradflow"])
    changed, weights = change(model), safetensors.numpy.load(saved)
    if "network" in changed:
        changed["checksum"] = checksum(weights, json.dumps(changed["network"]))
    return safetensors.numpy.save(weights, metadata={"gradflow": json.dumps(changed)})


def test_truncated_at_every_length(saved: bytes, tmp_path: Path) -> None:
    lengths = [0, 1, 7, 8, 9, 100, *range(200, len(saved), 97), len(saved) - 1]
    for length in lengths:
        with pytest.raises(gf.FileFormatError, match="not a gradflow model or is damaged"):
            load_bytes(saved[:length], tmp_path)


def test_files_of_others(saved: bytes, tmp_path: Path) -> None:
    others = safetensors.numpy.save({"weight": np.zeros(3)})
    with pytest.raises(gf.FileFormatError, match=r"but neither a gradflow model, .* nor a checkpoint"):
        load_bytes(others, tmp_path)
    with pytest.raises(gf.FileFormatError, match="not a gradflow model"):
        load_bytes(b"PK\x03\x04 a zip file", tmp_path)


def describe_with(**changes: Any) -> Any:
    return lambda model: model | {"network": model["network"] | changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model | {"version": 3}, "has format version 3, but this gradflow only reads .* up to 2"),
        (lambda model: model | {"version": "new"}, "has format version new"),
        (lambda model: model | {"network": []}, "description of the network is damaged"),
        (lambda model: {"version": 1}, "description of the network is damaged"),
        (lambda model: [], "description of the network is damaged"),
        (describe_with(layers=[{"type": "Convolution"}]), "an unknown layer 'Convolution'"),
        (describe_with(layers=[{"type": "Dense", "n_in": -4, "n_out": 2}]), "layer 'Dense' cannot be created from"),
        (describe_with(layers=[{"type": "Dense", "width": 4}]), "layer 'Dense' cannot be created from"),
        (describe_with(layers=[{"type": "Dense", "n_in": 4, "n_out": 2}]), "description .* damaged: .*unknown weight"),
        (describe_with(layers=None), "description of the network is damaged"),
        (describe_with(layers=[[]]), "description of the network is damaged"),
        (describe_with(dtype="float8"), "damaged: unknown dtype"),
        (describe_with(seed="x"), "damaged: seed must be an integer"),
        (describe_with(output_activation="relu"), "damaged: unknown output activation"),
        (describe_with(output_activation=None), "damaged: output activation must be a name, got None"),
    ],
)
def test_damaged_descriptions(saved: bytes, change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(gf.FileFormatError, match=message):
        load_bytes(with_header(saved, change), tmp_path)


@given(data=st.data())
def test_flipped_bytes_are_refused_or_harmless(data: st.DataObject, saved: bytes, tmp_path_factory: Any) -> None:
    position = data.draw(st.integers(0, len(saved) - 1))
    value = data.draw(st.integers(0, 255))
    changed = saved[:position] + bytes([value]) + saved[position + 1 :]
    try:
        network = load_bytes(changed, tmp_path_factory.getbasetemp())
    except gf.FileFormatError:
        return
    assert np.isfinite(network.backend.to_host(network.parameters)).all()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    gf.save(make_network(), path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        gf.save(gf.MLP([4, 2], backend="numpy"), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*nowhere/model\.safetensors'"):
        gf.save(make_network(), tmp_path / "nowhere" / "model.safetensors")
    with pytest.raises(IsADirectoryError, match=f"Is a directory: '{tmp_path}'"):
        gf.save(make_network(), tmp_path)


def test_settings_that_json_cannot_hold(tmp_path: Path) -> None:
    network = gf.Sequential([gf.Dense(4, 5), Scale(5, np.ones(3))], backend="numpy")  # type: ignore[arg-type]
    with pytest.raises(gf.DataError, match=r"network\.layers\[1\]\.factor is of type ndarray, which a file can"):
        gf.save(network, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_are_numbers_of_numpy(tmp_path: Path) -> None:
    network = gf.Sequential([gf.Dense(4, 5), Scale(np.int64(5), np.float32(0.5))], backend="numpy")  # type: ignore[arg-type]
    gf.save(network, tmp_path / "model")
    loaded = gf.load(tmp_path / "model", backend="numpy")
    assert loaded.layers[1].config() == {"n": 5, "factor": 0.5}
    assert loaded.predict(X).tobytes() == network.predict(X).tobytes()


def test_networks_of_user_defined_classes(tmp_path: Path) -> None:
    class Made(gf.MLP):
        """A subclass that only has different constructor arguments, and an attribute of its own."""

        def __init__(self, hidden: int) -> None:
            super().__init__([3, hidden, 2], backend="numpy")
            self.hidden = hidden

        def describe(self) -> str:
            return f"{self.hidden} hidden units"

    class Rounding(Made):
        def predict(self, x: Any) -> Any:
            return super().predict(x).round()

    class Below(Rounding):
        pass

    x = np.random.default_rng(0).normal(size=(5, 3))
    made = Made(4)
    gf.save(made, tmp_path / "model")
    np.testing.assert_array_equal(gf.load(tmp_path / "model", "numpy").predict(x), made.predict(x))
    for network in (Rounding(4), Below(4)):
        with pytest.raises(gf.DataError, match="Rounding overrides predict, but a file stores no code"):
            gf.save(network, tmp_path / "rounding")
        with pytest.raises(gf.DataError, match="Rounding overrides predict"):
            gf.Trainer(network, "mean_squared_error", "adam").fit(x, x[:, :2], epochs=1, output=tmp_path / "run")
        gf.Trainer(network, "mean_squared_error", "adam").fit(x, x[:, :2], epochs=1, progress=False)
    assert not (tmp_path / "rounding").exists()
    assert not (tmp_path / "run").exists()
