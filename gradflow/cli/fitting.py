"""The parts of every `gradflow train`: choose the run folder, fit, end cleanly on signals, and report the results."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.checks import positive
from gradflow.cli.command_line import KeepsCommandLine
from gradflow.cli.member_folders import remove_members
from gradflow.cli.training_options import TrainingOptions
from gradflow.distributed import world
from gradflow.errors import DataError, DivergedError
from gradflow.loading import INTERRUPTED
from gradflow.training import Callback, Checkpoint, EarlyStopping, History, JSONLines, Trainer, WeightPath
from gradflow.training.runs.run_folder import run_files

BROKEN_PIPE = 141
TERMINATED = 143

_REASONS = {
    "callback": "stopped by a callback",
    "converged": "converged",
    "diverged": "diverged",
    "early stopping": "stopped early",
    "interrupted": "interrupted",
}


@dataclass(frozen=True)
class RunOptions:
    """The folder of a run, and its messages."""

    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the model, settings and curves.",
            show_default="runs/NAME, with a number if that is taken",
        ),
    ] = None
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace an existing run in the folder.")
    ] = False
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Save a checkpoint every so many minutes, for gradflow train --resume.")
    ] = 10.0
    resume: Annotated[bool, typer.Option("--resume", hidden=True)] = False
    quiet: Annotated[bool, typer.Option("--quiet", metavar="", help="Show only the summary, no progress.")] = False
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines",
            metavar="",
            help='Write a JSON object per line to standard output, and nothing else: "event" is "begin", "epoch" '
            'with its values, or "end".',
        ),
    ] = False

    def __post_init__(self) -> None:
        positive("--checkpoint-minutes", self.checkpoint_minutes)

    def folder(self, name: str) -> Path:
        """Return the folder of the run: --output, or the first of runs/name, runs/name-2, ... without a run. Of several
        ranks, the first chooses.

        Raises:
            DataError: if there is a run in the folder of --output, which must be neither resumed nor replaced.
        """
        chosen: Path = world().gathered(self._folder(name))[0]
        return chosen

    def _folder(self, name: str) -> Path:
        default = Path("runs") / name
        if self.resume or self.overwrite:
            return self.output or default
        if self.output is None:
            numbered = (default.with_name(f"{name}-{number}") for number in itertools.count(2))
            return next(folder for folder in itertools.chain([default], numbered) if not run_files(folder))
        if found := run_files(self.output):
            raise DataError(
                f"{self.output} already contains {found[0].name}, which a new run would replace. Pass another "
                f"--output, or --overwrite to replace it, or resume that run: {resuming(self.output)}"
            )
        return self.output


@dataclass(frozen=True)
class Command:
    """The command that a run makes.

    Attributes:
        words: the arguments after "gradflow train", which are kept in the run folder.
        is_repetition: True for ``gradflow repeat``.
        files: contents of further files for the run folder, by name.
    """

    words: Sequence[str]
    is_repetition: bool
    files: Mapping[str, bytes]


def fit(
    trainer: Trainer,
    folder: Path,
    command: Command,
    options: TrainingOptions,
    run: RunOptions,
    report: Callable[[History], None],
    *data: Any,
    **arguments: Any,
) -> None:
    """Train, save the run in a folder, and report; end with the exit code of interrupted runs.

    Args:
        trainer: the trainer.
        folder: the run folder.
        command: what is kept in it to resume or repeat the run.
        options, run: the options.
        report: prints the results, unless standard output holds JSON lines.
        data, arguments: further arguments of `Trainer.fit`, which have precedence over the options.
    """
    begun = _Begun()
    left = f"progress is saved; resume with: {resuming(folder)}"
    if command.is_repetition:
        left = "the repetition was interrupted, and nothing was compared"
    patience = options.early_stopping
    settings: dict[str, Any] = {
        "epochs": options.epochs,
        "batch_size": options.rows_per_step,
        "early_stopping": None if patience is None else EarlyStopping(patience=patience),
        "callbacks": [
            KeepsCommandLine(folder, command.words, command.files),
            begun,
            WeightPath(folder),
            *([JSONLines(sys.stdout)] if run.json_lines else []),
        ],
        "progress": not (run.quiet or run.json_lines),
        "output": None if run.resume else folder,
        "checkpoint": Checkpoint(every_minutes=run.checkpoint_minutes),
        "resume": folder if run.resume else None,
        "overwrite": run.overwrite,
    }
    try:
        with ending_with_143(left), failures(folder):
            history = trainer.fit(*data, **settings | arguments)
    except KeyboardInterrupt:
        if trainer.history is None or trainer.history.stopped_by != "interrupted":
            raise
        history = trainer.history
    if run.overwrite:
        remove_members(folder)
    if not run.json_lines:
        report(history)
    if history.stopped_by == "interrupted":
        print(f"interrupted: {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if run.resume and history.epochs == begun.epochs:
        print(_finished(folder, history), file=sys.stderr)


def held_out_results(history: History) -> dict[str, float]:
    """Return the values on held-out rows of the last epoch, or of the epoch whose weights were restored."""
    epoch = (history.best_epoch or history.epochs) - 1
    names = [name for name in history if name.startswith("val_")]
    return {name.removeprefix("val_"): history[name][epoch] for name in names} if epoch >= 0 else {}


def print_summary(trainer: Trainer, history: History, folder: Path, rows: int, results: Mapping[str, float]) -> None:
    """Print a table with the device, the speed and the results of a run on ``rows`` rows, and its folder."""
    network = trainer.network
    epochs = f"{history.epochs}, {_REASONS[history.stopped_by]}" if history.stopped_by in _REASONS else history.epochs
    if history.best_epoch is not None:
        epochs = f"{epochs}; weights of epoch {history.best_epoch}"
    table = Table(show_header=False)
    for name, value in (
        ("device", network.backend.device),
        ("backend", network.backend.name),
        ("parameters", f"{network.n_parameters:,}"),
        ("epochs", str(epochs)),
        ("seconds", f"{history.seconds:.1f}"),
        ("samples/s", f"{history.epochs * rows / history.seconds:,.0f}"),
        *((name, f"{value:.4f}") for name, value in results.items()),
    ):
        table.add_row(name, escape(value))
    console = Output()
    console.print(table)
    console.print(
        "measured after training, without dropout, not averaged over the last epoch", markup=False, highlight=False
    )
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)


class Output(Console):
    """Standard output, which tolerates that its reader closes the pipe."""

    def on_broken_pipe(self) -> None:
        give_up_closed_streams()
        raise typer.Exit(BROKEN_PIPE)


def give_up_closed_streams() -> None:
    """Silently discard the remaining output if its reader has gone, as after ``| head -1``."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Begun(Callback):
    """Records the number of epochs that were done when training began.

    Attributes:
        epochs: that number.
    """

    epochs = 0

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        assert trainer.history is not None
        self.epochs = trainer.history.epochs


def _finished(folder: Path, history: History) -> str:
    """Return the message for a run with nothing left to do."""
    message = f"the run in {folder} had already ended, after {history.epochs} epochs: nothing to do"
    if history.stopped_by != "epochs":
        return f"{message} ({_REASONS[history.stopped_by]})"
    return f"{message}; train it longer with: {resuming(folder)} --epochs {2 * history.epochs}"


def predicting(folder: Path) -> str:
    """Return the line that says how to predict with a run."""
    return f"predict: gradflow predict {shlex.quote(str(folder))} FILE --output predictions.csv"


def resuming(folder: Path) -> str:
    """Return the command that resumes a run."""
    return f"gradflow train --resume {shlex.quote(str(folder))}"


@contextmanager
def failures(folder: Path) -> Iterator[None]:
    """Turn failures of a fit into messages about the run folder."""
    try:
        yield
    except DivergedError:
        print(f"the run up to that point is in {folder}", file=sys.stderr)
        raise
    except BrokenPipeError:
        give_up_closed_streams()
        raise typer.Exit(BROKEN_PIPE) from None
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error
    except KeyboardInterrupt as interrupt:
        if isinstance(problem := interrupt.__context__, OSError):
            raise DataError(f"{folder}: {problem.strerror}") from problem
        raise


@contextmanager
def ending_with_143(left: str) -> Iterator[None]:
    """Exit cleanly on SIGTERM, which `Trainer.fit` passes on once all is saved, with a message about what is left."""

    def end(number: int, frame: FrameType | None) -> None:
        print(f"terminated: {left}", file=sys.stderr)
        raise SystemExit(TERMINATED)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
