"""Programs as CUDA graphs: one launch per step, the same bits as without, and a fallback if they are refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow import backends
from gradflow.backends import get_backend
from gradflow.backends.reference import ReferenceBackend
from gradflow.clock import RunStatus
from gradflow.layers.relu import relu_forward
from gradflow.program import Recorder

pytestmark = pytest.mark.gpu

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 70)

BATCHES = 5  # of 16 rows, the last one smaller


@pytest.fixture
def simgpu() -> Iterator[Any]:
    """The simulator's view of the device, with all requested failures reset."""
    module = pytest.importorskip("simgpu")
    yield module
    module.clear()


@pytest.fixture
def backend() -> Iterator[ReferenceBackend]:
    """A GPU backend for this test only, so that no failure carries over to another test."""
    backends._make.cache_clear()
    yield get_backend("cupy")
    backends._make.cache_clear()


class Cube(gf.Layer):
    """A user-defined layer, which a graph cannot contain."""

    elementwise = True
    backward_reads = ("x",)

    def forward(self, ops: Any, x: Any, y: Any) -> None:
        y[...] = x**3

    def backward(self, ops: Any, x: Any, y: Any, d_y: Any, d_x: Any) -> None:
        d_x[...] = 3 * x**2 * d_y


class Counts(gf.Callback):
    """The simulator's counts of each epoch."""

    def __init__(self, simgpu: Any) -> None:
        self._simgpu = simgpu
        self.epochs: list[dict[str, Any]] = []

    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        self._simgpu.reset()

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        self.epochs.append(self._simgpu.stats())
        self._simgpu.reset()


def make_network(*own: gf.Layer) -> gf.Sequential:
    layers = [gf.Dense(6, 9), gf.ReLU(), gf.Dropout(0.2), *own, gf.Dense(9, 8), gf.Tanh(), gf.Dense(8, 3)]
    return gf.Sequential(layers, backend="cupy", seed=4)


def trained(network: gf.Sequential, *callbacks: gf.Callback, **kwargs: Any) -> tuple[bytes, list[float]]:
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.AdamW(0.01), l2=1e-3, clip_norm=0.5, **kwargs)
    history = trainer.fit(X, LABELS, epochs=3, batch_size=16, validation_data=(X, LABELS), callbacks=callbacks)
    return network.backend.to_host(network.parameters).tobytes(), history["loss"] + history["val_loss"]


@pytest.mark.usefixtures("without_looks")
@pytest.mark.parametrize(("steps_per_launch", "launches"), [(1, 4), (2, 2), (3, 2), (100, 1)])
def test_a_step_is_one_launch_without_traffic(simgpu: Any, steps_per_launch: int, launches: int) -> None:
    counts = Counts(simgpu)
    trained(make_network(), counts, steps_per_launch=steps_per_launch)
    assert len(counts.epochs) == 3
    for epoch in counts.epochs:
        # The full batches, the last one, their sums; the validation batch and its sums.
        assert epoch["graph_launches"] == launches + 1 + 1 + 2
        assert epoch["launches"] == 0
        assert all(kernel["count"] == kernel["in_graph"] for kernel in epoch["kernels"].values())
        assert all(product["count"] == product["in_graph"] for product in epoch["cublas"].values())
        assert epoch["kernels"]["adamw"]["count"] == BATCHES
        assert epoch["h2d"]["count"] == epoch["mallocs"] == epoch["host_allocs"] == epoch["captured"] == 0
        assert epoch["memset"]["count"] == epoch["events"] == 0
        assert (epoch["d2h"]["count"], epoch["syncs"]) == (1, 1)
        assert epoch["d2h"]["bytes"] <= 1024


def test_several_steps_per_launch_give_the_same_bits() -> None:
    one = trained(make_network())
    assert [trained(make_network(), steps_per_launch=steps) for steps in (2, 3, 100)] == [one] * 3
    assert trained(make_network()) == one


def test_a_users_own_layer_runs_between_graphs(simgpu: Any) -> None:
    counts = Counts(simgpu)
    one = trained(make_network(Cube()), counts)
    assert trained(make_network(Cube()), steps_per_launch=3) == one
    # Per step: before its forward pass, until its backward pass, and after it.
    validation = 2 + 1
    assert counts.epochs[1]["graph_launches"] == 3 * BATCHES + 1 + validation


def test_capturing_runs_nothing(simgpu: Any) -> None:
    """Weights, gradients, clock and sums have the same bits after a program is created, so no warm-up modifies them."""

    class Snapshot(gf.Callback):
        """The contents of the device when the programs are ready, and before."""

        def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
            assert simgpu.stats()["captured"] > 0
            assert bits(trainer.network, trainer._loop._state.step.status)[:-1] == before[:-1]
            trainer.network.backend.synchronize()
            assert simgpu.stats()["kernels"] == {}
            assert simgpu.stats()["cublas"] == {}

    def bits(network: gf.Sequential, status: RunStatus) -> list[bytes]:
        arrays = (network.parameters, network.gradients, status.clock, status.training)
        return [network.backend.to_host(array).tobytes() for array in arrays]

    trained(make_network())  # A GEMM runs once when it is planned, the first time that its shape occurs.
    network = make_network()
    before = bits(network, RunStatus(network.backend))
    simgpu.reset()
    trained(network, Snapshot())


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("failure", [{"capture": 1}, {"captured": 1}, {"captured": 9}, {"graph": 1}])
def test_without_graphs_the_results_are_the_same_and_a_warning_says_so(simgpu: Any, failure: dict[str, int]) -> None:
    network = make_network()
    simgpu.fail(**failure)
    with pytest.warns(gf.SlowPathWarning, match=r"a CUDA graph cannot be used \(.*kernel by kernel") as caught:
        results = trained(network)
    assert len(caught) == 1
    # From here on nothing is captured, and no warning is repeated.
    simgpu.reset()
    assert trained(make_network(), steps_per_launch=3) == results
    assert simgpu.stats()["captured"] == simgpu.stats()["graph_launches"] == 0
    backends._make.cache_clear()
    assert trained(make_network()) == results


@pytest.mark.parametrize("kind", ["captured", "graph"])
@pytest.mark.usefixtures("backend")
def test_every_capture_of_a_fit_may_be_refused(simgpu: Any, kind: str) -> None:
    expected = trained(make_network())
    for number in range(1, 200):
        backends._make.cache_clear()
        network = make_network()
        simgpu.clear()
        simgpu.fail(**{kind: number})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert trained(network) == expected
        if not simgpu.failures():
            break
        assert [warning.category for warning in caught] == [gf.SlowPathWarning]
    assert number > 4
    assert caught == []


def test_work_of_another_thread_stays_out_of_a_capture(backend: ReferenceBackend) -> None:
    import cupy

    x, y = backend.from_host(np.array([-1, 2], np.float32)), backend.zeros(2, np.float32)
    other = backend.zeros(2, np.float32)
    recorder = Recorder(backend)
    recorder(relu_forward, x, y)

    class Meddling(type(backend)):  # type: ignore[misc]
        """Copies on its own stream in the middle of each capture, as another thread may."""

        def bind_all(self, calls: Any) -> Any:
            from gradflow.backends.cuda.graphs import DeviceCall

            return [*super().bind_all(calls), DeviceCall(lambda: self.copy(x, other))]

    meddling = Meddling()
    recorder.backend = meddling
    program = recorder.program()
    assert backend.to_host(y).tolist() == [0, 0]
    meddling.synchronize()
    assert cupy.asnumpy(other).tolist() == [-1, 2]
    program.run(2)
    meddling.synchronize()
    assert cupy.asnumpy(y).tolist() == [0, 2]


def test_an_interrupted_capture_leaves_the_backend_usable(backend: ReferenceBackend) -> None:
    from gradflow.backends.cuda.graphs import DeviceCall

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.replay([DeviceCall(interrupt)])
    assert trained(make_network()) == trained(make_network())


def test_a_program_keeps_its_arrays(simgpu: Any) -> None:
    """The pool does not know about captures: it would hand an array that only a graph uses to another caller."""
    backend = get_backend("cupy")
    y = backend.zeros(1000, np.float32)
    recorder = Recorder(backend)
    recorder(relu_forward, backend.from_host(np.ones(1000, np.float32)), y)
    program = recorder.program()
    del recorder
    others = [backend.from_host(np.full(1000, 7, np.float32)) for _ in range(9)]
    program.run()
    assert backend.to_host(y).tolist() == [1] * 1000
    assert len(others) == 9


def test_evaluation_and_prediction_are_graphs(simgpu: Any) -> None:
    network = make_network()
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam")
    simgpu.reset()
    trainer.evaluate(X, LABELS)
    network.predict(X)
    network.predict(X)
    stats = simgpu.stats()
    assert stats["launches"] == 0
    assert stats["graph_launches"] == 1 + 1 + 2
