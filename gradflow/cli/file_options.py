"""Options of `gradflow train FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from gradflow.cli.rules import NAMES
from gradflow.cli.training_options import TrainingOptions
from gradflow.recipes import RECIPES

AUTO = "auto"


@dataclass(frozen=True)
class DataOptions:
    """The task of a training on a file; None is decided by the data."""

    target: Annotated[
        list[str] | None,
        typer.Option(help="Column to predict; repeat it for several numbers.", metavar="COLUMN", show_default=False),
    ] = None
    task: Annotated[
        str | None, typer.Option(help="classification or regression.", show_default="by the values of the target")
    ] = None
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What becomes of a column: COLUMN=RULE, with {NAMES}; COLUMN=RULE:fill and COLUMN=RULE:mark accept "
            "missing values.",
            metavar="COLUMN=RULE",
            show_default="by its values",
        ),
    ] = None
    sample_weight: Annotated[
        str | None, typer.Option(help="Column with the weight of each row.", metavar="COLUMN", show_default="none")
    ] = None
    validation: Annotated[
        Path | None, typer.Option(help="File with the held-out rows, instead of a part of FILE.", show_default="none")
    ] = None
    validation_fraction: Annotated[
        float | None, typer.Option(help="Fraction of rows to hold out.", show_default="0.2")
    ] = None
    group: Annotated[
        str | None,
        typer.Option(help="Column whose equal values stay on one side of the split.", metavar="COLUMN"),
    ] = None
    time: Annotated[str | None, typer.Option(help="Column by which the last rows are held out.", metavar="COLUMN")] = (
        None
    )
    standardize_targets: Annotated[
        bool | None,
        typer.Option(
            "--standardize-targets/--no-standardize-targets",
            help="Scale numbers to predict to mean 0 and standard deviation 1 for training.",
            show_default="yes for regression",
        ),
    ] = None
    read: Annotated[
        str | None,
        typer.Option(help="'load' the file into memory, or 'stream' it batch by batch.", show_default="by its size"),
    ] = None
    delimiter: Annotated[
        str | None, typer.Option(help="Character between the fields of a CSV file.", show_default="found in its header")
    ] = None
    decimal: Annotated[
        str | None, typer.Option(help="Decimal point of a CSV file: '.' or ','.", show_default="found in its numbers")
    ] = None
    thousands: Annotated[
        str | None,
        typer.Option(help="Character between thousands in a CSV file.", show_default="found in its numbers"),
    ] = None
    encoding: Annotated[str | None, typer.Option(help="Encoding of a CSV file.", show_default="utf-8")] = None
    missing: Annotated[
        list[str] | None,
        typer.Option(
            help="Text or number that marks a missing value in a CSV file; may be repeated.",
            metavar="TEXT",
            show_default="empty; NA, null, ? and such in numbers",
        ),
    ] = None
    data_sha256: Annotated[str | None, typer.Option(hidden=True)] = None
    validation_sha256: Annotated[str | None, typer.Option(hidden=True)] = None


@dataclass(frozen=True)
class FileTrainingOptions(TrainingOptions):
    """Options of training; what is AUTO, 0 epochs or None is decided by the data, or by the recipe."""

    recipe: Annotated[
        str | None,
        typer.Option(
            help=f"Train by a recipe for tables: {', '.join(RECIPES)}, or auto. It decides on network, optimizer, "
            "schedules and epochs; --layers, --activation, --dropout, --learning-rate, --weight-decay, --batch-size, "
            "--epochs, --early-stopping and --members change it.",
            show_default="none",
        ),
    ] = None
    loss: Annotated[
        str, typer.Option(help="Loss to minimize (see train digits --help).", show_default="by the task")
    ] = AUTO
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Values to measure besides loss and accuracy, separated by commas; 'none' for none.",
            show_default="by the task",
        ),
    ] = None
    epochs: Annotated[
        int, typer.Option(help="Number of passes over the training rows.", show_default="by their number")
    ] = 0
    batch_size: Annotated[
        str,
        typer.Option(help="Rows per step; 'all' uses all of them in each step.", show_default="by the number of rows"),
    ] = AUTO
    dropout: Annotated[float, typer.Option(help="Fraction of hidden units dropped at random in each step.")] = 0.0
    early_stopping: Annotated[
        int | None,
        typer.Option(
            metavar="PATIENCE",
            help="Stop after this many epochs without improvement of the held-out loss, and restore the best epoch; 0 "
            "is off. (The held-out rows then select the epoch, so their results are slightly optimistic.)",
            show_default="a tenth of the epochs, at least 3",
        ),
    ] = None
