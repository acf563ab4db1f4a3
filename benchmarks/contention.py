"""Training beside other busy processes: python -m benchmarks.contention.

Three networks are trained with Adam while 0, 1, 2, 4 or 8 processes of one kind keep the processors busy: loops in
Python, or matmuls in NumPy with the threads of its BLAS. Contestants train in turn, each in its own process, for short
fits of whole epochs; one that does not finish an epoch within the limit is stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.busy import KINDS, busy_processes
from benchmarks.contestants import problem_with
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import machine_line, table
from benchmarks.networks import Network
from benchmarks.rounds import rounds_in_turn
from benchmarks.worker import Worker

CONTENDERS = ("gradflow", "gradflow, one thread", "PyTorch", "PyTorch, one thread", "scikit-learn")
"""The contestants; all are compared with the second."""
_OURS, _BASE = CONTENDERS[:2]
_NETWORKS = {
    network.name: network
    for network in (
        Network("small", (64, 128, 64, 10), batch_size=32, steps=44),
        Network("middling", (26, 256, 256, 1), batch_size=256, steps=125),
        Network("large", (784, 512, 256, 10), batch_size=128, steps=40),
    )
}
_LOADS, _QUICK_LOADS = (0, 1, 2, 4, 8), (0, 1)
_ROUNDS, _QUICK_ROUNDS = 5, 1
_SECONDS, _QUICK_SECONDS = 0.5, 0.01
_LIMIT = 30.0


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write contention.json and contention.md."""
    options = _options(arguments)
    left_out = {name: problem for name in options.contestants if (problem := problem_with(name))}
    options.contestants = [name for name in options.contestants if name not in left_out]
    for name, problem in left_out.items():
        print(f"left out: {name}: {problem}")
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "limit": options.limit, "cases": []}
    for name in options.networks:
        result["cases"] += _measure(_NETWORKS[name], options)
    write_results(options.output, "contention", result, markdown(result))
    print(f"\n{markdown(result)}\nwritten: {options.output}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=_NETWORKS, default=list(_NETWORKS), help="default: all")
    parser.add_argument("--contestants", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: all")
    parser.add_argument("--loads", nargs="+", type=int, help=f"numbers of busy processes; default: {_LOADS}")
    parser.add_argument("--busy", nargs="+", choices=KINDS, default=list(KINDS), help="their work; default: each kind")
    parser.add_argument("--rounds", type=int, help=f"number of rounds; default: {_ROUNDS}")
    parser.add_argument(
        "--limit",
        type=float,
        default=_LIMIT,
        help="seconds for an epoch, and for all of a contestant beside a load; default: %(default)s",
    )
    parser.add_argument("--quick", action="store_true", help=f"a round beside {_QUICK_LOADS} processes, to see it work")
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    options.loads = options.loads or (_QUICK_LOADS if options.quick else _LOADS)
    options.rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    options.seconds = _QUICK_SECONDS if options.quick else _SECONDS
    if min(options.loads) < 0 or max(options.loads) < 1 or options.rounds < 1:
        parser.error("--loads must be 0 and more, with one above 0, and --rounds at least 1")
    if missing := {_OURS, _BASE}.difference(options.contestants):
        parser.error(f"--contestants must include {' and '.join(sorted(map(repr, missing)))}")
    return options


def _measure(network: Network, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the times of all contestants beside each load; all kinds of no processes are the same one."""
    loads = dict.fromkeys((kind if number else "", number) for kind in options.busy for number in options.loads)
    workers: dict[str, Worker] = {}
    cases = []
    with contextlib.ExitStack() as stack:
        for kind, number in loads:
            for name in options.contestants:
                if name not in workers:  # the first time, or again after it was stopped
                    worker = stack.enter_context(Worker(name, network, "adam"))
                    with contextlib.suppress(TimeoutError):
                        worker.seconds_per_epoch(0, options.limit)
                        workers[name] = worker
            spent = dict.fromkeys(options.contestants, 0.0)
            runs = {name: partial(_seconds, name, workers, spent, options) for name in options.contestants}
            with busy_processes(kind, number):
                measured = rounds_in_turn(runs, options.rounds)
            seconds = {
                name: [None if math.isinf(value) else value for value in values if not math.isnan(value)]
                for name, values in measured.items()
            }
            case = {"network": str(network), "busy": kind, "processes": number, "seconds_per_epoch": seconds}
            cases.append(case)
            print(f"{network}, {_load(case)}: {', '.join(_row(case, options.limit)[1:])}", flush=True)
    return cases


def _seconds(name: str, workers: dict[str, Worker], spent: dict[str, float], options: argparse.Namespace) -> float:
    """Return the time of an epoch in a short fit; infinity if it was stopped, NaN after all of a contestant's time."""
    if spent[name] > options.limit:
        return math.nan
    if name not in workers:
        return math.inf
    began = time.perf_counter()
    try:
        return workers[name].seconds_per_epoch(options.seconds, options.limit)
    except TimeoutError:
        del workers[name]
        return math.inf
    finally:
        spent[name] += time.perf_counter() - began


def _load(case: dict[str, Any]) -> str:
    return f"{case['processes']} x {case['busy']}" if case["processes"] else "nothing else"


def median(seconds: list[float | None]) -> float:
    """Return the median of the rounds; infinity if the contestant was stopped in most of them."""
    return statistics.median(math.inf if value is None else value for value in seconds)


def _row(case: dict[str, Any], limit: float) -> list[str]:
    medians = {name: median(seconds) for name, seconds in case["seconds_per_epoch"].items()}
    base = medians[_BASE]
    cells = []
    for value in medians.values():
        sign, seconds = ("> ", limit) if math.isinf(value) else ("", value)
        ratio = "" if math.isinf(base) else f" ({sign}{seconds / base:,.2f})"
        cells.append(f"{sign}{_milliseconds(seconds)}{ratio}")
    return [_load(case), *cells]


def _milliseconds(seconds: float) -> str:
    value = 1e3 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(result: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    parts = [
        "# Training beside busy processes",
        machine_line(result),
        "Milliseconds per epoch with Adam, and in brackets the ratio to gradflow on one thread beside the same "
        "processes. Busy: that many processes with a loop in Python, or with matmuls of 300x300 in NumPy, on the "
        f"threads of its BLAS. Medians of {result['rounds']} rounds, or of fewer where a contestant has taken "
        f"{result['limit']:g} s; an epoch that takes longer than that is stopped.",
    ]
    for network in dict.fromkeys(case["network"] for case in result["cases"]):
        cases = [case for case in result["cases"] if case["network"] == network]
        header = ["busy", *cases[0]["seconds_per_epoch"]]
        parts += [f"## {network}", table(header, [_row(case, result["limit"]) for case in cases])]
    return "\n\n".join(parts) + "\n"


def summary(result: dict[str, Any]) -> str:
    """Return a sentence: how much the default threads lose at worst, and how fast the fastest other library is.

    An epoch that was stopped counts with the limit.
    """
    losses, others = [], []
    loaded = [case for case in result["cases"] if case["processes"]]
    for case in loaded:
        medians = {name: min(median(of_name), result["limit"]) for name, of_name in case["seconds_per_epoch"].items()}
        ours, base = medians.pop(_OURS), medians.pop(_BASE)
        losses.append(ours / base)
        others += [min(medians.values()) / ours] if medians else []
    numbers = sorted({case["processes"] for case in loaded})
    libraries = f"; in the fastest other library {min(others):.2f} to {max(others):.2f} times as long" if others else ""
    return (
        f"Beside {numbers[0]} to {numbers[-1]} busy processes, an epoch takes {min(losses):.2f} to {max(losses):.2f} "
        f"times as long by default as on one thread{libraries}."
    )


if __name__ == "__main__":
    main()
