"""Time and memory of a training step against width, batch size, depth and threads: python -m benchmarks.scaling.

ReLU networks with 10 outputs, Adam, float32, on the CPU. For each point, three times are measured apart from the step:
the same calls on next to no data, the GEMMs alone without their call overhead, and a copy that moves as many bytes as
the other ops do. The step is said to be bound by the largest of them.
"""

from __future__ import annotations

import argparse
import gc
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.contestants import Contestant
from benchmarks.contestants.gemms import GradflowGemms
from benchmarks.contestants.with_gradflow import Gradflow
from benchmarks.limits import bytes_moved, copy_rate
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import table
from benchmarks.networks import Network
from benchmarks.rounds import rounds_in_turn, spread
from benchmarks.worker import seconds_of
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.backends.cpu.native import native_library
from gradflow.backends.reference import BoundCall
from gradflow.ops import Op
from gradflow.training.step.training_step import TrainingStep

_OUTPUTS = 10
_FLOPS_PER_RUN = 1_000_000_000
_CALLS, _GEMMS, _BYTES = "call overhead", "GEMMs", "memory bandwidth"


@dataclass(frozen=True)
class Point:
    """The measurements of one network.

    Attributes:
        study: the quantity that varies: "width", "batch size", "depth", or "threads" followed by the network.
        value: its value.
        seconds: of a step.
        product_seconds: of its GEMMs alone.
        call_seconds: of a step with as many layers, each of two units, on one row.
        product_call_seconds: of the GEMMs of that step.
        bytes_moved: by all ops but the GEMMs; each array counts once, or twice if it is read and written.
        copy_seconds: of a copy that moves as many bytes.
        allocated_bytes: peak memory held by Python and NumPy while creating and training the network.
        least_bytes: parameters, gradients, optimizer state and activations.
    """

    study: str
    value: int
    seconds: float
    product_seconds: float
    call_seconds: float
    product_call_seconds: float
    bytes_moved: int
    copy_seconds: float
    allocated_bytes: int
    least_bytes: int


def bounds(point: Point) -> dict[str, float]:
    """Return the fraction of the step's time that each of the three possible bounds explains."""
    return {
        _CALLS: point.call_seconds / point.seconds,
        _GEMMS: max(0.0, point.product_seconds - point.product_call_seconds) / point.seconds,
        _BYTES: point.copy_seconds / point.seconds,
    }


def regimes(points: list[Point]) -> list[str]:
    """Return a line for each run of consecutive values of a study that have the same bound."""
    lines = []
    first = 0
    names = [max(fractions, key=lambda name: fractions[name]) for fractions in map(bounds, points)]
    for index, name in enumerate(names):
        if index + 1 < len(names) and names[index + 1] == name:
            continue
        low, high = points[first], points[index]
        span = f"{low.value:,}" if low is high else f"{low.value:,} to {high.value:,}"
        fractions = [bounds(point)[name] for point in points[first : index + 1]]
        lines.append(f"{low.study} {span}: bound by {name} ({min(fractions):.0%} to {max(fractions):.0%} of the time)")
        first = index + 1
    return lines


class _RecordingBackend(NumpyBackend):
    """A CPU backend that keeps the ops of the programs that it binds."""

    def __init__(self) -> None:
        super().__init__(native_library())
        self.programs: list[list[tuple[Op, dict[str, Any]]]] = []

    def bind_all(self, calls: list[tuple[Op, dict[str, Any]]]) -> list[BoundCall]:
        self.programs.append(calls)
        return super().bind_all(calls)


def _bytes_moved(network: Network) -> int:
    """Return the bytes moved by a step's ops, without the GEMMs, and by gathering the batch from the data."""
    made = gf.MLP(list(network.sizes), backend="numpy")
    made.backend = backend = _RecordingBackend()
    rows = network.batch_size
    x, labels = network.data()
    x, labels = x[:rows], labels[:rows].astype(np.int32)
    TrainingStep.of(made, "softmax_cross_entropy", "adam", x, labels, batch_size=rows, shuffle=False)
    of_batch = 2 * (x.nbytes + labels.nbytes)
    return of_batch + sum(bytes_moved(op, arguments) for op, arguments in backend.programs[0] if op.name != "gemm")


def _allocated(network: Network) -> int:
    network.data()
    gc.collect()
    tracemalloc.start()
    made = gf.MLP(list(network.sizes), backend="numpy")
    trainer = gf.Trainer(made, "softmax_cross_entropy", gf.Adam())
    trainer.fit(*network.data(), epochs=1, batch_size=network.batch_size, shuffle=False, progress=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _network(*, width: int, depth: int, batch_size: int) -> Network:
    sizes = (*(width,) * (depth + 1), _OUTPUTS)
    flops = Network("", sizes, batch_size, steps=1).gemm_flops
    return Network("", sizes, batch_size, steps=min(100, max(1, _FLOPS_PER_RUN // flops)))


def _measure(study: str, value: int, network: Network, rounds: int) -> Point:
    tiny = Network("", (2,) * len(network.sizes), batch_size=1, steps=100)

    def measurement(kind: type[Gradflow] | type[GradflowGemms], described: Network) -> Any:
        contestant: Contestant = kind(described, "adam")
        return lambda: seconds_of(contestant.train, 1) / described.steps

    seconds = rounds_in_turn(
        {
            "seconds": measurement(Gradflow, network),
            "product_seconds": measurement(GradflowGemms, network),
            "call_seconds": measurement(Gradflow, tiny),
            "product_call_seconds": measurement(GradflowGemms, tiny),
        },
        rounds,
    )
    moved = _bytes_moved(network)
    return Point(
        study=study,
        value=value,
        **{name: spread(of_name).median for name, of_name in seconds.items()},
        bytes_moved=moved,
        copy_seconds=moved / copy_rate(moved),
        allocated_bytes=_allocated(network),
        least_bytes=network.least_bytes("adam"),
    )


def _studies(is_quick: bool, cores: int) -> dict[str, list[tuple[int, Network, int | None]]]:
    """Return the points of each study: value, network, and the BLAS's thread count if it is set."""
    widths = (32, 128) if is_quick else (32, 64, 128, 256, 512, 1024, 2048, 4096)
    batch_sizes = (1, 64) if is_quick else (1, 4, 16, 64, 256, 1024, 4096, 8192)
    depths = (1, 4) if is_quick else (1, 2, 4, 8, 16)
    of_threads = (64,) if is_quick else (64, 256, 1024)
    studies = {
        "width": [(width, _network(width=width, depth=2, batch_size=128), None) for width in widths],
        "batch size": [(size, _network(width=256, depth=2, batch_size=size), None) for size in batch_sizes],
        "depth": [(depth, _network(width=256, depth=depth, batch_size=128), None) for depth in depths],
    }
    for width in of_threads:
        network = _network(width=width, depth=2, batch_size=128)
        studies[f"threads at width {width}:"] = [(threads, network, threads) for threads in range(1, cores + 1)]
    return studies


def _text(result: dict[str, Any], studies: dict[str, list[Point]]) -> str:
    described = result["machine"]
    parts = [
        "# How a training step scales",
        f"{described['processor']}, {described['cores']} cores, {described['blas']['internal_api']} "
        f"{described['blas']['version']}, {described['kernels']} kernels, {described['date']}. "
        "Two hidden layers of 256 units and batches of 128 rows, except for the quantity that varies; Adam. Medians of "
        f"{result['rounds']} rounds.",
    ]
    header = ["µs per step", *(f"{name}, fraction" for name in (_CALLS, _GEMMS, _BYTES)), "MB held", "over the least"]
    for study, points in studies.items():
        rows = [
            [
                f"{point.value:,}",
                f"{1e6 * point.seconds:,.1f}",
                *(f"{fraction:.0%}" for fraction in bounds(point).values()),
                f"{point.allocated_bytes / 1e6:,.2f}",
                f"{point.allocated_bytes / point.least_bytes:.2f}x",
            ]
            for point in points
        ]
        parts += [f"## {study.rstrip(':').capitalize()}", table([study.split(" at ")[0], *header], rows)]
        parts.append("\n".join(f"- {line}" for line in regimes(points)))
    return "\n\n".join(parts) + "\n"


def _draw(studies: dict[str, list[Point]], path: Path) -> None:
    """Draw the studies of more than two points; two are easier to read in the table."""
    from matplotlib.figure import Figure

    drawn = {study: points for study, points in studies.items() if len(points) > 2} or studies
    figure = Figure(figsize=(4 * len(drawn) + 2, 7), layout="constrained")
    axes = figure.subplots(2, len(drawn), squeeze=False)
    for column, (study, points) in enumerate(drawn.items()):
        values = [point.value for point in points]
        time_ax, memory_ax = axes[0][column], axes[1][column]
        for name, seconds in (
            ("step", [point.seconds for point in points]),
            *((bound, [bounds(point)[bound] * point.seconds for point in points]) for bound in bounds(points[0])),
        ):
            time_ax.plot(values, [1e6 * value for value in seconds], "o-", label=name)
        memory_ax.plot(values, [point.allocated_bytes / 1e6 for point in points], "o-", label="held")
        memory_ax.plot(values, [point.least_bytes / 1e6 for point in points], "o-", label="must be held")
        time_ax.set_title(study.rstrip(":"))
        for ax, label in ((time_ax, "µs per step"), (memory_ax, "MB")):
            ax.set_xlabel(study.split(" at ")[0])
            ax.set_ylabel(label)
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(alpha=0.25)
    for ax in axes[:, -1]:
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))  # next to the curves, once per row
    figure.savefig(path, dpi=90)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write scaling.json, scaling.md and scaling.png."""
    from threadpoolctl import threadpool_limits  # imported here, so that tests of the time reports need no extra

    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few small networks, as a smoke test")
    parser.add_argument("--rounds", type=int, default=5, help="number of timed rounds; default: %(default)s")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds}
    studies: dict[str, list[Point]] = {}
    for study, cases in _studies(options.quick, result["machine"]["cores"]).items():
        studies[study] = []
        for value, network, threads in cases:
            with threadpool_limits(threads, user_api="blas"):
                studies[study].append(_measure(study, value, network, options.rounds))
        print("\n".join(regimes(studies[study])), flush=True)
    result["studies"] = {study: [asdict(point) for point in points] for study, points in studies.items()}
    text = _text(result, studies)
    write_results(options.output, "scaling", result, text)
    _draw(studies, options.output / "scaling.png")
    print(f"\n{text}\nwritten: {options.output}")


if __name__ == "__main__":
    main()
