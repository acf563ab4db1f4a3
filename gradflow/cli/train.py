"""``gradflow train``: trains a network, shows the progress, and writes a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradflow.cli.command_line import read_command_line, without
from gradflow.cli.train_digits import DIGITS_HELP, digits
from gradflow.errors import DataError

application = typer.Typer(help="Train a network.", no_args_is_help=True, rich_markup_mode="rich")
application.command("digits", help=DIGITS_HELP)(digits)


@application.callback(invoke_without_command=True)
def _group(
    context: typer.Context,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Resume the run in this folder, with its own settings.", metavar="FOLDER", show_default=False
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(help="With --resume: train until this epoch instead of the run's last one."),
    ] = None,
) -> None:
    if context.invoked_subcommand is not None and (resume or epochs or "--resume" in context.obj):
        raise DataError(
            "a run is resumed with its own settings: gradflow train --resume FOLDER takes no option but --epochs, to "
            "train it longer"
        )
    if resume is None:
        return
    words = read_command_line(resume)
    if epochs is not None:
        words = [*without(words, "--epochs"), "--epochs", str(epochs)]
    code = application([*words, "--output", str(resume), "--resume"], standalone_mode=False, obj=["train", *words])
    raise typer.Exit(code or 0)
