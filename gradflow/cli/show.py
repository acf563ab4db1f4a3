"""``gradflow show``: what a model file or a run folder holds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from gradflow.cli.fitting import Output
from gradflow.cli.run_config import near
from gradflow.cli.saved_run import SavedRun, saved_run
from gradflow.data.columns import (
    CategoryColumn,
    ClippedColumn,
    Column,
    EmbeddingColumn,
    NumberColumn,
    QuantileColumn,
    category_label,
)
from gradflow.data.dates import DateColumn
from gradflow.data.preprocessing import Preprocessing
from gradflow.ensemble import Ensemble
from gradflow.layers import Layer
from gradflow.layers.stack import parameters_of
from gradflow.network import Sequential

HELP = """Show a model, or the run in a folder: its layers, what becomes of each column, the classes, and its results.

Examples:

[cyan]gradflow show runs/customers[/]

[cyan]gradflow show runs/customers/model.safetensors[/]
"""
_MOST_CATEGORIES = 8


def show(
    model: Annotated[Path, typer.Argument(help="Run folder, or the file of a model.", metavar="RUN")],
) -> None:
    """Show a model; `HELP` describes it."""
    run = saved_run(model, "numpy")
    console = Output()
    for members in _alike(run.networks):
        network = run.networks[members[0]]
        if len(run.networks) > 1:
            console.print(f"member{'s' if len(members) > 1 else ''} {', '.join(map(str, members))}:")
        console.print(_layers(network))
        if network.preprocessing is not None:
            console.print(_columns(network.preprocessing))
    facts = Table(show_header=False)
    for name, value in _facts(run):
        facts.add_row(name, escape(value))
    console.print(facts)


def _alike(networks: Sequence[Sequential]) -> list[list[int]]:
    """Return the places of networks in groups with the same layers and preprocessing."""
    groups: dict[str, list[int]] = {}
    for place, network in enumerate(networks):
        key = f"{list(map(repr, network.layers))} {network.preprocessing and network.preprocessing.config()}"
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _layers(network: Sequential) -> Table:
    table = Table()
    table.add_column("layer")
    for heading in ("", "outputs", "parameters"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    width = network.n_in
    for place, layer in enumerate(network.layers):
        width = layer.output_width(width)
        table.add_row(str(place), escape(_described(layer)), f"{width:,}", f"{_parameters(layer):,}")
    return table


def _described(layer: Layer) -> str:
    """Return the layer without what the other columns say."""
    text = re.sub(r"\(n_in=\d+(, n_out=\d+)?(, bias=True)?\)", "", repr(layer)).removesuffix("()")
    return text if len(text) < 60 else f"{type(layer).__name__}(...)"


def _parameters(layer: Layer) -> int:
    return sum(math.prod(spec.shape) for spec in parameters_of([layer]).values())


def _columns(preprocessing: Preprocessing) -> Table:
    table = Table()
    for heading in ("column", "becomes", "missing values"):
        table.add_column(heading, overflow="fold")
    for name, column in zip(preprocessing.names, preprocessing.columns, strict=True):
        table.add_row(escape(name), escape(_becomes(column)), getattr(column, "missing", ""))
    return table


def _becomes(column: Column) -> str:
    if isinstance(column, NumberColumn):
        if column.scale == 0:
            return "nothing: it was constant"
        if isinstance(column, QuantileColumn):
            return f"normally distributed, by {len(column.quantiles)} quantiles around {column.center:.6g}"
        text = f"(x - {column.center:.6g}) / {column.scale:.6g}"
        return f"{text}, clipped smoothly to ±{column.limit:g}" if isinstance(column, ClippedColumn) else text
    if isinstance(column, DateColumn):
        return f"timestamps: {', '.join(column.output_names('')).replace('  ', ' ').strip()}"
    assert isinstance(column, CategoryColumn | EmbeddingColumn)
    names = [category_label(category) for category in column.categories[:_MOST_CATEGORIES]]
    names += ["..."] if len(column.categories) > _MOST_CATEGORIES else []
    kind = f"a vector of {column.size}" if isinstance(column, EmbeddingColumn) else "an input"
    return f"{kind} for each of {len(column.categories):,}: {', '.join(names)}"


def _facts(run: SavedRun) -> Iterator[tuple[str, str]]:
    """Yield names and values of what is known besides layers and columns."""
    network = run.networks[0]
    if isinstance(run.network, Ensemble):
        yield "weights of members", ", ".join(f"{weight:.3f}" for weight in run.network.weights)
    yield "parameters", f"{sum(member.n_parameters for member in run.networks):,}, {network.dtype}"
    yield "epochs", ", ".join(str(member.epochs_begun) for member in run.networks)
    if network.classes is not None:
        yield "classes", ", ".join(map(str, network.classes[:50])) + (" ..." if len(network.classes) > 50 else "")
    if network.output_scale is not None:
        scale = network.output_scale
        pairs = zip(scale.mean, scale.std, strict=True)
        yield "targets", "; ".join(f"{std:.6g} y + {mean:.6g}" for mean, std in pairs)
        if scale.low is not None and scale.high is not None:
            limits = zip(scale.low, scale.high, strict=True)
            yield "predictions", "; ".join(f"from {low:.6g} to {high:.6g}" for low, high in limits)
    if run.settings:
        yield "target", ", ".join(run.target_names)
        yield "trained on", str(near(Path(run.settings["data"])))
    if not run.results:
        return
    config = run.results[0]
    yield "loss", str(config["loss"]["name"])
    yield "optimizer", f"{config['optimizer']['name']}, batches of {config['batch_size']}"
    for name in ("factors", "decay_factors"):
        if factors := config["optimizer"].get(name):
            yield name.replace("_", " "), ", ".join(f"{of} {factor:g}" for of, factor in factors.items())
    for name in config["result"]:
        if name != "epochs":
            of_run = name in ("seconds", "stopped_by", "best_epoch")
            label = name.replace("_", " ") if of_run else f"last {name}"
            yield label, ", ".join(_value(each["result"].get(name)) for each in run.results)
    yield "versions", ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    yield "device", f"{config['backend']}, {config['device']}"


def _value(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
