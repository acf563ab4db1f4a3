"""``gradflow evaluate``: the loss and the metrics of a run on the rows of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gradflow.cli.fitting import Output
from gradflow.cli.members import evaluated
from gradflow.cli.saved_run import BackendName, Delimiter, Encoding, Missing, saved_run
from gradflow.data.any_file import existing
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError
from gradflow.training.repetition import trainer_of

HELP = """Measure the loss and all metrics of a run on the rows of a file, which has the target.

Rows are weighted if they were in training; classes are not.

Examples:

[cyan]gradflow evaluate runs/customers test.csv[/]

[cyan]gradflow evaluate runs/customers test.csv --json[/]

[cyan]gradflow evaluate runs/x x_test.npy --target y_test.npy[/]
"""


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    data: Annotated[Path, typer.Argument(help="CSV, Parquet, Arrow or NumPy file with the rows.", metavar="FILE")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Column with the target; may be repeated.", metavar="COLUMN", show_default="as in training"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, for other programs.")] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    missing: Missing = None,
    backend: BackendName = "auto",
) -> None:
    """Evaluate; `HELP` describes it."""
    run = saved_run(folder, backend)
    if not run.results:
        raise DataError(f"{folder} is no folder of a finished run, which names the loss and the metrics")
    targets = run.targets(data, target)
    read = {"delimiter": delimiter, "encoding": encoding, "na_values": missing}
    source = run.opened(existing(data), read, target=targets)
    if isinstance(run.network, Ensemble):
        values = evaluated(run.network, run.results[0], source)
    else:
        values = trainer_of(run.results[0], run.network).evaluate(source)
    if as_json:
        print(json.dumps({"rows": len(source), **values}, indent=2))
        return
    table = Table(show_header=False)
    table.add_row("rows", f"{len(source):,}")
    for name, value in values.items():
        table.add_row(name, f"{value:.4f}")
    Output().print(table)
