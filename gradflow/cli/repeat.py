"""``gradflow repeat``: runs a training run again, and compares."""

from __future__ import annotations

import csv
import io
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.cli import train
from gradflow.cli.command_line import read_command_line
from gradflow.errors import DataError, FileFormatError
from gradflow.files import read_json
from gradflow.storage import load
from gradflow.training.checkpoints import differences

__all__ = ["repeat"]

DIFFERENT = 1
_SURROUNDINGS = ("versions", "platform", "backend", "device", "blas", "data", "validation_data")


def repeat(
    folder: Annotated[Path, typer.Argument(help="The run folder of a finished gradflow train.", metavar="FOLDER")],
) -> None:
    """Run a training run again from its settings, and compare weights and history bit for bit.

    What it runs on is compared too: another version, device, BLAS or number of threads may round otherwise. The exit
    code is 0 if the results are the same, and 1 if not.
    """
    words, config = read_command_line(folder), _config(folder)
    if config["result"]["stopped_by"] == "interrupted":
        raise DataError(f"the run in {folder} was interrupted; finish it first: gradflow train --resume {folder}")
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary)
        with redirect_stdout(io.StringIO()):
            train.application([*words, "--output", temporary, "--quiet"], standalone_mode=False, obj=["train", *words])
        found = _differences(folder, again)
        changed = differences(_surroundings(config), _surroundings(_config(again)))
    console = Console()
    if changed:
        console.print(_table("what it ran on", changed))
    if found:
        console.print(_table("results", found))
        raise typer.Exit(DIFFERENT)
    console.print(f"the same again, bit for bit: weights and history of {folder}", markup=False, soft_wrap=True)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        return read_json(path, "result")
    except OSError as error:
        raise DataError(f"the run in {folder} has not ended: {path}: {error.strerror}") from error


def _surroundings(config: dict[str, Any]) -> dict[str, Any]:
    return {name: config.get(name) for name in _SURROUNDINGS}


def _differences(first: Path, second: Path) -> list[tuple[str, Any, Any]]:
    """Which weights and values of the history are not the same bits: the largest distance, or where they part."""
    found: list[tuple[str, Any, Any]] = []
    weights, others = (load(folder / "model.safetensors", backend="numpy").get_weights() for folder in (first, second))
    if _shapes(weights) != _shapes(others):
        raise DataError(f"{first / 'model.safetensors'} is of another network than the one that this run trains")
    for name, weight in weights.items():
        if weight.tobytes() != others[name].tobytes():
            found.append((f"weight {name}", "", f"apart by {np.abs(weight - others[name]).max():.3g} at most"))
    rows, other_rows = (_history(folder) for folder in (first, second))
    if len(rows) != len(other_rows):
        found.append(("epochs", len(rows), len(other_rows)))
    for epoch, pair in enumerate(zip(rows, other_rows, strict=False), start=1):
        if parted := differences(*pair):
            return [*found, *((f"epoch {epoch}, {name}", *values) for name, *values in parted)]
    return found


def _shapes(weights: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, weight in weights.items()}


def _history(folder: Path) -> list[dict[str, str]]:
    path = folder / "history.csv"
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (csv.Error, ValueError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error


def _table(title: str, rows: list[tuple[str, Any, Any]]) -> Table:
    table = Table(title=f"{title}: not the same")
    for heading in ("", "then", "now"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    return table
