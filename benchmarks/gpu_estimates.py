"""Estimated times of training steps on GPUs that were not measured: python -m benchmarks.gpu_estimates.

The launches of a step are counted, with the bytes that they move and the operations of their matmuls, without a GPU.
Each takes the longest of three times: that of the bytes, that of the operations, and that of any launch.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np

import gradflow as gf
from benchmarks.machine import RESULTS
from benchmarks.networks import GPU_NETWORKS, Network
from gradflow.doctor.traffic import CallTraffic, StepTraffic, step_traffic
from gradflow.training.data.prepare import prepare_arrays
from gradflow.training.step.objective import Objective

_FILE = RESULTS / "gpu-estimates.md"
_PRECISIONS = ("float32", "tf32", "bfloat16")

_REACHED_BANDWIDTH, _REACHED_RATE = 0.9, 0.75
"""The fractions of its peaks that a card reaches in a long copy and in a large matmul."""
_LAUNCH, _MATMUL = 2e-6, 4e-6
"""Seconds that a launch of a graph takes, with the gap after it, with next to nothing to do; and a small matmul."""

_METHOD = (
    "**Nothing here was measured.** `python -m benchmarks.gpu_estimates` writes this page on any machine. It counts "
    "the launches of a step with Adam, the bytes that they move, and the operations of their matmuls; the simulated "
    "GPU counts the same launches and operations. A launch takes the longest of three times: its bytes at "
    f"{_REACHED_BANDWIDTH:.0%} of the memory's bandwidth, its operations at {_REACHED_RATE:.0%} of the peak, and "
    f"{1e6 * _LAUNCH:.0f} µs ({1e6 * _MATMUL:.0f} µs for a matmul), a guess at what any launch in a CUDA graph takes. "
    "What stays in a cache between two launches is not considered, so that times limited by memory are upper bounds "
    "where a network is small; nor that a small matmul keeps only a part of the card busy."
)


@dataclass(frozen=True)
class Card:
    """A GPU, by its maker's figures.

    Attributes:
        name: its name.
        bandwidth: bytes per second of its memory.
        rates: operations per second of matmuls, by precision, without sparsity, accumulated in float32.
        source: where the figures are from.
    """

    name: str
    bandwidth: float
    rates: dict[str, float]
    source: str

    def seconds(self, call: CallTraffic, precision: str) -> dict[str, float]:
        """Return the times of a launch, by what limits it."""
        return {
            "launches": _MATMUL if call.flops else _LAUNCH,
            "memory": (call.read + call.written) / (_REACHED_BANDWIDTH * self.bandwidth),
            "matmuls": call.flops / (_REACHED_RATE * self.rates[precision]),
        }


CARDS = (
    Card(
        "H200",
        4.8e12,
        {"float32": 67e12, "tf32": 494e12, "bfloat16": 989e12},
        "NVIDIA H200 Tensor Core GPU data sheet, SXM",
    ),
    Card(
        "GeForce RTX 4090",
        1.008e12,
        {"float32": 82.6e12, "tf32": 82.6e12, "bfloat16": 165.2e12},
        "NVIDIA Ada GPU Architecture white paper, appendix A",
    ),
)


def counted(network: Network, precision: str) -> StepTraffic:
    """Return the launches of a step with Adam, with their bytes and operations."""
    made = gf.MLP(list(network.sizes), initializer=0.0, backend="numpy")
    objective = Objective.checked(made, network.loss, "adam")._replace(precision=precision)
    x = np.zeros((2 * network.batch_size, network.sizes[0]), np.float32)
    labels = np.arange(len(x)) % network.sizes[-1]
    return step_traffic(objective, prepare_arrays(made, objective.loss, x, labels), network.batch_size)


def estimate(step: StepTraffic, card: Card, precision: str) -> tuple[float, str]:
    """Return the seconds of a step, and what limits the launches that take most of it."""
    total, by_limit = 0.0, dict.fromkeys(("launches", "memory", "matmuls"), 0.0)
    for call in step:
        seconds = card.seconds(call, precision)
        limit = max(seconds, key=lambda name: seconds[name])
        by_limit[limit] += seconds[limit]
        total += seconds[limit]
    return total, max(by_limit, key=lambda name: by_limit[name])


def markdown() -> str:
    """Return the page of the estimates."""
    lines = [
        "# Training steps on a GPU: estimates",
        "",
        textwrap.fill(_METHOD, width=118),
        "",
        "| network (batch) | precision | launches | MB | GFLOP | "
        + " | ".join(f"{card.name}: µs | limited by" for card in CARDS)
        + " |",
        "| --- | --- | ---: | ---: | ---: |" + " ---: | --- |" * len(CARDS),
    ]
    for network in GPU_NETWORKS.values():
        for precision in _PRECISIONS:
            step = counted(network, precision)
            cells = [str(network), precision, str(len(step.calls))]
            cells += [f"{step.n_bytes / 1e6:,.1f}", f"{step.flops / 1e9:,.3g}"]
            for card in CARDS:
                seconds, limit = estimate(step, card, precision)
                cells += [f"{1e6 * seconds:,.0f}", limit]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Peaks, as stated by NVIDIA, without sparsity and with float32 accumulation:", ""]
    for card in CARDS:
        rates = ", ".join(f"{rate / 1e12:,.1f} TFLOP/s in {precision}" for precision, rate in card.rates.items())
        lines.append(f"- {card.name}: {card.bandwidth / 1e12:.3g} TB/s; {rates} ({card.source}).")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    _FILE.write_text(markdown())
    print(f"written: {_FILE}")


if __name__ == "__main__":
    main()
