"""Held-out scores on real data, and training times, against PyTorch and scikit-learn: python -m benchmarks.accuracy.

For each data set and seed, all libraries train on the same rows by the same recipe, in turn, each in its own process.
Scores are compared seed by seed. README.md explains how to read the results.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.fits import LIBRARIES, fit_and_score
from benchmarks.machine import machine, results_folder, write_results
from benchmarks.markdown import machine_line, table
from benchmarks.real_data import DATA_SETS
from benchmarks.rounds import ratios, rounds_in_turn, spread

_SEEDS = 20
_QUICK_SEEDS, _QUICK_DATA_SETS = 3, ["iris", "diabetes"]
_OURS = "gradflow"
_PEERS = [library for library in LIBRARIES if library != _OURS]


def main(arguments: list[str] | None = None) -> None:
    """Train, and write accuracy.json, accuracy.md and accuracy.png."""
    options = _options(arguments)
    result: dict[str, Any] = {"machine": machine(), "seeds": options.seeds, "data_sets": []}
    for name in options.data_sets:
        result["data_sets"].append(_compare(name, [_OURS, *options.peers], options.seeds))
        print(_verdict(result["data_sets"][-1]), flush=True)
    write_results(options.output, "accuracy", result, markdown(result))
    _draw(result, options.output / "accuracy.png")
    print(f"written: {options.output}")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--data-sets", nargs="+", choices=DATA_SETS, help="default: all")
    parser.add_argument("--peers", nargs="+", choices=_PEERS, default=_PEERS, help="default: all")
    parser.add_argument("--seeds", type=int, help=f"number of times each library trains; default: {_SEEDS}")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_SEEDS} seeds of {_QUICK_DATA_SETS}, as a smoke test"
    )
    parser.add_argument("--output", type=Path, default=results_folder(), help="folder; default: %(default)s")
    options = parser.parse_args(arguments)
    options.data_sets = options.data_sets or (_QUICK_DATA_SETS if options.quick else list(DATA_SETS))
    options.seeds = options.seeds or (_QUICK_SEEDS if options.quick else _SEEDS)
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2 for a spread, got {options.seeds}")
    return options


def _compare(name: str, libraries: list[str], seeds: int) -> dict[str, Any]:
    """Return seconds and scores of each library, in the order of the seeds, after an untimed warm-up fit."""
    scores: dict[str, list[float]] = {library: [] for library in libraries}

    def fit(library: str, process: ProcessPoolExecutor) -> float:
        seconds, score = process.submit(fit_and_score, library, name, len(scores[library])).result()
        scores[library].append(score)
        return seconds

    with contextlib.ExitStack() as stack:
        fits = {}
        for library in libraries:
            context = multiprocessing.get_context("spawn")
            process = stack.enter_context(ProcessPoolExecutor(1, mp_context=context))
            process.submit(fit_and_score, library, name, 0).result()
            fits[library] = partial(fit, library, process)
        seconds = rounds_in_turn(fits, seeds)
    return {"name": name, "scores": scores, "seconds": seconds}


def is_as_good(ours: list[float], theirs: list[float]) -> bool:
    """True if our scores are as good within the spread over seeds: the mean difference between two scores of one seed
    is above minus its standard deviation."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return statistics.mean(differences) >= -statistics.stdev(differences)


def _verdict(entry: dict[str, Any]) -> str:
    scores, seconds = entry["scores"], entry["seconds"]
    peers = [library for library in scores if library != _OURS]
    worse = [library for library in peers if not is_as_good(scores[_OURS], scores[library])]
    fastest = min(peers, key=lambda library: spread(seconds[library]).median)
    ratio = spread(ratios(seconds[fastest], seconds[_OURS])).median
    quality = f"worse than {', '.join(worse)}" if worse else "as good as each within the spread over seeds"
    return f"{entry['name']}: gradflow is {quality}; the fastest other, {fastest}, takes {ratio:.2f} times as long"


def markdown(result: dict[str, Any]) -> str:
    """Return the results as Markdown tables."""
    parts = [
        "# Scores on held-out rows, and the time of a fit",
        machine_line(result),
        f"Same rows, same recipe, {result['seeds']} seeds; a seed determines the held-out rows, the initial weights "
        "and the shuffles. Scores: accuracy, and R² for diabetes; mean ± standard "
        "deviation. Differences are taken seed by seed. Times: medians, with quartiles in brackets.",
        "\n".join(f"- {_verdict(entry)}" for entry in result["data_sets"]),
    ]
    header = ["library", "score", "gradflow's minus this one", "higher / equal / lower", "ms per fit", "/ gradflow's"]
    for entry in result["data_sets"]:
        data_set = DATA_SETS[entry["name"]]
        parts.append(f"## {entry['name']}: {data_set.epochs} epochs, batches of {data_set.batch_size} rows")
        parts.append(table(header, [_row(entry, library) for library in entry["scores"]]))
    return "\n\n".join(parts) + "\n"


def _row(entry: dict[str, Any], library: str) -> list[str]:
    ours, scores, seconds = entry["scores"][_OURS], entry["scores"][library], entry["seconds"][library]
    times = spread(seconds)
    row = [library, _mean_and_std(scores)]
    if library == _OURS:
        row += ["", ""]
    else:
        differences = [a - b for a, b in zip(ours, scores, strict=True)]
        higher, lower = (sum(sign * difference > 0 for difference in differences) for sign in (1, -1))
        equal = len(differences) - higher - lower
        row += [_mean_and_std(differences), f"{higher} / {equal} / {lower}"]
    ratio = spread(ratios(seconds, entry["seconds"][_OURS])).median
    return [*row, f"{1e3 * times.median:,.1f} [{1e3 * times.low:,.1f}, {1e3 * times.high:,.1f}]", f"{ratio:.2f}"]


def _mean_and_std(values: list[float]) -> str:
    return f"{statistics.mean(values):z.4f} ± {statistics.stdev(values):.4f}"


def _draw(result: dict[str, Any], path: Path) -> None:
    """Plot, for each data set, the scores of all seeds and the median times."""
    from matplotlib.figure import Figure

    entries = result["data_sets"]
    figure = Figure(figsize=(3.2 * len(entries), 5), layout="constrained")
    axes = figure.subplots(2, len(entries), sharex="col", squeeze=False)
    libraries = list(entries[0]["scores"])
    colors = ["tab:green" if library == _OURS else "tab:blue" for library in libraries]
    for (score_ax, time_ax), entry in zip(axes.T, entries, strict=True):
        for library, color in zip(libraries, colors, strict=True):
            score_ax.plot([library] * result["seeds"], entry["scores"][library], "o", color=color, alpha=0.3)
            score_ax.plot([library], [statistics.mean(entry["scores"][library])], "_", color="black", markersize=20)
        medians = [1e3 * spread(entry["seconds"][library]).median for library in libraries]
        time_ax.bar(libraries, medians, color=colors)
        score_ax.set_title(entry["name"])
        time_ax.tick_params("x", rotation=60)
    axes[0][0].set_ylabel("score on held-out rows")
    axes[1][0].set_ylabel("ms per fit")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
