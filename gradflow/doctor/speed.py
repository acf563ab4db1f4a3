"""The speed of the device: copies, matmuls, launches, and training steps compared with the hardware limits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from gradflow.backends.cuda.backend import CupyBackend
from gradflow.backends.reference import ReferenceBackend
from gradflow.doctor.device import Device
from gradflow.doctor.findings import Measurement
from gradflow.doctor.gemms import precisions
from gradflow.doctor.traffic import step_traffic
from gradflow.layers.dense import add_bias, column_sum, gemm
from gradflow.layers.relu import relu_backward, relu_forward
from gradflow.mlp import MLP
from gradflow.ops import Array, copy
from gradflow.program import Program, Recorder
from gradflow.training.data.feed import PassData
from gradflow.training.data.prepare import prepare_data
from gradflow.training.step.objective import Objective
from gradflow.training.step.training_step import TrainingStep

_NETWORKS = {
    "T": ((16, 64, 64, 2), 256),
    "S": ((64, 128, 64, 10), 32),
    "M": ((784, 512, 256, 10), 128),
    "L": ((1024, 2048, 2048, 1000), 512),
    "W": ((4096, 4096, 4096, 4096, 4096), 4096),
}
"""Layer widths and batch sizes of the networks of benchmarks/networks.py."""

_EPILOGUES = ((65_536, 64, 64), (512, 2048, 2048), (4096, 4096, 4096))
"""Rows, inputs and units of layers whose epilogues are timed: sums over many rows, and layers of L and W."""

_STEPS = 4


def measure_device(backend: CupyBackend, device: Device, *, quick: bool) -> Iterator[Measurement]:
    """Measure copies, matmuls by precision, launches and replays, and an epilogue compared with separate kernels.

    Args:
        backend: the GPU.
        device: its reported properties.
        quick: True for small arrays and few runs.
    """
    timed = partial(_seconds, backend, repeats=3 if quick else 20)
    n = 1 << (16 if quick else 26)
    source, target = (backend.zeros(n, np.float32) for _ in range(2))
    seconds = timed(_program(backend, [(copy, source, target)]).run)
    yield Measurement(
        "memory", f"copy of {4 * n:,} bytes", 8 * n / seconds / 1e9, "GB/s", _in_giga(device.peak_bandwidth), "its peak"
    )
    width = 64 if quick else 4096
    for precision, (name, dtype) in precisions(backend).items():
        a, b, out = (_random(backend, (width, width), dtype) for _ in range(3))
        seconds = timed(_program(backend, [(gemm._replace(name=name), a, b, out)]).run)
        limit = _in_giga(device.peak_rate) if precision == "float32" else None
        limit_is = ("its peak" if limit else device.why_no_peak) if precision == "float32" else ""
        rate = 2 * width**3 / seconds / 1e9
        yield Measurement("products", f"{width} x {width}, {precision}", rate, "GFLOP/s", limit, limit_is)
    one, other = (backend.zeros(1, np.float32) for _ in range(2))
    calls = 10 if quick else 1000
    launch = backend.bind(copy, {"x": one, "y": other})

    def launches() -> None:
        with backend.running():
            for _ in range(calls):
                launch()

    yield Measurement("launches", "a kernel by itself", 1e6 * timed(launches) / calls, "µs")
    many = _program(backend, [(copy, one, other)] * calls)
    yield Measurement("launches", f"a kernel in a graph of {calls}", 1e6 * timed(many.run) / calls, "µs")
    single = _program(backend, [(copy, one, other)])
    yield Measurement("launches", "a graph of one kernel", 1e6 * timed(partial(single.run, calls)) / calls, "µs")
    for sizes in ((16, 64, 64),) if quick else _EPILOGUES:
        for precision in [precision for precision in precisions(backend) if precision in ("float32", "bfloat16")]:
            yield from _measure_epilogues(backend, timed, sizes, precision)


def _measure_epilogues(
    backend: CupyBackend, timed: Callable[[Callable[[], None]], float], sizes: tuple[int, int, int], precision: str
) -> Iterator[Measurement]:
    """Measure a layer's forward pass and its gradients, each with epilogues and as separate kernels."""
    rows, n_in, n = sizes
    name, dtype = precisions(backend)[precision]
    matmul = gemm._replace(name=name)
    x, weight, y, bias, d_y, d_x = (
        _random(backend, shape, dtype) for shape in ((rows, n_in), (n_in, n), (rows, n), (n,), (rows, n), (rows, n_in))
    )
    d_weight, d_bias = backend.empty((n_in, n), np.float32), backend.empty(n, np.float32)
    forward: list[tuple[Any, ...]] = [(matmul, x, weight, y), (add_bias, y, bias, y), (relu_forward, y, y)]
    gradients: list[tuple[Any, ...]] = [(matmul, x, d_y, d_weight, True), (column_sum, d_y, d_bias)]
    # The gradient of the inputs is differentiated through the ReLU that made them: its signs are kept by that matmul.
    through_relu = [(matmul, d_y, weight, d_x, False, True), (relu_backward, x, d_x, d_x)]
    before = [(matmul, d_x, weight, x), (relu_forward, x, x)]
    parts = {"matmul, bias, ReLU": forward, "gradients of weight and bias": gradients}
    if n_in == n:
        parts["matmul, ReLU, gradient through ReLU"] = [*before, *through_relu]
    for part, listed in parts.items():
        calls = [(op, op.arguments(*arrays)) for op, *arrays in listed]
        joined = Program(backend, backend.bind_all(calls))
        separate = Program(backend, ReferenceBackend.bind_all(backend, calls))
        limit = 1e6 * timed(separate.run)
        title = f"{part}: {n_in} x {n}, batch {rows}, {precision}"
        yield Measurement("epilogues", title, 1e6 * timed(joined.run), "µs", limit, "separate kernels")


def measure_steps(backend: CupyBackend, device: Device, *, quick: bool) -> Iterator[Measurement]:
    """Measure a training step with Adam in every precision, compared with the shortest time in which the device could
    move its bytes or do its float32 multiplications.

    Args:
        backend: the GPU.
        device: its reported properties.
        quick: True for the two smallest networks only.
    """
    for name, (sizes, batch_size) in list(_NETWORKS.items())[: 2 if quick else None]:
        network = MLP(list(sizes), initializer=0.0, backend=backend.name)
        random = np.random.default_rng(0)
        # Drawn here at once: the initializers would take half a minute for the largest network.
        weights = 0.02 * random.standard_normal(network.n_parameters, dtype=np.float32)
        backend.copy(backend.from_host(weights), network.parameters)
        objective = Objective.checked(network, "softmax_cross_entropy", "adam")
        rows = (2 if quick else _STEPS) * batch_size
        x = random.standard_normal((rows, sizes[0]), dtype=np.float32)
        data = prepare_data(network, objective.loss, x, random.integers(sizes[-1], size=rows))
        traffic = step_traffic(objective, data, batch_size)

        def step(
            precision: str, objective: Objective = objective, data: PassData = data, size: int = batch_size
        ) -> float:
            training = TrainingStep(objective._replace(precision=precision), data, batch_size=size)
            training.update.begin_epoch(0, {})
            return 1e6 * _seconds(backend, training.run, 2 if quick else 10) * size / len(data)

        title = f"{name} {'-'.join(map(str, sizes))} ({batch_size})"
        in_float32 = step("float32")
        limit = _roofline(device, traffic.n_bytes, traffic.flops)
        limit_is = "roofline, an estimate" if limit else device.why_no_peak
        yield Measurement("steps", title, in_float32, "µs", limit, limit_is)
        for precision in [name for name in precisions(backend) if name not in ("float32", "float64")]:
            yield Measurement("steps", f"{title}, {precision}", step(precision), "µs", in_float32, "float32")


def _roofline(device: Device, n_bytes: int, flops: int) -> float | None:
    """Return the microseconds to move the bytes or to multiply, whichever is longer; None if a peak is unknown."""
    if device.peak_bandwidth is None or device.peak_rate is None:
        return None
    return 1e6 * max(n_bytes / device.peak_bandwidth, flops / device.peak_rate)


def _random(backend: ReferenceBackend, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of random numbers: with zeros, a GPU draws less power and so runs faster."""
    return backend.from_host(np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype))


def _in_giga(rate: float | None) -> float | None:
    return None if rate is None else rate / 1e9


def _program(backend: ReferenceBackend, calls: list[tuple[Any, ...]]) -> Program:
    """Record a program of calls, each an op and its arguments."""
    recorder = Recorder(backend)
    for op, *arguments in calls:
        recorder(op, *arguments)
    return recorder.program()


def _seconds(backend: ReferenceBackend, run: Callable[[], object], repeats: int) -> float:
    """Return the median time of a run, including all its device work, after one untimed run."""
    run()
    backend.synchronize()
    measured = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        backend.synchronize()
        measured.append(time.perf_counter() - began)
    return statistics.median(measured)
