"""``gradflow report``: writes what a training run did as one HTML file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

import gradflow.reports
from gradflow.cli.command_line import read_command_line
from gradflow.cli.file_options import DataOptions
from gradflow.cli.own_data import files_of, look_at, sha256_of
from gradflow.cli.saved_run import SavedRun, saved_run
from gradflow.data import Source, load_digits
from gradflow.data.any_file import existing, open_file
from gradflow.errors import DataError
from gradflow.training.runs.comparison import read_config


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    data: Annotated[
        Path | None,
        typer.Option(help="Training data: any file of gradflow train.", metavar="FILE", show_default="as in training"),
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(
            help="Rows that were not trained on, to judge predictions by.",
            metavar="FILE",
            show_default="as in training",
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Column with the target; may be repeated.", metavar="COLUMN", show_default="as in training"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="File to write.", metavar="FILE", show_default="report.html in the folder")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace an existing file.")] = False,
) -> None:
    """Write a report on a run: curves, layers, the loss surface, predictions, and what to try.

    It is one HTML file with all its pictures, which any browser shows. Runs of gradflow train know their data.
    """
    run = saved_run(folder, "numpy")
    if not run.results:
        read_config(folder)  # says what is missing
    if data is None and held_out is None:
        rows: tuple[Any, Any] = _data_of_training(run)
    else:
        rows = _opened(run, data, target), _opened(run, held_out, target)
    path = gradflow.reports.report(folder, *rows, output=output, overwrite=overwrite)
    Console().print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)


def _opened(run: SavedRun, path: Path | None, target: list[str] | None) -> Source | None:
    if path is None:
        return None
    targets = run.targets(path, target)
    if run.network.feature_names is None:  # it was trained on an array, whose columns are taken in their order
        return open_file(existing(path), target=targets)
    return run.opened(existing(path), {}, target=targets)


def _data_of_training(run: SavedRun) -> tuple[Any, Any]:
    """Return the training and the held-out rows of a run of ``gradflow train``; None for both if they are unknown.

    Raises:
        DataError: if a file has changed since.
    """
    if run.settings:
        return _own_data(run)
    try:
        words = read_command_line(run.home)
    except DataError:
        return None, None  # a run of a program of the user's own
    if words[:1] != ["digits"]:
        return None, None
    digits, is_classifier = load_digits(), run.results[0]["loss"]["name"] == "softmax_cross_entropy"
    y, y_test = (labels if is_classifier else np.eye(10)[labels] for labels in (digits.y_train, digits.y_test))
    return (digits.x_train, y), (digits.x_test, y_test)


def _own_data(run: SavedRun) -> tuple[Source, Source]:
    names = [field.name for field in fields(DataOptions)]
    given = {name: run.settings[name.replace("_", "-")] for name in names if name.replace("_", "-") in run.settings}
    if "validation" in given:
        given["validation"] = Path(given["validation"])
    path, options = Path(run.settings["data"]), DataOptions(**given)
    for file, before in ((path, options.data_sha256), (options.validation, options.validation_sha256)):
        if file is not None and before not in (None, sha256_of(files_of(existing(file), options.target))):
            raise DataError(
                f"{file} has changed since the run, which cannot be told apart from other data. Restore it, or name "
                "the rows: --data FILE --held-out FILE"
            )
    return look_at(path, options).divided(run.settings["seed"])
