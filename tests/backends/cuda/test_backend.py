"""The GPU backend: the kernels that a step launches, its traffic, and how it shares the device with callers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.backends import get_backend
from gradflow.backends.kernel_sources import kernels
from gradflow.executors import Eager
from gradflow.layers.dense import add_bias, column_sum

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 100)

TRAFFIC = ("h2d", "d2h", "mallocs", "syncs", "host_allocs")


@pytest.fixture
def simgpu() -> Any:
    """The simulator's view of the device; a real GPU does not provide counts."""
    return pytest.importorskip("simgpu")


class Counts(gf.Callback):
    """The simulator's counts at the end of each epoch."""

    def __init__(self, simgpu: Any) -> None:
        self._simgpu = simgpu
        self.epochs: list[dict[str, int]] = []
        self.names: set[str] = set()

    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        self._simgpu.reset()

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        stats = self._simgpu.stats()
        counts = {name: stats[name]["count"] if isinstance(stats[name], dict) else stats[name] for name in TRAFFIC}
        self.names |= set(stats["kernels"])
        self._simgpu.reset()
        launched = sum(kernel["count"] for kernel in stats["kernels"].values())
        products = sum(product["device_kernels"] for product in stats["cublas"].values())
        self.epochs.append(counts | {"launched": launched, "products": products})


def fitted(
    simgpu: Any, network: gf.Sequential, rows: int, loss: str = "softmax_cross_entropy", **kwargs: Any
) -> Counts:
    """Return the costs of three epochs over some rows."""
    counts = Counts(simgpu)
    y = np.eye(3)[LABELS[:rows]] if loss == "mean_squared_error" else LABELS[:rows]
    y = y[:, : network.n_out] if network.n_out < 3 else y
    trainer = gf.Trainer(network, loss, gf.Adam(), **kwargs)
    trainer.fit(X[:rows], y, epochs=3, batch_size=16, callbacks=[counts], progress=False)
    return counts


def test_a_step_launches_only_our_kernels_and_gemms(simgpu: Any) -> None:
    layers = [
        gf.Dense(6, 9), gf.ReLU(), gf.Dropout(0.1), gf.Dense(9, 8), gf.Tanh(), gf.Dense(8, 7), gf.Sigmoid(),
        gf.Dense(7, 6), gf.ELU(), gf.Dense(6, 5), gf.LeakyReLU(), gf.Dense(5, 4), gf.Softmax(), gf.Identity(),
        gf.Dense(4, 3),
    ]  # fmt: skip
    counts = fitted(simgpu, gf.Sequential(layers, backend="cupy"), 100, clip_norm=1.0, l2=1e-3)
    assert counts.names <= set(kernels("cuda"))
    assert {"bias_tanh_forward", "adam", "gather_shuffled_batch", "softmax_cross_entropy_labels"} <= counts.names
    assert counts.epochs[0]["products"] == (6 + 1) * (3 * 7 - 1)


def test_a_network_with_one_output_launches_only_our_kernels(simgpu: Any) -> None:
    network = gf.MLP([6, 1], backend="cupy")
    counts = fitted(simgpu, network, 97, "mean_squared_error")
    assert counts.names <= set(kernels("cuda"))


@pytest.mark.usefixtures("without_looks")
def test_steps_cause_no_traffic(simgpu: Any) -> None:
    few = fitted(simgpu, gf.MLP([6, 16, 3], dropout=0.2, backend="cupy"), 32)
    many = fitted(simgpu, gf.MLP([6, 16, 3], dropout=0.2, backend="cupy"), 96)
    # Each epoch reads 64 bytes once, however many steps it has; the best weights are copied on the device.
    for counts in (few, many):
        for epoch in counts.epochs[1:]:
            assert epoch["h2d"] == epoch["mallocs"] == epoch["host_allocs"] == 0
            assert epoch["d2h"] == 1
            assert epoch["syncs"] == few.epochs[1]["syncs"] <= 1
    assert many.epochs[1]["launched"] > few.epochs[1]["launched"]


PER_STEP: dict[str, tuple[Callable[[], list[gf.Layer]], int]] = {
    "BatchNorm": (lambda: [gf.BatchNorm(8)], 2),
    "LayerNorm": (lambda: [gf.LayerNorm(8)], 3),
    # Forward, the sum; backward, the copy and the sum; besides those of the layer inside.
    "Residual": (lambda: [gf.Residual([gf.LayerNorm(8)])], 6),
}


@pytest.mark.parametrize("name", PER_STEP)
def test_launches_per_step_of_a_layer(simgpu: Any, name: str) -> None:
    def per_step(between: Callable[[], list[gf.Layer]]) -> int:
        one, two = (
            fitted(simgpu, gf.Sequential([gf.Dense(6, 8), *between(), gf.Dense(8, 3)], backend="cupy"), rows)
            for rows in (32, 48)
        )
        return two.epochs[1]["launched"] - one.epochs[1]["launched"]

    make, planned = PER_STEP[name]
    assert per_step(make) - per_step(list) == planned


def test_cupy_in_gives_cupy_out() -> None:
    import cupy

    network = gf.MLP([6, 8, 3], backend="cupy")
    gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(cupy.asarray(X), cupy.asarray(LABELS), epochs=2)
    on_host, on_device = network.predict(X), network.predict(cupy.asarray(X))
    assert isinstance(on_device, cupy.ndarray)
    assert isinstance(on_host, np.ndarray)
    assert on_device.get().tobytes() == on_host.tobytes()
    assert isinstance(network.predict_classes(cupy.asarray(X)), cupy.ndarray)
    assert network.predict_classes(cupy.asarray(X)).get().tolist() == network.predict_classes(X).tolist()


def test_data_of_another_stream_is_waited_for() -> None:
    import cupy

    network = gf.MLP([6, 8, 3], backend="cupy")
    expected = network.predict(2 * X + 1)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        x = cupy.asarray(X)
        x *= 2
        x += 1
        result = network.predict(x)
        shifted = result + 1
    assert_allclose(shifted.get(stream=stream), expected + 1, rtol=1e-6)


def test_arrays_of_other_libraries_are_waited_for() -> None:
    """Such as PyTorch's: only their DLPack says what the consumer's stream must wait for."""
    import cupy

    side = cupy.cuda.Stream(non_blocking=True)

    class Foreign:
        def __init__(self) -> None:
            with side:
                self._array = cupy.asarray(X)
                self._array *= 2
            self.__cuda_array_interface__ = self._array.__cuda_array_interface__ | {"stream": None}

        def __dlpack__(self, **kwargs: Any) -> Any:
            with side:
                return self._array.__dlpack__(**kwargs)

        def __dlpack_device__(self) -> Any:
            return self._array.__dlpack_device__()

    network = gf.MLP([6, 8, 3], backend="cupy")
    expected = network.predict(2 * X)
    assert network.predict(Foreign()).get().tobytes() == expected.tobytes()


def test_results_may_be_dropped_while_they_are_read() -> None:
    """Their memory is then used again by later work of the stream that reads them, not by that of the network."""
    import cupy

    network = gf.MLP([6, 8, 3], backend="cupy")
    expected, stream = network.predict(X), cupy.cuda.Stream(non_blocking=True)
    with stream:
        x, shifted = cupy.asarray(X), cupy.empty((len(X), 3), np.float32)
        result = network.predict(x)
        cupy.add(result, 1, out=shifted)
        del result
    for _ in range(3):
        network.backend.zeros((len(X), 3), np.float32)
    network.backend.synchronize()
    assert_allclose(shifted.get(stream=stream), expected + 1, rtol=1e-6)


def test_new_weights_are_seen_by_the_callers_stream() -> None:
    network = gf.MLP([6, 8, 3], backend="cupy")
    for value in (1.0, 2.0):
        network.set_weights({name: np.full(w.shape, value) for name, w in network.get_weights().items()})
        assert network.parameters.min().item() == value
    assert network.copy().parameters.min().item() == 2.0


def test_strided_cupy_data_is_made_contiguous() -> None:
    import cupy

    network = gf.MLP([6, 8, 3], backend="cupy")
    wide = cupy.asarray(np.repeat(X, 2, axis=1))
    assert network.predict(wide[:, ::2]).get().tobytes() == network.predict(X).tobytes()
    assert network.predict(cupy.asfortranarray(cupy.asarray(X))).get().tobytes() == network.predict(X).tobytes()


def test_cupy_data_for_a_cpu_network_is_refused() -> None:
    import cupy

    with pytest.raises(gf.DataError, match=r"x is on a GPU, but the network's backend is 'numpy'; .*x\.get\(\)"):
        gf.MLP([6, 3], backend="numpy").predict(cupy.asarray(X))


@pytest.mark.parametrize("where", ["host", "strided", "wrong dtype"])
def test_wrong_arrays_are_refused_when_bound(where: str) -> None:
    import cupy

    backend = get_backend("cupy")
    x = cupy.zeros((4, 6), np.float32)
    sums = {
        "host": np.zeros(6, np.float32),
        "strided": cupy.zeros(12, np.float32)[::2],
        "wrong dtype": cupy.zeros(6, np.float64),
    }[where]
    message = {
        "host": r"is a numpy\.ndarray",
        "strided": "not C-contiguous",
        "wrong dtype": "must be float32, got float64",
    }
    with pytest.raises(gf.BackendError, match=message[where]):
        Eager(backend)(column_sum, x, sums)
    with pytest.raises(gf.BackendError, match=message[where]):
        Eager(backend)(add_bias, x, sums, x)


def test_numpy_and_cupy_train_alike() -> None:
    def trained(backend: str) -> tuple[gf.History, dict[str, np.ndarray]]:
        network = gf.MLP([6, 16, 3], dropout=0.2, dtype="float64", seed=2, backend=backend)
        trainer = gf.Trainer(network, "softmax_cross_entropy", gf.AdamW(0.01), l2=1e-3, clip_norm=1.0)
        history = trainer.fit(X, LABELS, epochs=5, batch_size=16, validation_data=(X[:20], LABELS[:20]))
        return history, network.get_weights()

    (on_cpu, cpu_weights), (on_gpu, gpu_weights) = trained("numpy"), trained("cupy")
    for name in on_cpu:
        assert_allclose(on_gpu[name], on_cpu[name], rtol=1e-9)
    for name, weight in cpu_weights.items():
        assert_allclose(gpu_weights[name], weight, rtol=1e-8, atol=1e-10)


def test_digits_reach_the_promised_accuracy() -> None:
    digits = gf.data.load_digits()
    network = gf.MLP([64, 128, 64, 10], backend="cupy")
    history = gf.Trainer(network, "softmax_cross_entropy", gf.Adam()).fit(
        digits.x_train, digits.y_train, epochs=30, validation_data=(digits.x_test, digits.y_test)
    )
    assert history["val_accuracy"][-1] >= 0.97


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_that_are_converted_on_the_callers_stream_are_read_before_their_memory_is_used_again(
    order: Any, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CuPy hands out freed memory to the same stream at once, whatever other streams still read there."""
    import cupy

    monkeypatch.setattr("gradflow.network._PREDICTION_ROWS", 8)
    network = gf.MLP([5, 6, 3], backend="cupy")
    x = np.random.default_rng(0).normal(size=(61, 5))
    expected = network.predict(x.astype(np.float32))
    predicted = network.predict(cupy.asarray(np.asarray(x, dtype, order=order)))
    assert_allclose(cupy.asnumpy(predicted), expected, rtol=1e-5, atol=1e-6)
