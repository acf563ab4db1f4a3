"""The memory of a fit on a GPU: the computed amount equals the amount used, and a fit that is too large is refused."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.training.step import memory

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 1000)


@pytest.fixture(autouse=True)
def _pool() -> Iterator[None]:
    """CuPy's pool, which counts the memory in use, even if the tests run without it."""
    import cupy

    allocator = cupy.cuda.get_allocator()
    cupy.cuda.set_allocator(cupy.get_default_memory_pool().malloc)
    yield
    cupy.cuda.set_allocator(allocator)


class Cube(gf.Layer):
    """A user-defined layer."""

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = x**3

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        if d_x is not None:
            d_x[...] = 3 * x**2 * d_y


def used_bytes() -> int:
    import cupy

    gc.collect()
    return int(cupy.get_default_memory_pool().used_bytes())


class Used(gf.Callback):
    """The device memory held by arrays once the programs of a fit are created."""

    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        self.n_bytes = used_bytes()


NETWORKS: dict[str, list[gf.Layer]] = {
    "mlp": [gf.Dense(6, 40), gf.ReLU(), gf.Dropout(0.2), gf.Dense(40, 30), gf.Tanh(), gf.Dense(30, 3)],
    "linear": [gf.Dense(6, 3)],
    "own layer": [gf.Dense(6, 40), Cube(), gf.Dense(40, 3)],
}


@pytest.mark.parametrize("layers", NETWORKS)
@pytest.mark.parametrize("batch_size", [32, 300, None])
@pytest.mark.parametrize("where", ["host", "device", "source"])
@pytest.mark.parametrize("layer_statistics", [False, True])
def test_a_fit_takes_what_was_computed(
    layers: str, batch_size: int | None, where: str, layer_statistics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cupy

    network = gf.Sequential([type(layer)(**layer.config()) for layer in NETWORKS[layers]], backend="cupy")
    data = {
        "host": (X, LABELS),
        "device": (cupy.asarray(X), cupy.asarray(LABELS.astype(np.int32))),
        "source": (gf.data.Arrays(X, LABELS),),
    }[where]
    planned: list[dict[str, int]] = []

    def noted(*args: Any, **kwargs: Any) -> dict[str, int]:
        planned.append(compute(*args, **kwargs))
        return planned[-1]

    compute = memory.fit_memory
    monkeypatch.setattr(memory, "fit_memory", noted)
    settings = {"clip_norm": 1.0, "layer_statistics": layer_statistics}
    trainer, used = gf.Trainer(network, "softmax_cross_entropy", gf.Adam(), **settings), Used()
    trainer.fit(*data, epochs=1, batch_size=batch_size)
    before = used_bytes()
    trainer.fit(*data, epochs=1, batch_size=batch_size, validation_data=(X[:100], LABELS[:100]), callbacks=[used])
    checked = 4096 if where == "device" else 0  # Labels on the device were copied when they were checked.
    assert sum(planned[-1].values()) == used.n_bytes - before - checked
    assert planned[-1]["optimizer state"] >= 2 * network.parameters.nbytes


def limited(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the given amount of memory free."""
    import gradflow.backends.cuda.backend

    monkeypatch.setattr(gradflow.backends.cuda.backend, "free_memory", lambda **kwargs: free)


def refused(network: gf.Sequential, *data: Any, **kwargs: Any) -> str:
    """Return the error message; nothing was allocated."""
    before = used_bytes()
    with pytest.raises(gf.BackendError, match=r"this fit needs .* of GPU memory besides the network's own") as caught:
        gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(*data, epochs=1, **kwargs)
    message = str(caught.value)
    del caught
    assert used_bytes() == before
    return message


def test_a_smaller_batch_size_that_fits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gf.MLP([6, 400, 3], backend="cupy")
    expected = network.get_weights()
    limited(1_000_000, monkeypatch)
    message = refused(network, X, LABELS, batch_size=1000, validation_data=(X[:100], LABELS[:100]))
    assert re.search(r"but 1\.0 MB are free\. Breakdown: data \S+ kB, optimizer state \S+ kB, copies of", message)
    size = int(re.findall(r"; batch_size=(\d+) would fit$", message)[0])
    assert size in (500, 250, 125, 62)
    assert network.get_weights()["0.weight"].tobytes() == expected["0.weight"].tobytes()
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.Adam())
    trainer.fit(X, LABELS, epochs=1, batch_size=size, validation_data=(X[:100], LABELS[:100]))


@pytest.mark.parametrize("weighted", [False, True])
def test_data_too_large_for_the_device_stays_on_the_host(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.tile(X, (100, 1)), np.tile(LABELS, 100)
    weight = np.linspace(0, 1, len(x)) if weighted else None

    def trained() -> tuple[bytes, list[float]]:
        network = gf.MLP([6, 4, 3], backend="cupy")
        history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(
            x, y, epochs=1, batch_size=1000, sample_weight=weight, validation_data=(x[:99], y[:99])
        )
        return network.get_weights()["0.weight"].tobytes(), [*history["loss"], *history["val_loss"]]

    resident = trained()
    limited(2_500_000, monkeypatch)
    with pytest.warns(gf.SlowPathWarning, match=r"needs [34]\.\d MB, but 2\.5 MB are free. It stays on the host"):
        assert trained() == resident


def test_a_network_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(100_000, monkeypatch)
    assert "use a smaller network" in refused(gf.MLP([6, 4000, 3], backend="cupy"), X, LABELS)


@pytest.mark.parametrize("total", [8 << 30, 140 << 30])
def test_free_memory_is_what_can_be_allocated(total: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    pool, runtime = cupy.get_default_memory_pool(), cupy.cuda.runtime

    def memory() -> tuple[int, int]:
        """The memory of a device that no other process uses."""
        return total - pool.total_bytes(), total

    def free() -> int:
        plan = get_backend("cupy").memory_plan()
        assert plan is not None
        return plan.free

    free()  # allocates cuBLASLt's workspace
    monkeypatch.setattr(runtime, "memGetInfo", memory)
    before = free()
    assert before == total - pool.used_bytes() - max(256 << 20, total // 50)  # the reserve for CUDA itself
    array = get_backend("cupy").empty(1_000_000, np.uint8)
    assert before - free() == array.nbytes + -array.nbytes % 512
    del array
    assert free() == before  # it is in the pool
    limit = pool.get_limit()
    try:
        pool.set_limit(size=pool.total_bytes() + 5_000_000)
        assert free() == pool.get_limit() - pool.used_bytes()
    finally:
        pool.set_limit(size=limit)
