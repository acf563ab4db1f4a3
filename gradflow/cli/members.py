"""``gradflow train ... --members 8``: several networks at once, which differ in their seeds, and their ensemble."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from gradflow.cli.command_line import KeepsCommandLine
from gradflow.cli.fitting import INTERRUPTED, Command, Output, RunOptions, ending_with_143, failures, resuming
from gradflow.cli.training_options import TrainingOptions
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError
from gradflow.network import Sequential
from gradflow.pack import Pack
from gradflow.storage import save
from gradflow.training import Checkpoint, EarlyStopping, Trainer

_ENSEMBLE = "ensemble.safetensors"


def fit_members(
    trainers: Sequence[Trainer],
    folder: Path,
    command: Command,
    options: TrainingOptions,
    run: RunOptions,
    x: Any,
    y: Any,
    *,
    labels: Any,
    **arguments: Any,
) -> None:
    """Train the members, save them and their ensemble in a folder, and report; end with the exit code of interrupted
    runs.

    Args:
        trainers: the members.
        folder: the folder; each member has its run folder in it.
        command: what is kept in it to resume the run.
        options, run: the options.
        x, y: the training data.
        labels: the class of each row of the validation data, for the report.
        arguments: further arguments of `Pack.fit`, with validation data.
    """
    if run.json_lines or command.is_repetition:
        raise DataError(
            "runs of several members have no JSON lines and cannot be repeated by the command; omit --members, or "
            "use gradflow.Pack"
        )
    pack, left = Pack(trainers), f"progress is saved; resume with: {resuming(folder)}"
    patience = options.early_stopping
    try:
        with ending_with_143(left), failures(folder):
            pack.fit(
                x,
                y,
                epochs=options.epochs,
                batch_size=options.rows_per_step,
                threads=options.threads,
                early_stopping=None if patience is None else EarlyStopping(patience=patience),
                callbacks=[KeepsCommandLine(folder, command.words, command.files)],
                progress=not run.quiet,
                output=None if run.resume else folder,
                checkpoint=Checkpoint(every_minutes=run.checkpoint_minutes),
                resume=folder if run.resume else None,
                overwrite=run.overwrite,
                **arguments,
            )
    except KeyboardInterrupt:
        print(f"interrupted: {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    networks = [network for place, network in enumerate(pack) if place not in pack.errors]
    ensemble = Ensemble(networks)
    save(ensemble, folder / _ENSEMBLE)
    _print_summary(ensemble, folder, arguments["validation_data"][0], labels)


def _print_summary(ensemble: Ensemble, folder: Path, x: Any, labels: Any) -> None:
    """Print the accuracy of each member and of the ensemble on held-out rows."""
    models: dict[str, Sequential | Ensemble] = {f"member {place}": each for place, each in enumerate(ensemble.networks)}
    table = Table("", "held-out accuracy")
    for name, model in (models | {"ensemble": ensemble}).items():
        table.add_row(name, f"{(model.predict(x).argmax(axis=1) == labels).mean():.4f}")
    console = Output()
    console.print(table)
    console.print(f"folder: {folder}, with {_ENSEMBLE}", markup=False, highlight=False, soft_wrap=True)
