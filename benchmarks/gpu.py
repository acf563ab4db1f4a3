"""gradflow on a GPU against PyTorch and JAX on it: python -m benchmarks.gpu.

Same data, same initial weights, same mathematics: the losses of ten steps must agree before anything is timed. Then the
contestants run in turn, each in its own process, timed by CUDA events on the stream that does the work (JAX has none,
so it is timed by the wall clock). It needs no arguments, so that it can run unattended on the first available GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.contestants import GPU_CONTESTANTS, problem_with
from benchmarks.machine import RESULTS, machine, slug
from benchmarks.networks import LEARNING_RATES, NETWORKS, Network
from benchmarks.peers import LOSS_STEPS, check_losses
from benchmarks.rounds import ratios, rounds_in_turn, spread
from benchmarks.worker import Worker
from gradflow.backends import get_backend
from gradflow.backends.availability import gpu_problem

OURS = GPU_CONTESTANTS[0]
NO_GPU = 2

_ROUNDS, _QUICK_ROUNDS = 15, 3


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write gpu.json and gpu.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="networks T and S in a few rounds, as a smoke test")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="networks to measure; default: all")
    parser.add_argument("--output", type=Path, help="folder; default: one named after the GPU")
    options = parser.parse_args(arguments)
    if problem := gpu_problem():
        print(f"nothing was measured, because no GPU can be used: {problem}", file=sys.stderr)
        sys.exit(NO_GPU)
    left_out = {name: problem for name in GPU_CONTESTANTS if (problem := problem_with(name))}
    for name, problem in left_out.items():
        print(f"left out: {name}: {problem}")
    names = [name for name in GPU_CONTESTANTS if name not in left_out]
    networks = options.networks or (["T", "S"] if options.quick else list(NETWORKS))
    rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    steps = [
        _measure(names, NETWORKS[network], optimizer, rounds) for network in networks for optimizer in LEARNING_RATES
    ]
    result: dict[str, Any] = {
        "machine": machine(),
        "gpu": get_backend("cupy").device,
        "rounds": rounds,
        "left_out": left_out,
        "steps": steps,
    }
    folder = options.output or RESULTS / slug(result["gpu"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / "gpu.md").write_text(markdown(result))
    print(f"written: {folder / 'gpu.json'} and gpu.md")


def _measure(names: list[str], network: Network, optimizer: str, rounds: int) -> dict[str, Any]:
    print(f"network {network}, {optimizer}, microseconds per step:", flush=True)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(name, network, optimizer)) for name in names}
        losses = {name: worker.losses(LOSS_STEPS) for name, worker in workers.items()}
        differences = check_losses({"gradflow": losses[OURS]} | losses, network)
        seconds = rounds_in_turn({name: worker.device_seconds_per_step for name, worker in workers.items()}, rounds)
    for name, of_name in seconds.items():
        print(f"  {name:<26}{1e6 * spread(of_name).median:>12,.1f}", flush=True)
    return {
        "network": network.name,
        "optimizer": optimizer,
        "loss_differences": differences,
        "seconds_per_step": seconds,
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the tables: medians with quartiles, and the median of the ratios within each round."""
    lines = [
        "# Training steps on a GPU",
        "",
        f"{result['gpu']}; {result['machine']['date']}; gradflow {result['machine']['gradflow']}. Made by "
        "`python -m benchmarks.gpu`: microseconds per step, the median of the rounds with quartiles, and its ratio "
        "to gradflow's step, the median of the ratios within each round.",
        "",
        "| network (batch) | optimizer | library | µs per step | quartiles | times gradflow's |",
        "| --- | --- | --- | ---: | --- | ---: |",
    ]
    for case in result["steps"]:
        seconds = case["seconds_per_step"]
        for name, of_name in seconds.items():
            of_all = spread([1e6 * value for value in of_name])
            ratio = spread(ratios(of_name, seconds[OURS])).median
            lines.append(
                f"| {NETWORKS[case['network']]} | {case['optimizer']} | {name.removesuffix(' (GPU)')} | "
                f"{of_all.median:,.1f} | {of_all.low:,.1f} to {of_all.high:,.1f} | {ratio:.2f} |"
            )
    lines += ["", *(f"Omitted: {name}: {problem}" for name, problem in result["left_out"].items())]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
