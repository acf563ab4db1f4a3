"""``gradflow predict``: predictions of a trained network for the rows of a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gradflow.cli.prediction_files import KeptColumns, check_output, writing
from gradflow.cli.saved_run import BackendName, Delimiter, Encoding, Missing, SavedRun, saved_run
from gradflow.data import CSV
from gradflow.data.any_file import FileSource, column_names
from gradflow.data.numpy_file import NumPyFile
from gradflow.data.sources import Block
from gradflow.errors import DataError, unknown_name

HELP = """Predict for the rows of a file, with the network of a run.

The result has the columns of the file (of an array, none), or those of --id, followed by the prediction: for classes,
the class in "prediction" and "probability of ..." for each; for numbers, "prediction", or "prediction of ..." for each
target. Files of any size are read and written block by block.

Examples:

[cyan]gradflow predict runs/customers new.csv --output predictions.csv[/]

[cyan]gradflow predict runs/customers new.parquet --id customer --output predictions.parquet[/]

[cyan]zcat new.csv.gz | head -100 > few.csv; gradflow predict runs/customers few.csv --output - | less[/]
"""


def predict(
    model: Annotated[Path, typer.Argument(help="Run folder, or the file of a model.", metavar="RUN")],
    data: Annotated[Path, typer.Argument(help="CSV, Parquet, Arrow or NumPy file with the rows.", metavar="FILE")],
    output: Annotated[
        str,
        typer.Option(help="File to write, CSV, or Parquet by its suffix; '-' is standard output.", metavar="FILE"),
    ] = "-",
    ids: Annotated[
        list[str] | None,
        typer.Option("--id", help="Keep only this column; may be repeated.", metavar="COLUMN", show_default="all"),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities/--no-probabilities", help="Write the probability of each class.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an existing file.")] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    missing: Missing = None,
    backend: BackendName = "auto",
) -> None:
    """Predict; `HELP` describes it."""
    check_output(output, overwrite=overwrite)
    run = saved_run(model, backend)
    source = run.opened(data, {"delimiter": delimiter, "encoding": encoding, "na_values": missing})
    assert isinstance(source, FileSource)
    kept = _kept(data, source, ids)
    predicted = _Predictions(run, probabilities=probabilities)
    names = [*kept, *predicted.names]
    if twice := set(kept) & set(predicted.names):
        raise DataError(
            f"{data} already has a column {min(twice)!r}; choose the columns to keep with --id, or rename it"
        )
    columns, rows = KeptColumns(source, kept), 0
    with writing(output, names, overwrite=overwrite) as file:
        for block in source.blocks():
            if len(block):
                file.write([*columns.take(len(block)), *predicted.columns(block)])
                rows += len(block)
    if output != "-":
        print(f"{rows:,} predictions: {output}", file=sys.stderr)


def _kept(path: Path, source: FileSource, ids: Sequence[str] | None) -> list[str]:
    """Return the names of the columns to keep."""
    available = list(source.names) if isinstance(source, CSV) else column_names(path)
    for name in ids or ():
        if name not in available:
            raise DataError(f"{path}: --id: {unknown_name('column', name, available)}")
    return list(dict.fromkeys(ids or ())) if ids or isinstance(source, NumPyFile) else available


class _Predictions:
    """The columns of predictions.

    Attributes:
        names: their names.
    """

    def __init__(self, run: SavedRun, *, probabilities: bool) -> None:
        self._network = network = run.network
        self._is_classifier = network.output_activation in ("softmax", "sigmoid")
        self._has_probabilities = self._is_classifier and probabilities
        self._has_labels = network.output_activation == "sigmoid" and network.n_out > 1
        targets = run.target_names or range(1, network.n_out + 1)
        classes = network.classes or (targets if self._has_labels else range(max(network.n_out, 2)))
        one = network.n_out == 1 or (self._is_classifier and not self._has_labels)
        self.names = ["prediction"] if one else [f"prediction of {name}" for name in targets]
        self.names += [f"probability of {name}" for name in classes] if self._has_probabilities else []

    def columns(self, block: Block) -> list[Any]:
        """Return the columns for the rows of a block."""
        outputs = np.asarray(self._network.predict(block))
        if not self._is_classifier:
            return list(outputs.T)
        classes = self._network.predict_classes(block)
        columns = list(classes.T) if self._has_labels else [classes]
        if not self._has_probabilities:
            return columns
        return [*columns, *(np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs).T]
