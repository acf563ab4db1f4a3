"""The time of late epochs against that of early ones: python -m benchmarks.long_run [--epochs N].

The moments of units whose gradient has vanished decay until they are below the smallest normal number, where arithmetic
takes a processor many times as long. The network is 64-512-512-10 on the digits, four times over, in batches of 32.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import gradflow as gf

_AT_EACH_END = 5


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
    x, y = np.tile(digits.x_train, (4, 1)), np.tile(digits.y_train, 4)
    network = gf.MLP([64, 512, 512, 10], backend="numpy")
    times = _EpochTimes()
    trainer = gf.Trainer(network, "softmax_cross_entropy", optimizer, threads=threads)
    trainer.fit(x, y, epochs=epochs, callbacks=[times], progress=False)
    return times.seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--epochs", type=int, default=60, help="number of epochs (60)")
    arguments.add_argument("--threads", type=int, help="threads of the BLAS and of the kernels; default: all")
    options = arguments.parse_args()
    print("| optimizer | first epochs, s | slowest of the others, s | last epochs, s | last / first |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for optimizer in (gf.Adam(), gf.SGD(0.05, momentum=0.9)):
        seconds = epoch_seconds(optimizer, options.epochs, options.threads)
        first, last = (statistics.median(part) for part in (seconds[:_AT_EACH_END], seconds[-_AT_EACH_END:]))
        slowest = max(seconds[_AT_EACH_END:-_AT_EACH_END])
        print(f"| {optimizer.name} | {first:.3f} | {slowest:.3f} | {last:.3f} | {last / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
