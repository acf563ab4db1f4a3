"""``gradflow train``: trains a network, shows the progress, and writes a run folder."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gradflow.backends import BACKENDS
from gradflow.checks import positive_integer
from gradflow.cli.command_line import KeepsCommandLine, read_command_line, without
from gradflow.data import load_digits
from gradflow.data.digits import Digits
from gradflow.errors import DataError, DivergedError
from gradflow.layers import ACTIVATIONS
from gradflow.losses import LOSSES, get_loss
from gradflow.network import MLP
from gradflow.optimizers import OPTIMIZERS, get_optimizer
from gradflow.training import Callback, Checkpoint, EarlyStopping, History, JSONLines, Trainer
from gradflow.training.runs.run_folder import run_files

INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

_DEFAULT_FOLDER = Path("runs/digits")
_REASONS = {
    "callback": "stopped by a callback",
    "converged": "converged",
    "diverged": "diverged",
    "early stopping": "stopped early",
    "interrupted": "interrupted",
}
_MEASURED = "measured after training, without dropout, not averaged over the last epoch"

application = typer.Typer(help="Train a network.", no_args_is_help=True, rich_markup_mode="rich")

_DIGITS_HELP = """Train on 1,438 images of handwritten digits, and test on 359 held-out ones.

Each image has 8 x 8 pixels. The defaults classify about 98 % of the held-out images correctly, within seconds.

Examples:

[cyan]gradflow train digits[/]

[cyan]gradflow train digits --layers 32 --activation sigmoid[/]

[cyan]gradflow train digits --optimizer sgd --learning-rate 0.1 --batch-size 64[/]

[cyan]gradflow train digits --layer-statistics --json-lines[/]

[cyan]gradflow train digits --epochs 200 --early-stopping 20 --output runs/patient[/]

[cyan]gradflow train --resume runs/patient[/]

Runs are saved in runs/digits, runs/digits-2 and so on, unless --output names a folder.
"""


def _names(names: dict[str, type]) -> str:
    return ", ".join(sorted(names))


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


@application.command(help=_DIGITS_HELP)
def digits(
    context: typer.Context,
    layers: Annotated[
        str, typer.Option(help="Widths of the hidden layers, separated by commas; 'none' for no hidden layer.")
    ] = "128,64",
    activation: Annotated[
        str, typer.Option(help=f"Activation after each hidden layer: {_names(ACTIVATIONS)}.")
    ] = "relu",
    loss: Annotated[str, typer.Option(help=f"Loss to minimize: {_names(LOSSES)}.")] = "softmax_cross_entropy",
    optimizer: Annotated[str, typer.Option(help=f"Optimizer: {_names(OPTIMIZERS)}.")] = "adam",
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of the optimizer.", show_default="0.001 for adam and adamw, else 0.01"),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Number of passes over the training images.")] = 50,
    batch_size: Annotated[str, typer.Option(help="Images per step; 'all' uses all of them in each step.")] = "32",
    dropout: Annotated[float, typer.Option(help="Fraction of hidden units dropped at random in each step.")] = 0.2,
    l2: Annotated[float, typer.Option("--l2", help="Strength of the L2 penalty on the weights.")] = 0.0,
    clip_norm: Annotated[
        float | None, typer.Option(help="Clip the norm of the gradient to at most this value.", show_default="no limit")
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(
            metavar="PATIENCE",
            help="Stop after this many epochs without improvement of the held-out loss, and restore the best epoch. "
            "(The held-out images then select the epoch, so their accuracy is slightly optimistic.)",
            show_default="off",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Maximum number of threads on the CPU.", show_default="chosen by the library"),
    ] = None,
    backend: Annotated[str, typer.Option(help=f"Backend: {', '.join(BACKENDS)}.")] = "auto",
    dtype: Annotated[str, typer.Option(help="Data type: float32 or float64.")] = "float32",
    seed: Annotated[int, typer.Option(help="Random seed: the same seed gives the same run.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the model, settings and curves.",
            show_default="runs/digits, with a number if that is taken",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar="", help="Replace an existing run in the folder.")
    ] = False,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Save a checkpoint every so many minutes, for gradflow train --resume.")
    ] = 10.0,
    layer_statistics: Annotated[
        bool,
        typer.Option(
            "--layer-statistics", metavar="", help="Measure gradients, updates and dead or saturated units of layers."
        ),
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", hidden=True)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", metavar="", help="Show only the summary, no progress.")] = False,
    json_lines: Annotated[
        bool,
        typer.Option(
            "--json-lines",
            metavar="",
            help='Write a JSON object per line to standard output, and nothing else: "event" is "begin", "epoch" '
            'with its values, or "end".',
        ),
    ] = False,
) -> None:
    folder = output or _DEFAULT_FOLDER
    if not (resume or overwrite):
        folder = _checked_folder(output)
    if optimizer == "lbfgs" and (batch_size != "all" or dropout):
        raise DataError(
            "--optimizer lbfgs needs all images in one batch and no dropout; add --batch-size all --dropout 0"
        )
    data = load_digits()
    y_train, y_test = (_targets(labels, loss) for labels in (data.y_train, data.y_test))
    network = MLP(
        [data.x_train.shape[1], *_widths(layers), 10],
        activation,
        dropout=dropout,
        dtype=dtype,
        seed=seed,
        backend=backend,
    )
    trainer = Trainer(
        network,
        loss,
        get_optimizer(optimizer, learning_rate),
        l2=l2,
        clip_norm=clip_norm,
        threads=threads,
        layer_statistics=layer_statistics,
    )
    begun = _Begun()
    left = f"progress is saved; resume with: {_resuming(folder)}"
    if context.obj[0] == "repeat":
        left = "the repetition was interrupted, and nothing was compared"
    # The arguments after "gradflow train".
    words = without(list(context.obj)[1:], "--overwrite", n_values=0)
    try:
        with _ending_with_143(left), _failures(folder):
            history = trainer.fit(
                data.x_train,
                y_train,
                epochs=epochs,
                batch_size=_rows_per_step(batch_size),
                validation_data=(data.x_test, y_test),
                early_stopping=None if early_stopping is None else EarlyStopping(patience=early_stopping),
                callbacks=[KeepsCommandLine(folder, words), begun, *([JSONLines(sys.stdout)] if json_lines else [])],
                progress=not (quiet or json_lines),
                output=None if resume else folder,
                checkpoint=Checkpoint(every_minutes=checkpoint_minutes),
                resume=folder if resume else None,
                overwrite=overwrite,
            )
    except KeyboardInterrupt:
        if trainer.history is None or trainer.history.stopped_by != "interrupted":
            raise
        history = trainer.history
    if not json_lines:
        _report(trainer, history, folder, data, (y_train, y_test))
    if history.stopped_by == "interrupted":
        print(f"interrupted: {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if resume and history.epochs == begun.epochs:
        print(_finished(folder, history), file=sys.stderr)


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """Turn failures of a fit into messages about the run folder."""
    try:
        yield
    except DivergedError:
        print(f"the run up to that point is in {folder}", file=sys.stderr)
        raise
    except BrokenPipeError:
        _give_up_closed_streams()
        raise typer.Exit(BROKEN_PIPE) from None
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}") from error
    except KeyboardInterrupt as interrupt:
        if isinstance(problem := interrupt.__context__, OSError):
            raise DataError(f"{folder}: {problem.strerror}") from problem
        raise


def _report(
    trainer: Trainer, history: History, folder: Path, data: Digits, targets: tuple[np.ndarray, np.ndarray]
) -> None:
    """Print the results of a run, on the training and the held-out images."""
    train = _result(trainer, data.x_train, targets[0], data.y_train)
    held_out = _result(trainer, data.x_test, targets[1], data.y_test)
    console = _Output()
    console.print(_summary(trainer, history, len(data.x_train), train, held_out))
    console.print(_MEASURED, markup=False, highlight=False)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)


def _checked_folder(output: Path | None) -> Path:
    """Return the folder for a new run: --output, or the first of runs/digits, runs/digits-2, ... without a run.

    Raises:
        DataError: if there is a run in the folder of --output.
    """
    if output is None:
        numbered = (_DEFAULT_FOLDER.with_name(f"{_DEFAULT_FOLDER.name}-{number}") for number in itertools.count(2))
        return next(folder for folder in itertools.chain([_DEFAULT_FOLDER], numbered) if not run_files(folder))
    if found := run_files(output):
        raise DataError(
            f"{output} already contains {found[0].name}, which a new run would replace. Pass another --output, or "
            f"--overwrite to replace it, or resume that run: {_resuming(output)}"
        )
    return output


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
    return f"{message}; train it longer with: {_resuming(folder)} --epochs {2 * history.epochs}"


class _Output(Console):
    """Standard output, which tolerates that its reader closes the pipe."""

    def on_broken_pipe(self) -> None:
        _give_up_closed_streams()
        raise typer.Exit(BROKEN_PIPE)


def _give_up_closed_streams() -> None:
    """Silently discard the remaining output if its reader has gone, as after ``| head -1``."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _resuming(folder: Path) -> str:
    return f"gradflow train --resume {shlex.quote(str(folder))}"


@contextmanager
def _ending_with_143(left: str) -> Iterator[None]:
    """Exit cleanly on SIGTERM, which `Trainer.fit` passes on once all is saved, with a message about what is left."""

    def end(number: int, frame: FrameType | None) -> None:
        print(f"terminated: {left}", file=sys.stderr)
        raise SystemExit(TERMINATED)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _widths(layers: str) -> list[int]:
    """Parse hidden widths from a text such as "128,64"."""
    if layers.strip() == "none":
        return []
    try:
        return [positive_integer("each width", int(word)) for word in layers.split(",")]
    except ValueError:
        raise DataError(
            f"--layers must be whole numbers above 0 separated by commas, such as 128,64, or none; got {layers!r}"
        ) from None


def _rows_per_step(batch_size: str) -> int | None:
    """Parse a batch size: a number, or None for "all"."""
    if batch_size == "all":
        return None
    try:
        number = int(batch_size)
    except ValueError:
        raise DataError(f"--batch-size must be a whole number of images, or all; got {batch_size!r}") from None
    return positive_integer("batch_size", number)


def _targets(labels: np.ndarray, loss: str) -> np.ndarray:
    """Convert the labels for the loss: unchanged, or one-hot, with one output per class."""
    if get_loss(loss).name == "softmax_cross_entropy":
        return labels
    one_hot: np.ndarray = np.eye(10, dtype=np.float32)[labels]
    return one_hot


def _result(trainer: Trainer, x: np.ndarray, y: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return loss and accuracy (the fraction of images whose largest output is that of the right digit)."""
    correct = trainer.network.logits(x).argmax(axis=1) == labels
    return trainer.evaluate(x, y)["loss"], float(np.mean(correct))


def _summary(
    trainer: Trainer, history: History, images: int, train: tuple[float, float], held_out: tuple[float, float]
) -> Table:
    network = trainer.network
    epochs = f"{history.epochs}, {_REASONS[history.stopped_by]}" if history.stopped_by in _REASONS else history.epochs
    if history.best_epoch is not None:
        epochs = f"{epochs}; weights of epoch {history.best_epoch}"
    speed = history.epochs * images / history.seconds
    table = Table(show_header=False)
    for name, value in (
        ("device", network.backend.device),
        ("backend", network.backend.name),
        ("parameters", f"{network.n_parameters:,}"),
        ("epochs", str(epochs)),
        ("seconds", f"{history.seconds:.1f}"),
        ("samples/s", f"{speed:,.0f}"),
        ("training loss", f"{train[0]:.4f}"),
        ("training accuracy", f"{train[1]:.4f}"),
        ("held-out loss", f"{held_out[0]:.4f}"),
        ("held-out accuracy", f"{held_out[1]:.4f}"),
    ):
        table.add_row(name, escape(value))
    return table
