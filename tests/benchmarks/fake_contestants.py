"""Contestants of `benchmarks.gpu` that need no GPU, and fail in the ways that real ones do."""

from __future__ import annotations

import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.contestants import Entry
from benchmarks.gpu import compare, markdown
from benchmarks.gpu_worker import Deadline
from benchmarks.machine import write_results
from benchmarks.networks import Network
from gradflow.errors import SlowPathWarning

FACTS: dict[str, Any] = {
    "gpu": {"name": "a GPU"},
    "machine": {"date": "2026-01-01", "gradflow": "0.1.0"},
    "left_out": {"JAX": "jax is not installed"},
}
CASES = [(Network(name, (4, 3), batch_size=2, steps=5), "adam") for name in "ABC"]


class Steady:
    """Each epoch of five steps takes 0.01 s."""

    def __init__(self, network: Network, optimizer: str) -> None:
        self.name = network.name

    def train(self) -> None:
        time.sleep(0.01)

    def device_seconds(self) -> float:
        time.sleep(0.01)
        return 0.01

    def losses(self, steps: int) -> list[float]:
        return [1.0 / (1 + step) for step in range(steps)]


class OnASlowPath(Steady):
    """Warns that it is slow, and reports a matmul that is not supported."""

    def __init__(self, network: Network, optimizer: str) -> None:
        super().__init__(network, optimizer)
        warnings.warn("cuBLASLt cannot be used", SlowPathWarning, stacklevel=1)

    def report(self) -> dict[str, Any]:
        return {"unsupported": {"(2, 4) and (4, 3)": "no algorithm"}}


class Other(Steady):
    """Trains another network."""

    def losses(self, steps: int) -> list[float]:
        return [1.0, *(1.001 / (1 + step) for step in range(1, steps))]


class FailsOnB(Steady):
    """Cannot be created for network B."""

    def __init__(self, network: Network, optimizer: str) -> None:
        if network.name == "B":
            raise MemoryError("out of memory")
        super().__init__(network, optimizer)


class DiesWhenTimed(Steady):
    """Its process ends while it is timed."""

    def device_seconds(self) -> float:
        os._exit(9)


class HangsOnB(Steady):
    """Does not return from training network B."""

    def train(self) -> None:
        if self.name == "B":
            time.sleep(3600)
        super().train()


def entries(*names: str) -> dict[str, Entry]:
    """Return fakes by the names of their classes; the first one is gradflow."""
    return {
        name if index else "gradflow": Entry("tests.benchmarks.fake_contestants", name, "numpy")
        for index, name in enumerate(names)
    }


def run(folder: Path, *names: str, budget: float | None, rounds: int = 3, cases: Any = CASES) -> None:
    """Compare fakes, and write gpu.json and gpu.md."""
    compare(
        entries(*names),
        cases,
        FACTS,
        lambda result: write_results(folder, "gpu", result, markdown(result)),
        rounds=rounds,
        least=0.02,
        deadline=Deadline(budget),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]), *sys.argv[2:], budget=None)
