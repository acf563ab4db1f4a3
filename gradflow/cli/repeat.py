"""``gradflow repeat``: repeats a training run and compares the results."""

from __future__ import annotations

import io
import shlex
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.cli import train
from gradflow.cli.command_line import read_command_line
from gradflow.cli.member_folders import member_folders
from gradflow.errors import DataError
from gradflow.training.runs.comparison import compare_runs, read_config

DIFFERENT = 1


def repeat(
    folder: Annotated[Path, typer.Argument(help="Run folder of a finished gradflow train.", metavar="FOLDER")],
) -> None:
    """Run a training run again from its settings, and compare weights and history bit for bit.

    What it runs on is compared too: another version, device, BLAS or number of threads may round otherwise. The exit
    code is 0 if the results are the same, and 1 if not. A run of a program of your own is run again with
    gradflow.repeat(folder, x, y), on the same data.
    """
    members = [path.name for path in member_folders(folder)] or [""]
    configs = [read_config(folder / name) for name in members]
    words = read_command_line(folder)
    if any(config["result"]["stopped_by"] == "interrupted" for config in configs):
        raise DataError(
            f"the run in {folder} was interrupted; finish it first: gradflow train --resume {shlex.quote(str(folder))}"
        )
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary)
        with redirect_stdout(io.StringIO()):
            code = train.application(
                [*words, "--output", temporary, "--quiet"], standalone_mode=False, obj=["repeat", *words]
            )
        if code:
            raise typer.Exit(code)
        comparisons = {name: compare_runs(folder / name, again / name) for name in members}
    console = Console()
    for name, comparison in comparisons.items():
        of_member = f"{name}, " if name else ""
        if comparison.surroundings:
            console.print(_table(f"{of_member}environment", comparison.surroundings))
        if comparison.settings:
            console.print(_table(f"{of_member}settings", comparison.settings))
        if not comparison.is_same:
            console.print(_table(f"{of_member}results", comparison.results))
    if not all(comparison.is_same for comparison in comparisons.values()):
        raise typer.Exit(DIFFERENT)
    console.print(f"identical, bit for bit: weights and history of {folder}", markup=False, soft_wrap=True)


def _table(title: str, rows: list[tuple[str, Any, Any]]) -> Table:
    table = Table(title=f"{title}: different")
    for heading in ("", "then", "now"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    return table
