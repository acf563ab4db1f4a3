"""A training step op by op: python -m benchmarks.profile T, or 26-256-256-1 --batch 256.

Each op of the recorded step, as fused, is timed alone, again and again in a program of its own: on the threads that
programs use by default, and on one. In the step, on one thread, it takes what the step without it is faster, in the
median of several rounds; other times are minima. On one thread only the time on the processor counts. Other work on the
machine still takes caches away, and threads by default wait for processors.

The bound of an op is the least time on one thread: for its multiplications and additions at the rate of the fastest
GEMM found here, or for its bytes at the rate of a copy of as many bytes, whichever is longer. Only the arithmetic of
GEMMs counts, so that ops with exponentials cannot reach their bounds.

The whole step follows. The time that it takes beyond its ops is lost between them: hand-overs between threads, and data
in the wrong cache. Where it takes less, its threads stay awake, which those of a short op alone do not.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.contestants.with_gradflow import gradflow_network
from benchmarks.limits import bytes_moved, square_matrices
from benchmarks.machine import machine
from benchmarks.markdown import aligned, microseconds
from benchmarks.networks import LEARNING_RATES, NETWORKS, Network
from gradflow.backends.blas import using_threads
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import native_library
from gradflow.backends.reference import BoundCall, Replay
from gradflow.layers.dense import gemm
from gradflow.ops import Op, copy
from gradflow.training.step.training_step import TrainingStep

_STEPS = 16
"""Batches in the data of a network that is given by its widths."""
_ROUNDS = 9
_SECONDS, _QUICK_SECONDS = 2e-3, 1e-4
_GEMM_WIDTHS = (64, 96, 256, 512, 1024)

Call = tuple[Op, dict[str, Any]]


@dataclass
class Times:
    """The times of an op, or of the step, in seconds.

    Attributes:
        default: again and again on the threads that programs use by default.
        alone: the same on one thread.
        in_step: in each round, how much faster the step is without the op, on one thread.
    """

    default: float = math.inf
    alone: float = math.inf
    in_step: list[float] = field(default_factory=list)


class _RecordingBackend(NumpyBackend):
    """A CPU backend that keeps the ops of its programs, after fusion, and the programs."""

    def __init__(self) -> None:
        super().__init__(native_library())
        self.programs: list[list[Call]] = []
        self.replays: list[Replay] = []

    def bind_all(self, calls: list[Call]) -> list[BoundCall]:
        self.programs.append([])
        return super().bind_all(calls)

    def _bind_one(self, op: Op, arguments: dict[str, Any]) -> Any:
        self.programs[-1].append((op, arguments))
        return super()._bind_one(op, arguments)

    def replay(self, calls: list[BoundCall], steps_per_launch: int = 1) -> Replay:
        self.replays.append(super().replay(calls, steps_per_launch))
        return self.replays[-1]


class _Part(NumpyBackend):
    """Some ops of a step, as they are, in a program of their own, which measures itself while it runs.

    Args:
        calls: the ops.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        super().__init__(native_library())
        self._run = self.replay(self._joined([self._bind_one(op, arguments) for op, arguments in calls]))
        self._written = [
            array for op, arguments in calls for name in op.writes if (array := arguments[name]) is not None
        ]

    def seconds(self, least: float, clock: Callable[[], float] = time.perf_counter) -> float:
        """Return the time of a run, and leave the arrays that it writes as they were."""
        before = [array.copy() for array in self._written]
        seconds = _seconds(self._run, least, clock)
        for array, values in zip(self._written, before, strict=True):
            array[...] = values
        return seconds


def profile(network: Network, optimizer: str, *, rounds: int = _ROUNDS, seconds: float = _SECONDS) -> dict[str, Any]:
    """Return the times of the ops of a step, and of the step.

    Args:
        network: the network; its data is shuffled, as in training.
        optimizer: "sgd" or "adam".
        rounds: the number of times that everything is timed.
        seconds: the least time of a single measurement.
    """
    backend, model = _RecordingBackend(), gradflow_network(network)
    model.backend = backend
    rate = LEARNING_RATES[optimizer]
    rule = gf.Adam(rate) if optimizer == "adam" else gf.SGD(rate)
    step = TrainingStep.of(model, network.loss, rule, *network.data(), batch_size=network.batch_size)
    step.run()  # from here on, every array holds what an op may read
    calls, run_step = backend.programs[0], backend.replays[0]
    of_ops, of_step, of_epoch = [Times() for _ in calls], Times(), math.inf
    by_default, alone = ([_Part([call]) for call in calls] for _ in range(2))
    without = [_Part([other for other in calls if other is not call]) for call in calls]
    with using_threads(backend.blas, 1):
        bounds = [_bound(*call) for call in calls]
    for _ in range(rounds):
        with using_threads(backend.blas, 1):
            for times, op, others in zip(of_ops, alone, without, strict=True):
                times.alone = min(times.alone, op.seconds(seconds, time.thread_time))
                whole = _seconds(run_step, seconds, time.thread_time)
                times.in_step.append(whole - others.seconds(seconds, time.thread_time))
                of_step.alone = min(of_step.alone, whole)
        for times, op in zip(of_ops, by_default, strict=True):
            times.default = min(times.default, op.seconds(seconds))
            of_step.default = min(of_step.default, _seconds(run_step, seconds))
        of_epoch = min(of_epoch, _seconds(lambda times: [step.run() for _ in range(times)], seconds))
    ops = [
        _described(*call) | vars(times) | {"in_step": statistics.median(times.in_step)} | bound
        for call, times, bound in zip(calls, of_ops, bounds, strict=True)
    ]
    return {
        "network": str(network),
        "optimizer": optimizer,
        "threads": 1 if backend.blas is None else backend.blas.threads or 1,
        "ops": ops,
        "step": {"default": of_step.default, "alone": of_step.alone, "in_epoch": of_epoch / network.steps},
    }


def _seconds(run: Replay, least: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the time of a run, from as many of them as take the given seconds."""
    times, passed = 1, 0.0
    while True:
        began = clock()
        run(times)
        passed = clock() - began
        if passed >= least:
            return passed / times
        times = max(2 * times, int(1.2 * times * least / max(passed, 1e-6)))


def _bound(op: Op, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return flops, bytes and the least time for them on one thread."""
    flops, n_bytes = _flops(op, arguments), _bytes(op, arguments)
    of_flops, of_bytes = flops / _gemm_rate(), n_bytes / _copy_rate(1 << (n_bytes - 1).bit_length())
    return {
        "flops": flops,
        "bytes": n_bytes,
        "bound": max(of_flops, of_bytes),
        "bound_by": "flops" if of_flops > of_bytes else "bytes",
    }


def _flops(op: Op, arguments: dict[str, Any]) -> int:
    if op is not gemm:
        return 0
    return 2 * math.prod(op.sizes(arguments)[name] for name in ("rows", "columns", "depth"))


def _bytes(op: Op, arguments: dict[str, Any]) -> int:
    if op.name.startswith("gather"):  # its inputs are all of the data
        return 2 * sum(arguments[name].nbytes for name in op.writes if arguments[name] is not None)
    return bytes_moved(op, arguments)


@cache
def _gemm_rate() -> float:
    """Return the operations per second of the fastest square GEMM, by our own kernel or the BLAS."""
    rates = []
    for width in _GEMM_WIDTHS:
        a, b = square_matrices("float32", width)
        product = _Part([(gemm, gemm.arguments(a, b, np.empty_like(a)))])
        rates.append(2 * width**3 / min(product.seconds(_SECONDS, time.thread_time) for _ in range(_ROUNDS)))
    return max(rates)


@cache
def _copy_rate(n_bytes: int) -> float:
    """Return the bytes per second that a copy reads and writes; not NumPy's, whose call outlasts a small copy."""
    source = np.ones(max(1, n_bytes // 8), np.float32)
    copied = _Part([(copy, copy.arguments(source, np.zeros_like(source)))])
    return n_bytes / min(copied.seconds(_SECONDS, time.thread_time) for _ in range(_ROUNDS))


def _described(op: Op, arguments: dict[str, Any]) -> dict[str, str]:
    """Return name and shapes: of both factors of a GEMM, otherwise of the first array written."""
    if op is gemm:
        factors = [
            "x".join(map(str, arguments[name].shape)) + ("ᵀ" if arguments[f"transpose_{name}"] else "") for name in "ab"
        ]
        return {"op": op.name, "shape": " ".join(factors)}
    return {"op": op.name, "shape": "x".join(map(str, arguments[op.writes[0]].shape))}


def text(result: dict[str, Any]) -> str:
    """Return the result as a table for the terminal."""
    ops, step = result["ops"], result["step"]
    of_all = {name: sum(of_op[name] for of_op in ops) for name in ("alone", "in_step", "default", "bound")}
    of_step = {"alone": step["alone"], "in_step": step["alone"], "default": step["default"], "bound": of_all["bound"]}
    lost = {name: of_step[name] - of_all[name] for name in of_all}
    named = {"all ops": of_all, "the step": of_step, "lost between": lost}
    totals = [{"op": name, "shape": "", "bound_by": "", **times} for name, times in named.items()]
    header = ["op", "shape", "default, µs", "alone, µs", "in step, µs", "of step", "bound, µs", "by", "reached"]
    return (
        f"Network {result['network']}, {result['optimizer']}. Default: up to {result['threads']} threads; the others: "
        f"one thread.\n\n{aligned(header, [_row(entry, step['alone']) for entry in [*ops, *totals]])}\n\n"
        f"By default, an epoch takes {microseconds(step['in_epoch'])} µs per step, with what ends it."
    )


def _row(entry: dict[str, Any], step: float) -> list[str]:
    """Return a line of the table, given the time of the whole step on one thread."""
    bound = entry["bound"]
    return [
        entry["op"],
        entry["shape"],
        *(microseconds(entry[name]) for name in ("default", "alone", "in_step")),
        f"{entry['in_step'] / step:.0%}",
        microseconds(bound) if bound else "",
        entry["bound_by"],
        f"{bound / entry['alone']:.0%}" if bound else "",
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", help=f"one of {', '.join(NETWORKS)}, or widths such as 26-256-256-1")
    parser.add_argument("--batch", type=int, default=128, help="rows of a batch, for widths; default: %(default)s")
    parser.add_argument("--optimizer", choices=LEARNING_RATES, default="adam", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="number of timed rounds; default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="a single short round, as a smoke test")
    parser.add_argument("--json", action="store_true", help="print JSON, with a description of the machine")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    try:
        network = NETWORKS.get(options.network) or _of_widths(options.network, options.batch)
    except ValueError:
        parser.error(
            f"network must be one of {', '.join(NETWORKS)}, or widths such as 26-256-256-1 with at least 1 row"
        )
    rounds, seconds = (1, _QUICK_SECONDS) if options.quick else (options.rounds, _SECONDS)
    result = profile(network, options.optimizer, rounds=rounds, seconds=seconds)
    print(json.dumps({"machine": machine()} | result, indent=1) if options.json else text(result))


def _of_widths(text: str, batch_size: int) -> Network:
    """Return a network given by its widths.

    Raises:
        ValueError: if these are not at least two positive numbers, or the batch has no rows.
    """
    sizes = tuple(map(int, text.split("-")))
    if len(sizes) < 2 or min(*sizes, batch_size) < 1:
        raise ValueError(text)
    return Network("", sizes, batch_size, _STEPS)


if __name__ == "__main__":
    main()
