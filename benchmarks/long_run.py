"""The time of late epochs against that of early ones: python -m benchmarks.long_run.

The moments of units whose gradient has vanished decay until they are below the smallest normal number, where arithmetic
takes a processor many times as long. The network is 64-512-512-10 on the digits, four times over, in batches of 32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import machine_line, table

_WIDTH, _DATA_TIMES = 512, 4
_EPOCHS, _AT_EACH_END = 60, 5


class _EpochTimes(gf.Callback):
    """Records the seconds of each epoch."""

    def on_fit_begin(self, trainer: gf.Trainer, epochs: int) -> None:
        self.seconds: list[float] = []
        self._began = time.perf_counter()

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._began)
        self._began = now


def epoch_seconds(optimizer: gf.Optimizer, epochs: int, threads: int | None) -> list[float]:
    """Return the seconds of each epoch of a training."""
    digits = gf.data.load_digits()
    x, y = np.tile(digits.x_train, (_DATA_TIMES, 1)), np.tile(digits.y_train, _DATA_TIMES)
    network = gf.MLP([64, _WIDTH, _WIDTH, 10], backend="numpy")
    times = _EpochTimes()
    trainer = gf.Trainer(network, "softmax_cross_entropy", optimizer, threads=threads)
    trainer.fit(x, y, epochs=epochs, callbacks=[times], progress=False)
    return times.seconds


def first_and_last(seconds: list[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last five epochs."""
    return statistics.median(seconds[:_AT_EACH_END]), statistics.median(seconds[-_AT_EACH_END:])


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    rows = []
    for name, seconds in result["seconds_per_epoch"].items():
        first, last = first_and_last(seconds)
        slowest = max(seconds[_AT_EACH_END:-_AT_EACH_END])
        rows.append([name, f"{first:.3f}", f"{slowest:.3f}", f"{last:.3f}", f"{last / first:.2f}"])
    threads = "the default threads" if result["threads"] is None else f"{result['threads']} threads"
    parts = [
        "# The epochs of a long training",
        machine_line(result),
        f"Seconds per epoch of 64-512-512-10 on the digits, four times over, in batches of 32, on {threads}. Medians "
        f"of the first and of the last {_AT_EACH_END} of {result['epochs']} epochs.",
        table(["optimizer", "first epochs", "slowest of the others", "last epochs", "last / first"], rows),
    ]
    return "\n\n".join(parts) + "\n"


def summary(result: dict[str, Any]) -> str:
    """Return the result in a sentence."""
    ends = {name: first_and_last(seconds) for name, seconds in result["seconds_per_epoch"].items()}
    ratios = " and ".join(f"{last / first:.2f} ({name})" for name, (first, last) in ends.items())
    return f"In a training of {result['epochs']} epochs, the last ones take {ratios} times as long as the first."


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write long_run.json and long_run.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("--epochs", type=int, default=_EPOCHS, help="number of epochs; default: %(default)s")
    parser.add_argument("--threads", type=int, help="threads of the BLAS and of the kernels; default: all")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    if options.epochs <= 2 * _AT_EACH_END:
        parser.error(f"--epochs must be more than {2 * _AT_EACH_END}, got {options.epochs}")
    result = {
        "machine": machine(),
        "epochs": options.epochs,
        "threads": options.threads,
        "seconds_per_epoch": {
            optimizer.name: epoch_seconds(optimizer, options.epochs, options.threads)
            for optimizer in (gf.Adam(), gf.SGD(0.05, momentum=0.9))
        },
    }
    write_results(options.output, "long_run", result, markdown(result))
    print(f"{markdown(result)}\nwritten: {options.output}")


if __name__ == "__main__":
    main()
