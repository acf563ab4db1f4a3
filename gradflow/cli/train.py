"""``gradflow train``: trains a network, shows the progress, and writes a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from gradflow.cli.command_line import read_command_line, without
from gradflow.cli.run_config import expanded
from gradflow.cli.train_digits import DIGITS_HELP, digits
from gradflow.cli.train_file import FILE_HELP, train_file
from gradflow.errors import DataError

_FILE = "FILE"


class _OfFile(TyperCommand):
    """The command FILE, whose name in the help stands for its argument."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]"]


class _DigitsOrFile(TyperGroup):
    """Commands by name; any other first argument is a file to train on."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        if any(word == "--config" or word.startswith("--config=") for word in words):
            words = expanded(words)
        if self._means_a_file(words):
            words = [_FILE, *(words[1:] if words[0] == _FILE else words)]
        return super().parse_args(ctx, words)

    def _means_a_file(self, words: list[str]) -> bool:
        if not words or (set(words) & {"-h", "--help", "--resume"} and words[0].startswith("-")):
            return False
        if words[0].startswith("-"):
            return not set(words) & self.commands.keys()
        return words[0] not in self.commands or words[0] == _FILE


application = typer.Typer(cls=_DigitsOrFile, help="Train a network.", no_args_is_help=True, rich_markup_mode="rich")
application.command(_FILE, cls=_OfFile, help=FILE_HELP)(train_file)
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
