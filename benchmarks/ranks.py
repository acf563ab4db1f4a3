"""Time of a training step against the number of ranks, on paper: python -m benchmarks.ranks.

A step on one rank is measured (CPU) or estimated (GPUs, `benchmarks.gpu_estimates`); the sum over the ranks follows
from latencies and bandwidths that others have published. Nothing is run.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

from benchmarks.gpu_estimates import CARDS, Card, counted, estimate
from benchmarks.machine import RESULTS
from benchmarks.markdown import table
from benchmarks.networks import GPU_NETWORKS, NETWORKS, Network
from gradflow.doctor.traffic import StepTraffic

_FILE, _PICTURE = RESULTS / "ranks.md", RESULTS / "ranks.png"
_MEASURED = RESULTS / "amd-epyc-avx512-2" / "peers.json"
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_GAIN = 1.25
"""The least factor by which a step must become faster with twice the ranks for these to be worth it."""


@dataclass(frozen=True)
class Protocol:
    """A way to send the parts of an array around a ring.

    Attributes:
        base: seconds that any sum takes.
        hop: seconds that each of the 2 (p - 1) hops of p ranks takes, besides its bytes.
        bandwidth: bytes per second from a rank to the next.
    """

    base: float
    hop: float
    bandwidth: float

    def seconds(self, n_bytes: int, ranks: int) -> float:
        """Return the time of a sum over the ranks."""
        hops = 2 * (ranks - 1)
        return self.base + hops * self.hop + hops / ranks * n_bytes / self.bandwidth


@dataclass(frozen=True)
class Link:
    """The connection between ranks.

    Attributes:
        name: its name.
        protocols: the ways to use it, of which the fastest is taken.
        most: the maximum number of ranks that it connects.
    """

    name: str
    protocols: tuple[Protocol, ...]
    most: int = _SIZES[-1]

    def seconds(self, n_bytes: int, ranks: int) -> float:
        """Return the time of a sum over the ranks; 0 for one rank."""
        if ranks == 1:
            return 0.0
        return min(protocol.seconds(n_bytes, ranks) for protocol in self.protocols)


def _nccl(name: str, *, bandwidth: float, hops: tuple[float, float], most: int = _SIZES[-1]) -> Link:
    """Return a link with NCCL's own estimates of its ring: small messages at half the bandwidth, large ones at all."""
    bases = 6.6e-6, 8.4e-6
    return Link(name, tuple(map(Protocol, bases, hops, (bandwidth / 2, bandwidth))), most)


NVLINK = _nccl("NVLink 4", bandwidth=18 * 20.6e9, hops=(0.6e-6, 3.4e-6), most=8)
PCIE = _nccl("PCIe 4.0 x16", bandwidth=24e9, hops=(1.0e-6, 5.7e-6), most=8)
INFINIBAND = _nccl("InfiniBand, 400 Gbit/s", bandwidth=48e9, hops=(2.7e-6, 14.0e-6))
ETHERNET = Link("Ethernet, 10 Gbit/s", (Protocol(0.0, 25e-6, 1.2e9),))


@dataclass(frozen=True)
class System:
    """Ranks of one kind, and what connects them.

    Attributes:
        name: of a rank.
        link: the connection.
        card: the GPU of a rank; None for the CPU that was measured.
        precision: of its matmuls.
    """

    name: str
    link: Link
    card: Card | None
    precision: str = "float32"

    @property
    def networks(self) -> list[Network]:
        """The networks whose step on one rank is known: W is too large for the CPU."""
        return [NETWORKS[name] for name in "SML"] if self.card is None else [GPU_NETWORKS[name] for name in "SMLW"]

    @property
    def sizes(self) -> list[int]:
        """The numbers of ranks."""
        return [size for size in _SIZES if size <= self.link.most]

    def compute(self, network: Network, ranks: int) -> float:
        """Return the seconds of a step without the sum, on a rank's share of the batch; at least one row."""
        rows = max(1, network.batch_size // ranks)
        if self.card is not None:
            step, _ = estimate(_counted(replace(network, batch_size=rows), self.precision), self.card, self.precision)
            return step
        return _measured(network.name) * rows / network.batch_size

    def step(self, network: Network, ranks: int) -> float:
        """Return the seconds of a step: the sum begins when all gradients are there."""
        return self.compute(network, ranks) + self.link.seconds(4 * network.n_parameters, ranks)

    def hidden(self, network: Network, ranks: int) -> float:
        """Return the least seconds of a step whose sum runs beside the backward pass, two thirds of the matmuls."""
        compute, total = self.compute(network, ranks), self.link.seconds(4 * network.n_parameters, ranks)
        return max(compute, compute / 3 + total)

    def worthwhile(self, network: Network, *, rows: int = 1) -> int:
        """Return up to how many ranks each doubling makes a step of ``rows`` times the batch 1.25 times as fast."""
        larger = replace(network, batch_size=rows * network.batch_size)
        for fewer, more in zip(self.sizes, self.sizes[1:], strict=False):
            if more > larger.batch_size or self.step(larger, fewer) < _GAIN * self.step(larger, more):
                return fewer
        return self.sizes[-1]


SYSTEMS = (
    System("H200 in a machine, TF32", NVLINK, CARDS[0], "tf32"),
    System("H200 in machines of their own, TF32", INFINIBAND, CARDS[0], "tf32"),
    System("GeForce RTX 4090 in a machine", PCIE, CARDS[1]),
    System("Machine with two cores of an AMD EPYC", ETHERNET, None),
)

_METHOD = (
    "**Nothing here was run on several ranks.** `python -m benchmarks.ranks` writes this page on any machine. A step "
    "is the computing on a rank's rows of the batch, and then the sum over the ranks of the gradients, 4 bytes for "
    "each parameter. Steps with Adam on the CPU were measured on one machine ([figures](amd-epyc-avx512-2/peers.md)); "
    "there all of it is taken to follow the rows, since each rank updates a block of the weights; those on GPUs are "
    "[estimates](gpu-estimates.md), made anew for the fewer rows. A sum takes b + 2 (p − 1) h + 2 (p − 1)/p · bytes / "
    "w seconds on a ring of p ranks: any sum takes b, a hop takes h, and w bytes go over it in a second."
)
_SOURCES = (
    "NCCL's latencies are those by which it chooses its algorithm (`src/graph/tuning.cc`, "
    "[discussed](https://github.com/NVIDIA/nccl/issues/1334)), for its protocols LL, with half the bandwidth, and "
    "Simple; the faster one is taken. b is 6.6 and 8.4 µs; h is 0.6 and 3.4 µs over NVLink, 1.0 and 5.7 over PCIe, 2.7 "
    "and 14.0 over a network. "
    "[Measured](https://github.com/NVIDIA/nccl-tests/issues/123) on eight A100: 10 µs for two, 33.7 for eight ranks.",
    "Bandwidths are NCCL's too (`src/graph/topo.h`): 20.6 GB/s for each of the 18 NVLinks of a Hopper GPU, 12 GB/s for "
    "PCIe 3.0 x16, so 24 for 4.0, and 12 GB/s for each 100 Gbit/s of a network. GPUs without peer-to-peer copies, as "
    "the GeForce RTX 4090, send through the host's memory and may reach less.",
    "Ethernet: 1.2 GB/s, and 25 µs for a message over TCP, an assumption (NetPIPE "
    "[measured](http://norma.mbg.duth.gr/index.php?id=about:benchmarks:network) 23 µs between two PCs).",
)


@cache
def _counted(network: Network, precision: str) -> StepTraffic:
    return counted(network, precision)


@cache
def _measured(name: str) -> float:
    """Return the measured seconds of a step with Adam."""
    steps = json.loads(_MEASURED.read_text())["steps"]
    seconds = next(of["seconds_per_step"] for of in steps if (of["network"], of["optimizer"]) == (name, "adam"))
    return median(seconds["gradflow"])


def _cells(system: System, network: Network) -> list[str]:
    one = system.step(network, 1)
    times = [
        f"{1e6 * system.step(network, size):,.0f} ({one / system.step(network, size):.2f}x)" for size in system.sizes
    ]
    last = system.sizes[-1]
    return [str(network), *times, f"{one / system.hidden(network, last):.2f}x", str(system.worthwhile(network))]


def markdown() -> str:
    """Return the page of the model."""
    parts = ["# Training steps on several ranks, on paper", textwrap.fill(_METHOD, width=118)]
    for system in SYSTEMS:
        header = ["network (batch)", *(f"{size} ranks" if size > 1 else "1 rank" for size in system.sizes)]
        header += [f"{system.sizes[-1]} ranks, sum hidden", "worth it up to"]
        parts += [
            f"## {system.name}: {system.link.name}",
            "µs a step, and how many times as fast as one rank.",
            table(header, [_cells(system, network) for network in system.networks]),
        ]
    parts.append(
        textwrap.fill(
            f"“Worth it up to” is the number of ranks up to which each doubling makes the step {_GAIN} times as fast; "
            "“sum hidden” is the most that could be won by a sum that begins during the backward pass, in buckets.",
            width=118,
        )
    )
    parts += ["## Larger batches", "Ranks that are worth it with so many times the batch."]
    factors = (1, 4, 16, 64)
    rows = [
        [f"{network.name}, {system.name}", *(str(system.worthwhile(network, rows=factor)) for factor in factors)]
        for system in SYSTEMS
        for network in system.networks
    ]
    parts += [table(["network", *(f"{factor}x" for factor in factors)], rows), "## Sources"]
    parts.append(
        "\n".join(
            textwrap.fill(
                f"- {source}", width=118, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
            )
            for source in _SOURCES
        )
    )
    parts.append("![Speed-up against ranks](ranks.png)")
    return "\n\n".join(parts) + "\n"


def draw(path: Path) -> None:
    """Draw the speed-ups."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(SYSTEMS), 4), layout="constrained")
    for ax, system in zip(figure.subplots(1, len(SYSTEMS)), SYSTEMS, strict=True):
        ax.plot(system.sizes, system.sizes, color="0.8", label="ideal")
        for network in system.networks:
            one = system.step(network, 1)
            (line,) = ax.plot(
                system.sizes, [one / system.step(network, size) for size in system.sizes], "o-", label=network.name
            )
            hidden = [one / system.hidden(network, size) for size in system.sizes]
            ax.plot(system.sizes, hidden, ":", color=line.get_color())
        ax.set_title(f"{system.name}\n{system.link.name}", fontsize=9)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log", base=2)
        ax.set_xlabel("ranks")
        ax.set_ylabel("times as fast as one rank")
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
        ax.legend(frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    """Write the page and its picture."""
    _FILE.write_text(markdown())
    draw(_PICTURE)
    print(f"written: {_FILE}")


if __name__ == "__main__":
    main()
