"""Several GPUs: everything runs on the device of the network, whatever device and thread the caller uses."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.ops import copy as copy_op
from gradflow.training.data import streaming

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 100)


@pytest.fixture
def runtime() -> Iterator[Any]:
    """CUDA's runtime, with two devices at least; the first is the current one, before and after."""
    runtime = pytest.importorskip("cupy").cuda.runtime
    if runtime.getDeviceCount() < 2:
        pytest.skip("there is only one GPU")
    assert runtime.getDevice() == 0
    yield runtime
    current = runtime.getDevice()
    runtime.setDevice(0)
    assert current == 0


def network(device: str = "cuda:1", **kwargs: Any) -> gf.MLP:
    return gf.MLP([6, 16, 3], dropout=0.1, seed=3, device=device, **kwargs)


def fitted(model: gf.MLP, **kwargs: Any) -> dict[str, np.ndarray]:
    trainer = gf.Trainer(model, "softmax_cross_entropy", "adam", metrics=["f1"], **kwargs)
    trainer.fit(X, Y, epochs=2, batch_size=16, validation_data=(X[:30], Y[:30]), progress=False)
    trainer.evaluate(X, Y)
    return model.get_weights()


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0, "average": 0.9}, {"precision": "float16"}])
def test_a_network_on_another_device_trains_as_on_the_current_one(runtime: Any, settings: dict[str, Any]) -> None:
    model = network()
    assert same(fitted(model, **settings), fitted(network("cuda:0"), **settings))
    assert model.parameters.device.id == model.gradients.device.id == 1
    assert runtime.getDevice() == 0


def test_another_thread_with_another_current_device(runtime: Any) -> None:
    import cupy

    expected, results = fitted(network("cuda:0")), []
    with cupy.cuda.Device(1):
        model = gf.MLP([6, 16, 3], dropout=0.1, seed=3, backend="cupy")  # on the current device
    assert model.backend.place == "cuda:1"

    def train() -> None:
        before = runtime.getDevice()
        results.append(fitted(model))
        assert runtime.getDevice() == before
        results.append(model.predict(X))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert same(results[0], expected)
    assert results[1].tobytes() == model.predict(X).tobytes()


def test_device_arrays_stay_on_their_device(runtime: Any) -> None:
    import cupy

    model, on_host = network(), network("cuda:0").predict(X)
    with cupy.cuda.Device(1):
        x, doubles = cupy.asarray(X), cupy.asfortranarray(cupy.asarray(X.astype(np.float64)))
        y = cupy.asarray(Y)
    for given in (x, doubles):
        result = model.predict(given)
        assert result.device.id == 1
        assert result.get().tobytes() == on_host.tobytes()
        assert model.predict_classes(given).device.id == 1
    gf.Trainer(model, "softmax_cross_entropy", "adam").fit(x, y, epochs=1, progress=False)
    assert not same(model.get_weights(), network().get_weights())


def test_streamed_data(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_CHUNK_BYTES", 1000)  # several chunks
    data, results = gf.data.Arrays(X, Y), []
    for device in ("cuda:0", "cuda:1"):
        model = network(device)
        trainer = gf.Trainer(model, "softmax_cross_entropy", "adam")
        trainer.fit(data, epochs=2, batch_size=16, validation_data=data, progress=False)
        results.append((model.get_weights(), trainer.evaluate(data), model.predict(data).tobytes()))
    assert same(results[0][0], results[1][0])
    assert results[0][1:] == results[1][1:]


def test_arrays_on_another_device_are_refused(runtime: Any) -> None:
    import cupy

    x = cupy.asarray(X)
    with pytest.raises(gf.DataError, match="x is on the GPU cuda:0, but the network is on cuda:1; copy it there"):
        network().predict(x)
    with pytest.raises(gf.BackendError, match="from_host"):
        network().backend.replay([network().backend.bind(copy_op, {"x": cupy.zeros(3), "y": cupy.zeros(3)})])


def test_copies_come_back_on_their_device(runtime: Any) -> None:
    model = network()
    for twin in (copy.deepcopy(model), model.copy(dtype="float64"), pickle.loads(pickle.dumps(model))):
        assert twin.backend.place == "cuda:1"
        assert twin.parameters.device.id == 1
    assert copy.deepcopy(model.backend) is model.backend
    assert repr(model).endswith("backend='cupy', device='cuda:1')")


def test_a_copy_from_a_device_that_does_not_exist_here(runtime: Any) -> None:
    state = network().__getstate__() | {"device": "cuda:9"}
    twin = gf.MLP.__new__(gf.MLP)
    with pytest.warns(gf.SlowPathWarning, match="pickled on another device, and is now on 'cupy', 'cuda:0'"):
        twin.__setstate__(state)
    assert twin.predict(X).tobytes() == network().predict(X).tobytes()


def test_files_are_loaded_on_the_device_that_is_asked_for(runtime: Any, tmp_path: Path) -> None:
    model = network()
    gf.save(model, tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gf.load(tmp_path / "model", device="cuda:1").backend.place == "cuda:1"
        assert gf.load(tmp_path / "model", "cupy").backend.place == "cuda:0"


def test_a_run_may_be_resumed_on_another_device(runtime: Any, tmp_path: Path) -> None:
    def fit(device: str, folder: Path, epochs: int, **kwargs: Any) -> dict[str, np.ndarray]:
        model = network(device)
        trainer = gf.Trainer(model, "softmax_cross_entropy", "adam")
        trainer.fit(X, Y, epochs=epochs, progress=False, output=folder, checkpoint=gf.Checkpoint(), **kwargs)
        return model.get_weights()

    whole = fit("cuda:0", tmp_path / "whole", 4)
    fit("cuda:0", tmp_path / "parts", 2)
    assert same(fit("cuda:1", tmp_path / "parts", 4, resume=tmp_path / "parts"), whole)


def test_the_memory_plan_counts_the_memory_of_its_device(runtime: Any) -> None:
    plan = network().backend.memory_plan()
    assert plan is not None
    array = plan.empty(3, np.float32)
    assert array.device.id == 1
    assert plan.owns(array)
    assert not plan.owns(network("cuda:0").parameters)


def test_a_device_that_does_not_exist(runtime: Any) -> None:
    count = runtime.getDeviceCount()
    with pytest.raises(gf.BackendError, match=rf"device 'cuda:{count}' does not exist: this process sees {count} GPUs"):
        get_backend(device=f"cuda:{count}")
