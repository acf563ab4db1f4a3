"""``gradflow bench``: the layer width from which a GPU trains faster than the CPU."""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem
from gradflow.checks import positive_integer
from gradflow.errors import DataError
from gradflow.files import write_atomically
from gradflow.installation import pip_install
from gradflow.mlp import MLP
from gradflow.training.step.training_step import TrainingStep

_OUTPUTS = 10
_BATCHES = 2
_TIMED_SECONDS = 0.2


@dataclass(frozen=True)
class StepTimes:
    """The seconds of a training step for one width and batch size; None for the GPU if there is none."""

    width: int
    batch_size: int
    cpu_seconds: float
    gpu_seconds: float | None


def bench(
    widths: Annotated[
        str, typer.Option(help="Units per layer, including the inputs, separated by commas.")
    ] = "32,64,128,256,512,1024,2048",
    batch_sizes: Annotated[str, typer.Option(help="Rows per step, separated by commas.")] = "32,256,1024",
    output: Annotated[
        Path | None, typer.Option(help="Folder for bench.json and, with matplotlib, bench.png.", show_default="none")
    ] = None,
) -> None:
    """Time training steps on the CPU and on the GPU, and say from which width on the GPU wins.

    Each network has two hidden layers of ReLU units and 10 classes, in float32, and is trained with Adam.
    """
    sizes, rows = _numbers("--widths", widths), _numbers("--batch-sizes", batch_sizes)
    if output is not None:
        _make_folder(output)
    problem = gpu_problem()
    device = {"cpu": get_backend("numpy").device, "gpu": None if problem else get_backend("cupy").device}
    console, progress = Console(), Console(stderr=True)
    cases = [(batch_size, width) for batch_size in rows for width in sizes]
    measured = [
        StepTimes(
            width,
            batch_size,
            _seconds_per_step("numpy", width, batch_size),
            None if problem else _seconds_per_step("cupy", width, batch_size),
        )
        for batch_size, width in track(
            cases, description="measuring", console=progress, transient=True, disable=not progress.is_terminal
        )
    ]
    console.print(_table(measured))
    verdicts = {
        batch_size: verdict([case for case in measured if case.batch_size == batch_size]) for batch_size in rows
    }
    if problem:
        console.print(f"no GPU, so only the CPU was timed: {problem}", markup=False, soft_wrap=True)
    else:
        console.print(f"GPU: {device['gpu']}", markup=False, highlight=False)
        for batch_size, words in verdicts.items():
            console.print(f"batches of {batch_size}: {words}", highlight=False, soft_wrap=True)
    if output is not None:
        facts: dict[str, Any] = {
            "device": device,
            "gpu_problem": problem,
            "measurements": [asdict(case) for case in measured],
        }
        if not problem:
            facts["verdicts"] = verdicts
        write_atomically(output / "bench.json", (json.dumps(facts, indent=2) + "\n").encode())
        if importlib.util.find_spec("matplotlib") is None:
            console.print(f"no plot: matplotlib is missing; install: {pip_install('plot')}", markup=False)
        else:
            _plot(measured, output / "bench.png")
        console.print(f"results: {output}", markup=False, highlight=False, soft_wrap=True)


def crossover(measurements: list[StepTimes]) -> int | None:
    """Return the smallest width from which the GPU is faster at every measured width, for one batch size.

    None if the CPU wins at the largest width, or there is no GPU.
    """
    first = None
    for case in sorted(measurements, key=lambda case: case.width, reverse=True):
        if case.gpu_seconds is None or case.gpu_seconds >= case.cpu_seconds:
            break
        first = case.width
    return first


def verdict(measurements: list[StepTimes]) -> str:
    """Summarize the measurements of one batch size in words."""
    widths = sorted(case.width for case in measurements)
    first = crossover(measurements)
    if first == widths[0]:
        return f"the GPU wins at every width, from {first} to {widths[-1]} units"
    if first is not None:
        return f"from {first} units on, the GPU wins"
    won = sorted(c.width for c in measurements if c.gpu_seconds is not None and c.gpu_seconds < c.cpu_seconds)
    if won:
        return f"no clear crossover: the GPU wins at {', '.join(map(str, won))} units, but not at {widths[-1]}"
    return f"the CPU wins at every width, from {widths[0]} to {widths[-1]} units"


def _numbers(option: str, text: str) -> list[int]:
    """Parse a text such as "32,64" into distinct numbers in ascending order."""
    try:
        return sorted({positive_integer(option, int(word)) for word in text.split(",")})
    except ValueError:
        raise DataError(
            f"{option} must be whole numbers above 0 separated by commas, such as 32,64; got {text!r}"
        ) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error.strerror}; choose another folder with --output") from error


def _seconds_per_step(backend: str, width: int, batch_size: int) -> float:
    """Return the median over several passes through two batches, run as in `Trainer.fit`."""
    network = MLP([width, width, width, _OUTPUTS], backend=backend)
    random = np.random.default_rng(0)
    x = random.standard_normal((_BATCHES * batch_size, width), dtype=np.float32)
    labels = random.integers(_OUTPUTS, size=len(x))
    step = TrainingStep.of(network, "softmax_cross_entropy", "adam", x, labels, batch_size=batch_size)

    def seconds() -> float:
        began = time.perf_counter()
        step.run()
        network.backend.synchronize()
        return (time.perf_counter() - began) / _BATCHES

    seconds()
    measured: list[float] = []
    end = time.perf_counter() + _TIMED_SECONDS
    while not measured or time.perf_counter() < end:
        measured.append(seconds())
    return statistics.median(measured)


def _table(measurements: list[StepTimes]) -> Table:
    table = Table(title="microseconds per training step")
    has_gpu = any(case.gpu_seconds is not None for case in measurements)
    for name in ("batch size", "units", "CPU", *(("GPU", "CPU / GPU") if has_gpu else ())):
        table.add_column(name, justify="right")
    for case in measurements:
        row = [str(case.batch_size), str(case.width), f"{1e6 * case.cpu_seconds:,.0f}"]
        if case.gpu_seconds is not None:
            row += [f"{1e6 * case.gpu_seconds:,.0f}", f"{case.cpu_seconds / case.gpu_seconds:.2f}"]
        table.add_row(*row)
    return table


def _plot(measurements: list[StepTimes], path: Path) -> None:
    """Plot time against width, with a line for each device and batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax: Any = figure.subplots()
    for number, batch_size in enumerate(sorted({case.batch_size for case in measurements})):
        cases = [case for case in measurements if case.batch_size == batch_size]
        widths = [case.width for case in cases]
        color = f"C{number}"
        ax.plot(widths, [1e6 * case.cpu_seconds for case in cases], "o-", color=color, label=f"CPU, {batch_size} rows")
        gpu = [1e6 * case.gpu_seconds for case in cases if case.gpu_seconds is not None]
        if gpu:
            ax.plot(widths, gpu, "s--", color=color, label=f"GPU, {batch_size} rows")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlabel("units per layer")
    ax.set_ylabel("µs per training step")
    ax.legend()
    figure.savefig(path, dpi=110)
