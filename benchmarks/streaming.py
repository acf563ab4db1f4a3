"""Extra cost of a training step on data read from files instead of memory: python -m benchmarks.streaming.

The same rows as arrays, as memory-mapped .npy, as Parquet and as CSV; shuffled, Adam, float32, on the CPU. Training
runs for some epochs on each in turn; the steps run as in `Trainer.fit`, and reading ahead before the first step counts.
Each is timed with as many threads as the BLAS uses by default, and with one less, which leaves a core to the reader.
Reading alone is timed too: if it takes as long as the steps, the data is the bottleneck.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.contestants.with_gradflow import gradflow_network
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import table
from benchmarks.networks import LEARNING_RATES, NETWORKS, Network
from benchmarks.rounds import Spread, ratios, rounds_in_turn, spread
from gradflow.backends import get_backend
from gradflow.backends.blas import using_threads
from gradflow.clock import RunStatus
from gradflow.losses import get_loss
from gradflow.training.data.prepare import prepare_data
from gradflow.training.step.training_step import TrainingStep

KINDS = ("memory", "npy", "parquet", "csv")
_STEPS = {"T": 2000, "S": 2000, "M": 256}
_KINDS_OF = {"M": ("memory", "npy", "parquet")}
"""Kinds measured if not all: CSV at the width of M takes minutes, twenty times as long as the steps."""
_QUICK_STEPS = 20
_BLOCK_ROWS = 8192
"""Small enough that an epoch has several blocks, as with a file larger than memory."""
_EPOCHS = 4


def measure(network: Network, folder: Path, rounds: int, threads: Sequence[int]) -> list[dict[str, Any]]:
    """Return, per number of threads, seconds per step for each kind of data in each round, and seconds to read a batch.

    Args:
        network: the network to train, and its data.
        folder: folder for the files.
        rounds: the number of times each is timed.
        threads: the numbers of threads of the BLAS, and so of gradflow's kernels.
    """
    kinds = _KINDS_OF.get(network.name, KINDS)
    sources = _written(network, folder, kinds)
    training = {kind: _training(network, sources[kind]) for kind in kinds}
    reading = rounds_in_turn({kind: _reading(network, sources[kind]) for kind in kinds[1:]}, rounds)
    measured = []
    for number in threads:
        with using_threads(get_backend("numpy").blas, number):
            steps = rounds_in_turn(training, rounds)
        entry = {"network": str(network), "threads": number, "seconds_per_step": steps}
        measured.append(entry | {"reading_seconds_per_batch": reading})
    return measured


def _written(network: Network, folder: Path, kinds: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the data to pass to `fit`, by kind."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    x, y = network.data()
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    rows = pyarrow.table({**{f"x{column}": x[:, column] for column in range(x.shape[1])}, "y": y})
    pyarrow.parquet.write_table(rows, folder / "rows.parquet", row_group_size=_BLOCK_ROWS)
    sources: dict[str, tuple[Any, ...]] = {
        "memory": (x, y),
        "npy": (np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")),
        "parquet": (gf.data.Parquet(folder / "rows.parquet", target="y", block_rows=_BLOCK_ROWS), None),
    }
    if "csv" in kinds:
        pyarrow.csv.write_csv(rows, folder / "rows.csv")
        sources["csv"] = (gf.data.CSV(folder / "rows.csv", target="y", block_rows=_BLOCK_ROWS), None)
    return sources


def _training(network: Network, data: tuple[Any, ...]) -> Callable[[], float]:
    """Return the seconds per step over several successive epochs."""
    made, rule = gradflow_network(network), gf.Adam(LEARNING_RATES["adam"])
    step = TrainingStep.of(made, "softmax_cross_entropy", rule, *data, batch_size=network.batch_size)

    def seconds() -> float:
        began = time.perf_counter()
        for epochs_to_come in reversed(range(_EPOCHS)):
            step.run(epochs_to_come=epochs_to_come)
        return (time.perf_counter() - began) / (_EPOCHS * network.steps)

    seconds()
    return seconds


def _reading(network: Network, data: tuple[Any, ...]) -> Callable[[], float]:
    """Return the seconds to read, convert and upload a batch while nothing else runs."""
    made = gradflow_network(network)
    given = prepare_data(made, get_loss("softmax_cross_entropy"), *data)
    status = RunStatus(made.backend)
    batches = given.batches(made.backend, status, rows=len(given), batch_size=network.batch_size, seed=0)

    def seconds() -> float:
        began = time.perf_counter()
        batches.begin(epochs_to_come=0)
        done = 0
        while done < network.steps:
            done += batches.make_ready(done)
        batches.close()
        return (time.perf_counter() - began) / network.steps

    return seconds


def text(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    described = result["machine"]
    parts = [
        "# What streaming costs",
        f"{described['processor']}, {described['cores']} cores, {described['blas']['internal_api']} "
        f"{described['blas']['version']}, {described['kernels']} kernels, {described['date']}. Adam, shuffled, blocks "
        f"of {_BLOCK_ROWS:,} rows, {_EPOCHS} epochs at a time. Medians of {result['rounds']} rounds; ratios are formed "
        "within each round, with their quartiles. If reading a batch alone takes as long as a step in memory, or no "
        "core is left for it besides the BLAS, the data is the bottleneck.",
    ]
    header = ["data", "µs per step", "of that in memory", "reading alone, µs per batch"]
    for entry in result["networks"]:
        steps, reading = entry["seconds_per_step"], entry["reading_seconds_per_batch"]
        rows = [
            [
                kind,
                f"{1e6 * spread(seconds).median:,.1f}",
                _percentages(spread(ratios(seconds, steps["memory"]))),
                f"{1e6 * spread(reading[kind]).median:,.1f}" if kind in reading else "",
            ]
            for kind, seconds in steps.items()
        ]
        parts += [f"## {entry['network']}, threads: {entry['threads']}", table(header, rows)]
    return "\n\n".join(parts) + "\n"


def _percentages(of: Spread) -> str:
    return f"{of.median:.2f} ({of.low:.2f} to {of.high:.2f})"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write streaming.json and streaming.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, as a smoke test")
    parser.add_argument("--rounds", type=int, default=7, help="number of timed rounds; default: %(default)s")
    parser.add_argument("--networks", nargs="+", choices=_STEPS, default=["S", "M"], help="default: S M")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    described = machine()
    blas = get_backend("numpy").blas
    most = 1 if blas is None else blas.threads
    threads = [most, most - 1] if most > 1 else [1]
    result: dict[str, Any] = {"machine": described, "rounds": options.rounds, "networks": []}
    for name in options.networks:
        network = replace(NETWORKS[name], steps=_QUICK_STEPS if options.quick else _STEPS[name])
        with tempfile.TemporaryDirectory() as folder:
            result["networks"].extend(measure(network, Path(folder), options.rounds, threads))
        print(f"measured: {network}", flush=True)
    write_results(options.output, "streaming", result, text(result))
    print(f"\n{text(result)}\nwritten: {options.output}")


if __name__ == "__main__":
    main()
