"""gradflow on a GPU against PyTorch and JAX on it: python -m benchmarks.gpu.

Same data, same initial weights, same mathematics: where the losses of ten steps differ from gradflow's, the result says
so. The contestants run in turn, each in its own process, timed by CUDA events on the stream that does the work (JAX has
none, so it is timed by the wall clock). It needs no arguments and survives any contestant's failure, so that it can run
unattended; the results so far are on disk after each case.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import GPU_CONTESTANTS, Entry, missing_package
from benchmarks.gpu_worker import LOSS_STEPS, Contestants, Deadline
from benchmarks.machine import RESULTS, machine, slug, write_results
from benchmarks.networks import GPU_NETWORKS, LEARNING_RATES, Network
from benchmarks.rounds import ratios, spread
from gradflow.backends.availability import gpu_problem

OURS = "gradflow"
NO_GPU = 2

_ROUNDS, _LEAST = 15, 0.3  # seconds of a measurement
_QUICK_ROUNDS, _QUICK_LEAST = 3, 0.1
_TOLERANCE, _REDUCED_TOLERANCE = 1e-4, 2e-2
"""For the losses in float32 (as in benchmarks/peers.py) and in other precisions, as a fraction of the first loss."""


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write gpu.json and gpu.md."""
    options = _options(arguments)
    deadline = Deadline(options.budget)
    if problem := gpu_problem():
        print(f"nothing was measured, because no GPU can be used: {problem}", file=sys.stderr)
        sys.exit(NO_GPU)
    entries = {name: GPU_CONTESTANTS[name] for name in options.contestants}
    left_out = {name: problem for name, entry in entries.items() if (problem := missing_package(entry))}
    facts = {"machine": machine(), "gpu": gpu_facts(), "left_out": left_out}
    folder = options.output or RESULTS / slug(facts["gpu"]["name"])
    compare(
        {name: entry for name, entry in entries.items() if name not in left_out},
        [(GPU_NETWORKS[network], optimizer) for network in options.networks for optimizer in options.optimizers],
        facts,
        lambda result: write_results(folder, "gpu", result, markdown(result)),
        rounds=_QUICK_ROUNDS if options.quick else _ROUNDS,
        least=_QUICK_LEAST if options.quick else _LEAST,
        deadline=deadline,
    )
    print(f"written: {folder / 'gpu.json'} and gpu.md")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="networks T and S in a few short rounds, as a smoke test")
    parser.add_argument("--networks", nargs="+", choices=GPU_NETWORKS, help="networks to measure; default: all")
    parser.add_argument("--optimizers", nargs="+", choices=LEARNING_RATES, default=list(LEARNING_RATES))
    parser.add_argument("--contestants", nargs="+", choices=GPU_CONTESTANTS, default=list(GPU_CONTESTANTS))
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="end after so many seconds; default: no limit")
    parser.add_argument("--output", type=Path, help="folder; default: one named after the GPU")
    options = parser.parse_args(arguments)
    options.networks = options.networks or (["T", "S"] if options.quick else list(GPU_NETWORKS))
    return options


def compare(
    entries: Mapping[str, Entry],
    cases: Sequence[tuple[Network, str]],
    facts: Mapping[str, Any],
    write: Callable[[dict[str, Any]], None],
    *,
    rounds: int,
    least: float,
    deadline: Deadline,
) -> None:
    """Measure case by case, and write the result so far after each.

    Args:
        entries: the contestants.
        cases: networks and optimizers.
        facts: what else the result holds.
        write: called with the result so far.
        rounds: the most rounds of a case.
        least: the seconds that each measurement takes at least.
        deadline: when everything must have ended; each case gets an equal part of the time that is left.
    """
    result: dict[str, Any] = {**facts, "steps": [], "not_measured": [_title(*case) for case in cases]}
    with Contestants(entries, deadline) as contestants:
        for index, (network, optimizer) in enumerate(cases):
            if not deadline.left:
                break
            end = deadline.part(1 / (len(cases) - index))
            case = contestants.measure(network, optimizer, rounds=rounds, least=least, end=end)
            case = {"network": network.name, "optimizer": optimizer, "clocks": _clocks(), **_with_differences(case)}
            result["steps"].append(case)
            if case["seconds_per_step"]:
                result["not_measured"].remove(_title(network, optimizer))
            result["left_out"] = {**facts["left_out"], **contestants.left_out}
            write(result)
            _print(network, case)


def _title(network: Network, optimizer: str) -> str:
    return f"{network}, {optimizer}"


def _print(network: Network, case: dict[str, Any]) -> None:
    print(f"network {network}, {case['optimizer']}, microseconds per step:", flush=True)
    for name, seconds in case["seconds_per_step"].items():
        print(f"  {name:<32}{1e6 * spread(seconds).median:>12,.1f}", flush=True)
    for line in _remarks(case):
        print(f"  {line}", flush=True)


def _with_differences(case: dict[str, Any]) -> dict[str, Any]:
    """Replace the losses by the largest difference of each contestant's from gradflow's, as a fraction of the first."""
    losses = case.pop("losses")
    ours = losses.get(OURS)
    differences = {}
    if ours is not None:
        for name, of_name in losses.items():
            differences[name] = float(np.max(np.abs(np.subtract(of_name, ours))) / ours[0])
    return {"loss_differences": differences, **case}


def _remarks(case: dict[str, Any]) -> list[str]:
    """Return what a reader of the times must know: who was left out, whose losses differ, who took a slow path."""
    lines = [f"left out: {name}: {reason}" for name, reason in case["left_out"].items()]
    for name, difference in case["loss_differences"].items():
        is_reduced = "TF32" in name or "bfloat16" in name
        if not difference <= (_REDUCED_TOLERANCE if is_reduced else _TOLERANCE):  # NaN too
            lines.append(f"losses differ: {name}: by {difference:.1e} of the first, over {LOSS_STEPS} steps")
    for name, report in case["reports"].items():
        lines += [f"{name}: {warning}" for warning in report["warnings"] if "SlowPathWarning" in warning]
        lines += [f"{name}: {shape}: {reason}" for shape, reason in report.get("unsupported", {}).items()]
    return lines


def gpu_facts() -> dict[str, Any]:
    """Describe the GPU and its software. Nothing is allocated on it."""
    cupy = importlib.import_module("cupy")
    runtime = cupy.cuda.runtime
    return {
        "name": runtime.getDeviceProperties(0)["name"].decode(),
        "compute_capability": cupy.cuda.Device(0).compute_capability,
        "cuda_of_the_driver": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
        "cupy": cupy.__version__,
        "driver": _of_nvidia_smi("driver_version"),
    }


def _clocks() -> dict[str, str] | None:
    """Return clocks, temperature and power just after a case, as nvidia-smi shows them; None where it is missing."""
    return _of_nvidia_smi("clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu", "power.draw")


def _of_nvidia_smi(*names: str) -> dict[str, str] | None:
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(names, map(str.strip, said.split(",")), strict=True))


def markdown(result: dict[str, Any]) -> str:
    """Return the tables: medians with quartiles, and the median of the ratios within each round."""
    lines = [
        "# Training steps on a GPU",
        "",
        f"{result['gpu']['name']}; {result['machine']['date']}; gradflow {result['machine']['gradflow']}. Made by "
        "`python -m benchmarks.gpu`: microseconds per step, the median of the rounds with quartiles, and its ratio "
        "to gradflow's step in float32, the median of the ratios within each round.",
        "",
        "| network (batch) | optimizer | library | µs per step | quartiles | times gradflow's |",
        "| --- | --- | --- | ---: | --- | ---: |",
    ]
    remarks = [f"left out: {name}: {reason}" for name, reason in result["left_out"].items()]
    for case in result["steps"]:
        seconds = case["seconds_per_step"]
        network = GPU_NETWORKS.get(case["network"], case["network"])
        for name, of_name in seconds.items():
            of_all = spread([1e6 * value for value in of_name])
            ratio = f"{spread(ratios(of_name, seconds[OURS])).median:.2f}" if OURS in seconds else "-"
            lines.append(
                f"| {network} | {case['optimizer']} | {name} | "
                f"{of_all.median:,.1f} | {of_all.low:,.1f} to {of_all.high:,.1f} | {ratio} |"
            )
        remarks += [f"{case['network']}, {case['optimizer']}: {line}" for line in _remarks(case)]
    remarks += [f"not measured, since the time was up: {case}" for case in result["not_measured"]]
    return "\n".join([*lines, "", *(f"- {line}" for line in dict.fromkeys(remarks))]).rstrip() + "\n"


if __name__ == "__main__":
    main()
