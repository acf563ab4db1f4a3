"""The time of a training step for four sizes of network, on the backends "reference" and "numpy" in turn.

ReLU, softmax cross-entropy and Adam on random data, in float32, as `Trainer.fit` runs it: shuffling included.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np

import gradflow as gf

_NETWORKS = {  # name: widths, rows per batch, steps in each timed run
    "T": ([16, 64, 64, 2], 256, 100),
    "S": ([64, 128, 64, 10], 32, 100),
    "M": ([784, 512, 256, 10], 128, 20),
    "L": ([1024, 2048, 2048, 1000], 512, 2),
}
_BACKENDS = ("reference", "numpy")
_ROUNDS = 5


def timed_training(sizes: list[int], batch_size: int, steps: int, backend: str) -> Callable[[], float]:
    """A function that trains for some steps and returns the seconds per step."""
    random = np.random.default_rng(0)
    x = random.standard_normal((steps * batch_size, sizes[0]), dtype=np.float32)
    y = random.integers(sizes[-1], size=len(x))
    trainer = gf.Trainer(gf.MLP(sizes, backend=backend), "softmax_cross_entropy", gf.Adam())

    def run() -> float:
        return trainer.fit(x, y, epochs=1, batch_size=batch_size, progress=False).seconds / steps

    return run


def main() -> None:
    print(f"microseconds per training step, medians of {_ROUNDS} runs in turn")
    print(f"{'network (batch)':<34}{'reference':>12}{'numpy':>12}{'reference / numpy':>20}")
    for name, (sizes, batch_size, steps) in _NETWORKS.items():
        runs = {backend: timed_training(sizes, batch_size, steps, backend) for backend in _BACKENDS}
        for run in runs.values():
            run()
        seconds: dict[str, list[float]] = {backend: [] for backend in _BACKENDS}
        for _ in range(_ROUNDS):
            for backend, run in runs.items():
                seconds[backend].append(run())
        ratio = statistics.median(a / b for a, b in zip(seconds["reference"], seconds["numpy"], strict=True))
        reference, numpy = (1e6 * statistics.median(seconds[backend]) for backend in _BACKENDS)
        network = f"{name} {'-'.join(map(str, sizes))} ({batch_size})"
        print(f"{network:<34}{reference:>12,.0f}{numpy:>12,.0f}{ratio:>20.2f}", flush=True)


if __name__ == "__main__":
    main()
