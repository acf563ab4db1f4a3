"""Cost of layer statistics on the CPU: python -m benchmarks.layer_statistics [--rounds N] [--seconds S].

Three things run in turn: steps of an epoch, one step, and one measured step; both single steps use the same memory, and
the host reads the measured values as in `Trainer.fit`. The difference between the last two, relative to the first, is
what a measurement adds to a step. At the default cadence, at most one step in 20 is measured.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial

import gradflow as gf
from benchmarks.networks import NETWORKS, Network
from benchmarks.rounds import Spread, rounds_in_turn, spread
from benchmarks.worker import seconds_of
from gradflow.training.step.layer_statistics import LayerStatistics
from gradflow.training.step.training_step import TrainingStep


@dataclass(frozen=True)
class Cost:
    """Cost of a measurement in one network.

    Attributes:
        step: the median time of a step without it, in seconds.
        added: the time that a measurement adds to a step, relative to ``step``.
        at_cadence: the relative increase in training time at the default cadence.
    """

    step: float
    added: Spread
    at_cadence: Spread


def measure(network: Network, activation: str, *, rounds: int, seconds: float) -> Cost:
    """Time steps of a network with and without a measurement, each for about the given number of seconds per round."""
    whole, one = (_training_step(network, activation, steps=steps) for steps in (network.steps, 1))
    assert one.epoch.statistics is not None
    read = one.epoch.statistics.read

    def measured() -> None:
        one.run(is_measured=True)
        read()

    timed = {
        name: partial(seconds_of, run, max(1, int(seconds / seconds_of(run, 1))))
        for name, run in {"epoch": whole.run, "plain": one.run, "measured": measured}.items()
    }
    found = rounds_in_turn(timed, rounds)
    steps = [epoch / network.steps for epoch in found["epoch"]]
    added = [
        (longer - plain) / step for longer, plain, step in zip(found["measured"], found["plain"], steps, strict=True)
    ]
    # Epochs of the network's data between two measured steps.
    apart = next(epoch for epoch in range(1, 100) if LayerStatistics.is_due(1 + epoch, network.steps)) * network.steps
    return Cost(spread(steps).median, spread(added), spread([extra / apart for extra in added]))


def _training_step(network: Network, activation: str, *, steps: int) -> TrainingStep:
    """Return the step of a training run with the given number of steps per epoch."""
    model = gf.MLP(list(network.sizes), activation, backend="numpy")
    x, labels = network.data()
    rows, settings = steps * network.batch_size, {"batch_size": network.batch_size, "layer_statistics": True}
    return TrainingStep.of(model, "softmax_cross_entropy", "adam", x[:rows], labels[:rows], **settings)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=15, help="number of timed rounds (15)")
    arguments.add_argument("--seconds", type=float, default=0.3, help="seconds per round (0.3)")
    options = arguments.parse_args()
    print("| network (batch) | activation | step, µs | added, in steps | longer at the default cadence |")
    print("| --- | --- | ---: | ---: | ---: |")
    for network in NETWORKS.values():
        for activation in ("relu", "tanh"):
            cost = measure(network, activation, rounds=options.rounds, seconds=options.seconds)
            added, cadence = cost.added, cost.at_cadence
            print(
                f"| {network} | {activation} | {1e6 * cost.step:,.0f} | {added.median:.2f} ({added.low:.2f} to "
                f"{added.high:.2f}) | {cadence.median:.1%} ({cadence.low:.1%} to {cadence.high:.1%}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
