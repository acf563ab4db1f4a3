"""Tables and a chart of a machine's peers.json, and the README's table: python -m benchmarks.report [FOLDER]."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import contention, estimators, long_run, tables
from benchmarks.contestants import CONTESTANTS, GEMMS, PEERS
from benchmarks.machine import RESULTS, results_folder
from benchmarks.markdown import in_brackets, machine_line, microseconds, table
from benchmarks.networks import NETWORKS
from benchmarks.rounds import Spread, ratios, spread

README = Path(__file__).parent.parent / "README.md"
_OTHERS = {"estimators": estimators, "contention": contention, "long_run": long_run}
"""Benchmarks, by the name of their results, that have a sentence in the README."""
_BEGIN, _END = "<!-- begin: python -m benchmarks.report -->", "<!-- end -->"


def write_report(result: dict[str, Any], folder: Path) -> None:
    """Write peers.md and peers.png."""
    (folder / "peers.md").write_text(markdown(result))
    _draw(result, folder / "peers.png")


def markdown(result: dict[str, Any]) -> str:
    """Return all results as Markdown tables."""
    parts = [
        "# gradflow and its peers",
        machine_line(result),
        "## Microseconds per training step",
        f"Medians of {result['rounds']} rounds, with quartiles in brackets.",
        table(*_step_rows(result)),
        "## Ratios within each round",
        "Each time divided by gradflow's: above 1, gradflow is faster. In the columns of the GEMMs, "
        "gradflow's time divided by theirs: 1 would be the limit.",
        table(*_ratio_rows(result)),
        "## Losses",
        "The largest difference from gradflow's losses over ten steps, as a fraction of the first loss, in float32.",
        table(*_loss_rows(result)),
        "## Memory",
        "Training must hold parameters, gradients, optimizer state and activations. The sizes of gradflow's arrays "
        "are exact (tracemalloc); the growth of a process includes what libraries allocate for themselves.",
        table(*_memory_rows(result)),
        *_other_lines(result),
    ]
    if result["left_out"]:
        parts.append("Omitted: " + "; ".join(f"{name}: {why}" for name, why in result["left_out"].items()) + ".")
    return "\n\n".join(parts) + "\n"


def readme_table(result: dict[str, Any]) -> str:
    """Return the README's short table: Adam, medians, and how much faster gradflow is than the best peer."""
    peers = [name for name in PEERS if name in _measured(result)]
    header = ["network (batch)", "GEMMs alone", "gradflow", *peers, "best peer / gradflow"]
    rows = []
    for entry in result["steps"]:
        if entry["optimizer"] != "adam":
            continue
        seconds = entry["seconds_per_step"]
        rows.append(
            [
                str(NETWORKS[entry["network"]]),
                *(microseconds(spread(seconds[name]).median) for name in (GEMMS[0], "gradflow", *peers)),
                f"{_against_best_peer(seconds, peers).median:.2f}",
            ]
        )
    return f"Microseconds per training step with Adam. {machine_line(result)}\n\n{table(header, rows)}"


def readme_text(folder: Path) -> str:
    """Return the README's figures, from the results of one machine that there are."""
    parts = [readme_table(json.loads((folder / "peers.json").read_text())), "", _all_figures(folder / "peers.md"), ""]
    for name, benchmark in _OTHERS.items():
        if (path := folder / f"{name}.json").exists():
            summary = benchmark.summary(json.loads(path.read_text()))
            parts.append(f"- {summary} {_all_figures(path.with_suffix('.md'))}")
    if lines := tables.read_lines(folder / "tables.jsonl"):
        parts += ["", tables.readme_table(lines), "", _all_figures(folder / "tables.md")]
    return "\n".join(parts).rstrip()


def _all_figures(page: Path) -> str:
    return f"[All figures]({page.relative_to(README.parent).as_posix()})"


def with_table(readme: str, text: str) -> str:
    """Return the README with a text between its two markers.

    Raises:
        ValueError: if a marker is missing.
    """
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the README must contain the lines {_BEGIN} and {_END}, in this order")
    return f"{before}{begin}\n{text}\n{end}{after}"


def _against_best_peer(seconds: dict[str, list[float]], peers: list[str]) -> Spread:
    """Return how many times longer the peer with the smallest median takes than gradflow."""
    best = min(peers, key=lambda name: spread(seconds[name]).median)
    return spread(ratios(seconds[best], seconds["gradflow"]))


def _measured(result: dict[str, Any]) -> list[str]:
    return [name for name in CONTESTANTS if name in result["steps"][0]["seconds_per_step"]]


def _label(entry: dict[str, Any]) -> str:
    return f"{NETWORKS[entry['network']]}, {entry['optimizer']}"


def _step_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = _measured(result)
    rows = [
        [_label(entry), *(in_brackets(spread(entry["seconds_per_step"][name]), microseconds) for name in names)]
        for entry in result["steps"]
    ]
    return ["network (batch), optimizer", *names], rows


def _ratio_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = [name for name in _measured(result) if name != "gradflow"]
    rows = []
    for entry in result["steps"]:
        seconds = entry["seconds_per_step"]
        pairs = [("gradflow", name) if name in GEMMS else (name, "gradflow") for name in names]
        compared = [spread(ratios(seconds[above], seconds[below])) for above, below in pairs]
        rows.append([_label(entry), *(in_brackets(values, "{:.2f}".format) for values in compared)])
    header = [f"gradflow / {name}" if name in GEMMS else f"{name} / gradflow" for name in names]
    return ["network (batch), optimizer", *header], rows


def _loss_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = [name for name in result["steps"][0]["loss_differences"] if name != "gradflow"]
    rows = [[_label(entry), *(f"{entry['loss_differences'][name]:.0e}" for name in names)] for entry in result["steps"]]
    return ["network (batch), optimizer", *names], rows


def _memory_rows(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for entry in result["memory"]:
        least = entry["least_bytes"]
        growths = [entry["process_bytes"].get(name) for name in ("gradflow", "PyTorch")]
        rows.append(
            [
                _label(entry),
                _megabytes(least),
                f"{_megabytes(entry['allocated_bytes'])} ({entry['allocated_bytes'] / least:.2f}x)",
                *("-" if growth is None else f"{_megabytes(growth)} ({growth / least:.2f}x)" for growth in growths),
            ]
        )
    return ["MB", "must be held", "arrays of gradflow", "process with gradflow", "process with PyTorch"], rows


def _megabytes(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.2f}"


def _other_lines(result: dict[str, Any]) -> list[str]:
    prediction = {name: spread(seconds) for name, seconds in result["prediction"].items()}
    first = spread(result["first_step_seconds"])
    lines = [
        "## Prediction and start-up",
        "One row through network S, from a NumPy array to a NumPy array, in microseconds: "
        + ", ".join(f"{name} {in_brackets(values, microseconds)}" for name, values in prediction.items())
        + ".",
        f"From `import gradflow` to the end of the first step of S, with NumPy already imported: "
        f"{in_brackets(first, '{:.3f}'.format)} s.",
    ]
    if memory := result["prediction_memory"]:
        lines.append(
            f"`predict` on {memory['rows']:,} rows of S ({_megabytes(memory['input_bytes'])} MB): the process grows by "
            f"{_megabytes(memory['beyond_bytes'])} MB beyond the outputs ({_megabytes(memory['output_bytes'])} MB)."
        )
    return lines


def _draw(result: dict[str, Any], path: Path) -> None:
    """Draw medians and quartiles as points: bars would need a zero, which a logarithmic axis lacks."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    names = _measured(result)
    columns = sorted({entry["optimizer"] for entry in result["steps"]})
    rows = [name for name in NETWORKS if any(entry["network"] == name for entry in result["steps"])]
    figure = Figure(figsize=(6 * len(columns), 2.6 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for entry in result["steps"]:
        ax = axes[rows.index(entry["network"])][columns.index(entry["optimizer"])]
        spreads = [spread(entry["seconds_per_step"][name]) for name in names]
        medians = [1e6 * values.median for values in spreads]
        below = [1e6 * (values.median - values.low) for values in spreads]
        above = [1e6 * (values.high - values.median) for values in spreads]
        colors = ["#009E73" if name == "gradflow" else "0.6" if name in GEMMS else "#0072B2" for name in names]
        ax.errorbar(medians, names, xerr=(below, above), fmt="none", ecolor="0.6")
        ax.scatter(medians, names, color=colors, s=60, zorder=3)
        ax.set_xscale("log")
        ax.set_xlim(min(medians) / 2, max(medians) * 2)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
        ax.set_title(_label(entry), fontsize="medium")
        ax.set_xlabel("µs per step, logarithmic")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Write the pages of a machine again from their JSON, and its figures into the README."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        default=results_folder().name,
        help="name of the machine's folder in benchmarks/results; default: %(default)s, for this machine",
    )
    folder = RESULTS / parser.parse_args(arguments).folder
    if not (folder / "peers.json").exists():
        parser.error(f"{folder} has no peers.json; python -m benchmarks.peers writes it for this machine")
    write_report(json.loads((folder / "peers.json").read_text()), folder)
    for name, benchmark in _OTHERS.items():
        if (path := folder / f"{name}.json").exists():
            path.with_suffix(".md").write_text(benchmark.markdown(json.loads(path.read_text())))
    README.write_text(with_table(README.read_text(), readme_text(folder)))


if __name__ == "__main__":
    main()
