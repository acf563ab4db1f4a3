"""``gradflow train ... --members 8``: several networks at once, which differ in their seeds, and their ensemble."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from gradflow.cli.command_line import KeepsCommandLine
from gradflow.cli.fitting import (
    Command,
    Output,
    RunOptions,
    ending_with_143,
    failures,
    held_out_results,
    predicting,
    resuming,
)
from gradflow.cli.member_folders import member_folder, remove_members
from gradflow.cli.training_options import TrainingOptions
from gradflow.data.sources import Source
from gradflow.distributed import world
from gradflow.ensemble import Ensemble, stand_in
from gradflow.errors import DataError
from gradflow.loading import INTERRUPTED
from gradflow.pack import Each, Pack
from gradflow.storage import save
from gradflow.training import Callback, Checkpoint, EarlyStopping, JSONLines, Trainer, WeightPath
from gradflow.training.repetition import trainer_of
from gradflow.training.runs.comparison import read_config
from gradflow.training.runs.run_folder import run_files

_MODEL = "model.safetensors"


def fit_members(
    trainers: Sequence[Trainer],
    folder: Path,
    command: Command,
    options: TrainingOptions,
    run: RunOptions,
    x: Any,
    y: Any,
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
        arguments: further arguments of `Pack.fit`, with validation data, which have precedence over the options.
    """
    if run.overwrite and world().size > 1:
        raise DataError("--overwrite would let each rank remove the runs of all members; remove the folder first")
    left = f"progress is saved; resume with: {resuming(folder)}"
    if command.is_repetition:
        left = "the repetition was interrupted, and nothing was compared"
    pack = Pack(trainers)
    patience = options.early_stopping
    begins = [_Replaces(folder, len(trainers))] if run.overwrite else []
    lines = [JSONLines(sys.stdout)] if run.json_lines else []
    kept = [*begins, KeepsCommandLine(folder, command.words, command.files), *lines]
    settings: dict[str, Any] = {
        "epochs": options.epochs,
        "batch_size": options.rows_per_step,
        "threads": options.threads,
        "early_stopping": None if patience is None else EarlyStopping(patience=patience),
        "callbacks": Each([[*kept, WeightPath(member_folder(folder, place))] for place in range(len(pack))]),
        "progress": not (run.quiet or run.json_lines),
        "output": None if run.resume else folder,
        "checkpoint": None if "ensemble" in arguments else Checkpoint(every_minutes=run.checkpoint_minutes),
        "resume": folder if run.resume else None,
        "overwrite": run.overwrite,
    }
    try:
        with ending_with_143(left), failures(folder):
            pack.fit(x, y, **settings | arguments)
    except KeyboardInterrupt:
        print(f"interrupted: {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    ensemble = pack.ensemble or Ensemble([network for place, network in enumerate(pack) if place not in pack.errors])
    with failures(folder):
        save(ensemble, folder / _MODEL)
    held_out = arguments["validation_data"]
    data = (held_out,) if isinstance(held_out, Source) else held_out
    if not run.json_lines:
        _print_summary(pack, folder, evaluated(ensemble, read_config(member_folder(folder, 0)), *data))


def evaluated(ensemble: Ensemble, config: Mapping[str, Any], *data: Any) -> dict[str, float]:
    """Return the loss and the metrics of an ensemble on some rows, by name.

    Args:
        ensemble: the ensemble.
        config: the config.json of a member, which names them.
        data: x, y and sample_weight, or a source.

    Raises:
        DataError: if the data do not fit the networks.
    """
    network, *rows, sample_weight = stand_in(ensemble, *data)
    # The stand-in is not trained, and lacks the layers that factors of the optimizer may name.
    optimizer = {name: each for name, each in config["optimizer"].items() if not name.endswith("factors")}
    return trainer_of({**config, "optimizer": optimizer}, network).evaluate(*rows, sample_weight=sample_weight)


def _print_summary(pack: Pack, folder: Path, of_ensemble: Mapping[str, float]) -> None:
    """Print the held-out results of each member and of the ensemble."""
    table = Table("held-out", *of_ensemble)
    for place, history in enumerate(pack.histories):
        values = {} if history is None or place in pack.errors else held_out_results(history)
        table.add_row(f"member {place}", *(f"{values[name]:.4f}" if name in values else "-" for name in of_ensemble))
    table.add_row("ensemble", *(f"{value:.4f}" for value in of_ensemble.values()))
    console = Output()
    console.print(table)
    console.print(f"run folder: {folder}", markup=False, highlight=False, soft_wrap=True)
    print(predicting(folder))


class _Replaces(Callback):
    """Removes an earlier run from a folder when the first member begins, but for the members that the new run replaces:
    a model of the earlier run must not be taken for one of this run."""

    def __init__(self, folder: Path, members: int) -> None:
        self._folder, self._members, self._is_done = folder, members, False

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        if self._is_done:
            return
        self._is_done = True
        for path in run_files(self._folder):
            path.unlink()
        remove_members(self._folder, but=self._members)
