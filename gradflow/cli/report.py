"""``gradflow report``: writes what a training run did as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

import gradflow.reports
from gradflow.cli.command_line import read_command_line
from gradflow.data import CSV, Arrow, Parquet, Source, load_digits
from gradflow.errors import DataError
from gradflow.training.runs.comparison import read_config

_SOURCES: dict[str, type[Any]] = {
    ".csv": CSV,
    ".parquet": Parquet,
    ".arrow": Arrow,
    ".feather": Arrow,
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="FOLDER")],
    data: Annotated[
        Path | None,
        typer.Option(help="Training data: CSV, Parquet or Arrow.", show_default="known for gradflow train digits"),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="Data that was not trained on, to judge predictions by.", show_default="the training data"),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Column to predict in these files; repeat it for several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="report.html in the folder")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an existing file.")] = False,
) -> None:
    """Write a report on a run: curves, layers, the loss surface, predictions, and what to try.

    It is one HTML file with all its pictures, which any browser shows.
    """
    if (data or held_out) and not target:
        raise DataError("--data and --held-out need --target COLUMN, the column that the network predicts")
    try:
        training: Any = _source(data, target)
        judged: Any = _source(held_out, target)
        if training is None and judged is None:
            training, judged = _known_data(folder)
        path = gradflow.reports.report(folder, training, judged, output=output, overwrite=overwrite)
    except OSError as error:
        raise DataError(f"{error.filename or output or folder}: {error.strerror}") from error
    Console().print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


def _source(path: Path | None, target: list[str] | None) -> Source | None:
    if path is None:
        return None
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in _COMPRESSED else (suffixes or [""])[-1]
    if last not in _SOURCES:
        raise DataError(f"{path} must be a file that ends in {', '.join(_SOURCES)}")
    source: Source = _SOURCES[last](path, target=target)
    return source


def _known_data(folder: Path) -> tuple[Any, Any]:
    """Return the training and the held-out data of a run of ``gradflow train``; None where they are unknown."""
    loss = read_config(folder).get("loss", {}).get("name")
    try:
        words = read_command_line(folder)
    except DataError:
        return None, None  # a run of a program of the user's own
    if words[:1] != ["digits"]:
        return None, None
    digits = load_digits()
    as_targets = (lambda labels: labels) if loss == "softmax_cross_entropy" else (lambda labels: np.eye(10)[labels])
    return (digits.x_train, as_targets(digits.y_train)), (digits.x_test, as_targets(digits.y_test))
