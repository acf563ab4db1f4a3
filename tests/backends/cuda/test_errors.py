"""Failures on a GPU: running out of memory, and losing the device."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow import backends

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 100)


@pytest.fixture(autouse=True)
def simgpu() -> Iterator[Any]:
    """The simulator's failures on demand; a backend that has seen them is not reused by other tests."""
    module = pytest.importorskip("simgpu")
    backends._make.cache_clear()
    yield module
    module.clear()
    backends._make.cache_clear()


def fit(network: gf.Sequential, **kwargs: Any) -> gf.History:
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(), clip_norm=1.0)
    return trainer.fit(X, LABELS, epochs=2, batch_size=16, validation_data=(X, LABELS), **kwargs)


def weights(network: gf.Sequential) -> bytes:
    return b"".join(weight.tobytes() for weight in network.get_weights().values())


def used_bytes() -> int:
    import cupy

    gc.collect()
    return int(cupy.get_default_memory_pool().used_bytes())


def test_out_of_memory_leaves_the_network_usable(simgpu: Any) -> None:
    import cupy

    network = gf.MLP([6, 8, 3], backend="cupy")
    expected = network.predict(X)
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
    cupy.get_default_memory_pool().free_all_blocks()
    simgpu.fail(malloc=-1)
    with pytest.raises(gf.BackendError, match=r"GPU memory ran out, with [\d,]+ bytes free: .*smaller batch_size"):
        trainer.fit(np.tile(X, (2000, 1)), np.tile(LABELS, 2000), epochs=1)
    simgpu.clear()
    assert network.predict(X).tobytes() == expected.tobytes()
    assert trainer.fit(X, LABELS, epochs=1).epochs == 1


def test_every_allocation_of_a_fit_may_fail(simgpu: Any) -> None:
    import cupy

    finished = gf.MLP([6, 8, 3], dropout=0.1, backend="cupy")
    fit(finished)
    network = gf.MLP([6, 8, 3], dropout=0.1, backend="cupy")
    before, used = weights(network), used_bytes()
    for number in range(1, 200):
        cupy.get_default_memory_pool().free_all_blocks()
        simgpu.fail(malloc=-number)
        with contextlib.suppress(gf.BackendError):
            fit(network)
            break
        assert simgpu.failures()
        simgpu.clear()
        assert weights(network) == before
        assert used_bytes() == used
    assert number > 1
    assert weights(network) == weights(finished)


@pytest.mark.parametrize("saves", [True, False])
def test_a_lost_device_says_what_remains(simgpu: Any, saves: bool, tmp_path: Path) -> None:
    output = {"output": tmp_path / "run", "checkpoint": gf.Checkpoint(every_steps=1)} if saves else {}
    network = gf.MLP([6, 8, 3], backend="cupy")
    fit(network)
    saved = (
        r"The last saved weights are in .*run/checkpoints/step-\d{12}\.safetensors"
        if saves
        else "No weights were saved"
    )
    simgpu.fail(launch=20)
    with pytest.raises(gf.DeviceLostError, match=rf"the CUDA context is lost.* Restart the process\. {saved}$"):
        fit(network, **output)
    with pytest.raises(gf.DeviceLostError, match="the CUDA context is lost"):
        network.get_weights()
    with pytest.raises(gf.DeviceLostError, match="the CUDA context is lost"):
        network.predict(X)
    simgpu.clear()


def test_an_error_while_another_thread_captures_is_not_a_lost_device(simgpu: Any) -> None:
    """Such as PyTorch, whose captures refuse any wait for the device, and end."""
    import cupy

    network, stream = gf.MLP([6, 8, 3], backend="cupy"), cupy.cuda.Stream(non_blocking=True)
    expected, array = network.predict(X), cupy.zeros(3)
    cupy.cuda.Device().synchronize()
    with stream:
        cupy.add(array, 1, out=array)
        stream.begin_capture(cupy.cuda.runtime.streamCaptureModeThreadLocal)
        cupy.add(array, 1, out=array)

    def fail() -> None:
        with pytest.raises(ZeroDivisionError), network.backend.running():
            raise ZeroDivisionError

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    graph = stream.end_capture()
    graph.launch(stream)
    assert array.get(stream=stream).tolist() == [2.0] * 3
    assert network.predict(X).tobytes() == expected.tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("is_used", [True, False])
def test_a_forked_process_says_what_to_do(is_used: bool) -> None:
    """Also in a parent that has only asked for the number of GPUs."""
    network = gf.MLP([6, 8, 3], backend="cupy") if is_used else None

    def outcome() -> str:
        try:
            (network or gf.MLP([6, 8, 3], backend="cupy")).predict(X)
        except gf.BackendError as error:
            return str(error)
        return "no error"

    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, outcome().encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        message = pipe.read()
    assert "cannot be used" in message
    assert "start processes with multiprocessing.get_context('spawn')" in message


def test_an_error_of_a_users_own_layer_is_not_replaced() -> None:
    class Broken(gf.Layer):
        """A layer with a bug."""

        def forward(self, ops: Any, x: Any, y: Any) -> None:
            y[...] = x[:, :1000, 0]

    network = gf.Sequential([gf.Dense(6, 3), Broken()], backend="cupy")
    with pytest.raises(IndexError):
        network.predict(X)
