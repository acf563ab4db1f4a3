"""The speed of the device: copies, matmuls, launches, and training steps compared with the hardware limits."""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from gradflow.backends.cuda.backend import CupyBackend
from gradflow.backends.cuda.epilogues import TF32
from gradflow.backends.reference import ReferenceBackend
from gradflow.doctor.device import Device
from gradflow.doctor.findings import Measurement
from gradflow.doctor.traffic import step_traffic
from gradflow.layers.dense import add_bias, gemm
from gradflow.layers.relu import relu_forward
from gradflow.network import MLP
from gradflow.ops import Op, copy
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
    "wide": ((4096, 8192, 8192, 4096), 2048),
}
"""Layer widths and batch sizes; those named by a letter are the networks of benchmarks/networks.py."""

_STEPS = 8


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
    for precision, (op, dtype) in _gemms().items():
        a, b, out = (backend.zeros((width, width), dtype) for _ in range(3))
        seconds = timed(_program(backend, [(op, a, b, out)]).run)
        limit = _in_giga(device.peak_rate) if precision == "float32" else None
        yield Measurement(
            "products", f"{width} x {width}, {precision}", 2 * width**3 / seconds / 1e9, "GFLOP/s", limit, "its peak"
        )
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
    yield from _measure_epilogue(backend, timed, width)


def _measure_epilogue(
    backend: CupyBackend, timed: Callable[[Callable[[], None]], float], width: int
) -> Iterator[Measurement]:
    x, weight, y = (backend.zeros((width, width), np.float32) for _ in range(3))
    bias = backend.zeros(width, np.float32)
    calls = [
        (op, op.arguments(*arrays))
        for op, *arrays in ((gemm, x, weight, y), (add_bias, y, bias, y), (relu_forward, y, y))
    ]
    joined = Program(backend, backend.bind_all(calls))
    separate = Program(backend, ReferenceBackend.bind_all(backend, calls))
    limit = 1e6 * timed(separate.run)
    name = f"matmul, bias and ReLU of {width} x {width}"
    yield Measurement("epilogues", name, 1e6 * timed(joined.run), "µs", limit, "separate kernels")


def measure_steps(backend: CupyBackend, device: Device, *, quick: bool) -> Iterator[Measurement]:
    """Measure a training step with Adam in every precision, compared with the shortest time in which the device could
    move its bytes or do its float32 multiplications.

    Args:
        backend: the GPU.
        device: its reported properties.
        quick: True for the two smallest networks only.
    """
    for name, (sizes, batch_size) in list(_NETWORKS.items())[: 2 if quick else None]:
        network = MLP(list(sizes), seed=0, backend=backend.name)
        objective = Objective.checked(network, "softmax_cross_entropy", "adam")
        rows = (2 if quick else _STEPS) * batch_size
        random = np.random.default_rng(0)
        x = random.standard_normal((rows, sizes[0]), dtype=np.float32)
        data = prepare_data(network, objective.loss, x, random.integers(sizes[-1], size=rows))
        traffic = step_traffic(objective, data, batch_size)

        def step(
            precision: str, objective: Objective = objective, data: PassData = data, size: int = batch_size
        ) -> float:
            training = TrainingStep(objective._replace(precision=precision), data, batch_size=size)
            return 1e6 * _seconds(backend, training.run, 2 if quick else 10) * size / len(data)

        title = f"{name} {'-'.join(map(str, sizes))} ({batch_size})"
        in_float32 = step("float32")
        limit = _roofline(device, traffic.n_bytes, traffic.flops)
        yield Measurement("steps", title, in_float32, "µs", limit, "roofline, an estimate")
        for precision in ("tf32", "bfloat16", "float16"):
            yield Measurement("steps", f"{title}, {precision}", step(precision), "µs", in_float32, "float32")


def _roofline(device: Device, n_bytes: int, flops: int) -> float | None:
    """Return the microseconds to move the bytes or to multiply, whichever is longer; None if a peak is unknown."""
    if device.peak_bandwidth is None or device.peak_rate is None:
        return None
    return 1e6 * max(n_bytes / device.peak_bandwidth, flops / device.peak_rate)


def _gemms() -> dict[str, tuple[Op, Any]]:
    """Return the matmul in each precision: the op, and the dtype of its arrays."""
    gemms: dict[str, tuple[Op, Any]] = {
        "float64": (gemm, np.float64),
        "float32": (gemm, np.float32),
        "tf32": (gemm._replace(name=TF32), np.float32),
        "float16": (gemm, np.float16),
    }
    if importlib.util.find_spec("ml_dtypes") is not None:
        gemms["bfloat16"] = gemm, importlib.import_module("ml_dtypes").bfloat16
    return gemms


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
