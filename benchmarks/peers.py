"""gradflow against PyTorch, JAX and scikit-learn: python -m benchmarks.peers.

Same data, same initial weights, same mathematics: the losses of ten steps must agree before anything is timed. Then the
contestants run in turn, each in its own process. README.md explains how to read the results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import CONTESTANTS, GEMMS, PEERS, problem_with
from benchmarks.machine import machine, results_folder
from benchmarks.networks import LEARNING_RATES, NETWORKS, Network
from benchmarks.processes import (
    allocated_by_fit,
    first_step_seconds,
    in_fresh_process,
    process_growth,
    process_growth_of_prediction,
)
from benchmarks.report import write_report
from benchmarks.rounds import rounds_in_turn, spread
from benchmarks.worker import Worker

LOSS_STEPS = 10
LOSS_TOLERANCE = 1e-4
"""As a fraction of the first loss. Summing in a different order changes a float32 loss by 1e-7 of it; ten steps amplify
that to some 1e-6, to 1e-5 for network L; a learning rate that is off by 1 % changes it by 1e-3."""

_ROUNDS = 15
_QUICK_ROUNDS, _QUICK_NETWORKS = 3, ["T", "S"]
_PREDICTED_ROWS = 1_000_000
_PROCESSES = 5


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    options = _options(arguments)
    left_out = {name: problem for name in options.contestants if (problem := problem_with(name))}
    names = [name for name in options.contestants if name not in left_out]
    for name, problem in left_out.items():
        print(f"left out: {name}: {problem}")
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "left_out": left_out}
    networks = [NETWORKS[name] for name in options.networks]
    result["steps"] = [
        _measure_steps(names, network, optimizer, options.rounds)
        for network in networks
        for optimizer in options.optimizers
    ]
    result["prediction"] = _measure_prediction(names, options.rounds)
    result["memory"] = [
        _measure_memory(names, network, optimizer) for network in networks for optimizer in options.optimizers
    ]
    result["prediction_memory"] = in_fresh_process(process_growth_of_prediction, _PREDICTED_ROWS)
    result["first_step_seconds"] = first_step_seconds(_PROCESSES)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
    write_report(result, options.output)
    print(f"written: {options.output}; python -m benchmarks.report updates the README from it")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="default: all")
    parser.add_argument("--optimizers", nargs="+", choices=LEARNING_RATES, default=list(LEARNING_RATES))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--rounds", type=int, help=f"number of rounds; default: {_ROUNDS}")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_ROUNDS} rounds of networks {_QUICK_NETWORKS}, as a smoke test"
    )
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    options.networks = options.networks or (_QUICK_NETWORKS if options.quick else list(NETWORKS))
    options.rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}")
    return options


def check_losses(losses: dict[str, list[float]], network: Network) -> dict[str, float]:
    """Return the largest difference of each contestant's losses from gradflow's, as a fraction of the first loss.

    For network T only scikit-learn's first loss counts: from the second step on, its network differs (with_sklearn.py).

    Raises:
        SystemExit: if one differs by more than `LOSS_TOLERANCE`, since the times would then compare different things.
    """
    differences = {}
    for name, of_name in losses.items():
        steps = 1 if name == "scikit-learn" and network.sizes[-1] == 2 else len(of_name)
        ours, theirs = np.array(losses["gradflow"][:steps]), np.array(of_name[:steps])
        difference = float(np.max(np.abs(theirs - ours)) / ours[0])
        if not difference <= LOSS_TOLERANCE:
            sys.exit(
                f"error: {name} does not train network {network} as gradflow does: over {steps} steps the losses "
                f"differ by {difference:.1e} of the first, more than {LOSS_TOLERANCE:.0e}"
            )
        differences[name] = difference
    return differences


def _measure_steps(names: list[str], network: Network, optimizer: str, rounds: int) -> dict[str, Any]:
    print(f"network {network}, {optimizer}, microseconds per step:", flush=True)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, network, optimizer)) for name in names}
        losses = {name: worker.losses(LOSS_STEPS) for name, worker in workers.items() if name not in GEMMS}
        differences = check_losses(losses, network)
        seconds = rounds_in_turn({name: worker.seconds_per_step for name, worker in workers.items()}, rounds)
    for name, of_name in seconds.items():
        print(f"  {name:<26}{1e6 * spread(of_name).median:>12,.1f}", flush=True)
    return {
        "network": network.name,
        "optimizer": optimizer,
        "loss_differences": differences,
        "seconds_per_step": seconds,
    }


def _measure_prediction(names: list[str], rounds: int) -> dict[str, list[float]]:
    """Return the seconds per row of network S in each round."""
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(name, NETWORKS["S"], "sgd"))
            for name in names
            if name in ("gradflow", *PEERS)
        }
        return rounds_in_turn({name: worker.seconds_per_prediction for name, worker in workers.items()}, rounds)


def _measure_memory(names: list[str], network: Network, optimizer: str) -> dict[str, Any]:
    return {
        "network": network.name,
        "optimizer": optimizer,
        "least_bytes": network.least_bytes(optimizer),
        "allocated_bytes": in_fresh_process(allocated_by_fit, network, optimizer),
        "process_bytes": {
            name: in_fresh_process(process_growth, name, network, optimizer)
            for name in ("gradflow", "PyTorch")
            if name in names
        },
    }


if __name__ == "__main__":
    main()
