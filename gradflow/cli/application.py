"""The command ``gradflow``: its subcommands, and the exit code of each error."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from typing import Annotated, TextIO

import typer

from gradflow.cli import bench, doctor, evaluate, export, info, predict, repeat, report, show, train
from gradflow.cli.command_line import without
from gradflow.cli.option_names import in_options
from gradflow.distributed import World, world
from gradflow.errors import DataError, DivergedError, GradflowError, RankError
from gradflow.version import __version__

WRONG_INPUT = 2
DIVERGED = 3

_HELP = """Train multi-layer perceptrons, on the CPU with NumPy or on a GPU with CuPy.

[bold]New here?[/] Train a network on images of handwritten digits:

[cyan]gradflow train digits[/]

on your own data, and then predict:

[cyan]gradflow train customers.csv --target churn[/]

[cyan]gradflow predict runs/customers new.csv --output predictions.csv[/]

and see which devices this computer can train on:

[cyan]gradflow info[/]
"""

application = typer.Typer(
    help=_HELP,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
application.add_typer(train.application, name="train")
application.command("predict", help=predict.HELP)(predict.predict)
application.command("evaluate", help=evaluate.HELP)(evaluate.evaluate)
application.command("show", help=show.HELP)(show.show)
application.command("info")(info.info)
application.command("export")(export.export)
application.command("repeat")(repeat.repeat)
application.command("report")(report.report)
application.command("bench")(bench.bench)
application.command("doctor")(doctor.doctor)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"gradflow {__version__}")
        raise typer.Exit


def _import(modules: list[str]) -> None:
    """Import modules of the user's own, from the current folder or installed."""
    if modules:
        sys.path.insert(0, "")
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise DataError(f"--import {name}: {type(error).__name__}: {error}") from error


@application.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a Python module first, which defines layers of your own; may be repeated.",
            callback=lambda modules: _import(modules or []),
        ),
    ] = None,
) -> None:
    pass


def run(arguments: Sequence[str]) -> int:
    """Run the command; each gradflow error or warning is printed as one line on standard error."""
    try:
        ranks = world()
    except (GradflowError, ImportError) as error:
        return _ended((WRONG_INPUT, str(error)))
    return _ended(_outcome(arguments)) if ranks.size == 1 else _run_together(ranks, arguments)


def _run_together(ranks: World, arguments: Sequence[str]) -> int:
    """Run the command on several ranks: the first prints for all, another only an error of its own."""
    if list(arguments[:1]) != ["train"]:
        return 0 if ranks.rank else _ended(_outcome(arguments))
    with ExitStack() as stack:
        if ranks.rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        outcome = _outcome(arguments)
    code, error = outcome
    with suppress(RankError), ranks.together():
        is_told = ranks.gathered(outcome)[0] == outcome
        if ranks.rank and error is not None and not is_told:
            print(f"rank {ranks.rank}: error: {in_options(error)}", file=sys.stderr)
    return code if ranks.rank else _ended(outcome)


def _outcome(arguments: Sequence[str]) -> tuple[int, str | None]:
    """Run the command; return its exit code, and the error that remains to be printed."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            application(list(arguments), prog_name="gradflow", obj=without(arguments, "--import"))
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 0, None
    except DivergedError as error:
        return DIVERGED, str(error)
    except GradflowError as error:
        return WRONG_INPUT, str(error)
    except OSError as error:
        return WRONG_INPUT, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except MemoryError as error:
        return WRONG_INPUT, f"not enough memory: {error}"
    return 0, None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"warning: {in_options(str(message))}", file=sys.stderr)


def _ended(outcome: tuple[int, str | None]) -> int:
    """Print the error, if there is one; return the exit code."""
    code, error = outcome
    if error is not None:
        print(f"error: {in_options(error)}", file=sys.stderr)
    return code
