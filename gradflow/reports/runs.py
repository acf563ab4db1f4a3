"""A run for the report: that of one network, or of several that predict together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from gradflow.ensemble import Ensemble
from gradflow.errors import DataError, FileFormatError, GradflowError
from gradflow.network import Sequential
from gradflow.storage import load_model, load_network
from gradflow.training.progress.history import History
from gradflow.training.repetition import trainer_of
from gradflow.training.runs.comparison import read_config, read_history
from gradflow.training.step.objective import Objective

_MODEL = "model.safetensors"


class Run(NamedTuple):
    """A run, read from its folder.

    Attributes:
        folder: the folder; of an ensemble, that of its first member, to which all but ``model`` and ``members`` belong.
        config: the content of its config.json.
        network: the trained network, on the CPU.
        history: its values by epoch.
        objective: what it was trained with; None if that cannot be recreated here.
        model: the network, or the ensemble, whose predictions are judged.
        members: the histories of all members of an ensemble by the names of their folders; empty for one network.
    """

    folder: Path
    config: dict[str, Any]
    network: Sequential
    history: History
    objective: Objective | None
    model: Sequential | Ensemble
    members: dict[str, History]


def read_run(folder: Path) -> Run:
    """Read a run from its folder.

    Raises:
        DataError: if there is no finished run, or it has no finished epoch.
        FileFormatError: if a file is damaged.
    """
    members = sorted(path.parent for path in folder.glob("member-[0-9]*/config.json"))
    if not members or (folder / "config.json").is_file():
        return _read_one(folder)
    if not (folder / _MODEL).is_file():
        raise DataError(
            f"the run in {folder} of several networks has not ended, or its ensemble was not saved: finish it, or "
            f"gradflow.save(ensemble, {str(folder / _MODEL)!r}); or report on one of them, such as {members[0]}"
        )
    model = load_model(folder / _MODEL, "numpy")
    if not isinstance(model, Ensemble):
        raise FileFormatError(f"{folder / _MODEL} holds one network, but the folder a run of {len(members)}")
    runs = {path.name: _read_one(path) for path in members}
    return runs[members[0].name]._replace(model=model, members={name: run.history for name, run in runs.items()})


def _read_one(folder: Path) -> Run:
    config = read_config(folder)
    history = History()
    history.stopped_by = config["result"]["stopped_by"]
    try:
        history.seconds = config["result"]["seconds"]
        history.best_epoch = config["result"]["best_epoch"]
        for values in read_history(folder):
            history.append({name: float(value) for name, value in values.items() if name != "epoch"})
        network = load_network(folder / _MODEL, "numpy")
    except OSError as error:
        raise DataError(f"{error.filename}, which a finished run has, cannot be read: {error.strerror}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise FileFormatError(f"config.json or history.csv in {folder} is damaged: {error}") from error
    if not history.epochs:
        raise DataError(f"the run in {folder} has no finished epoch, so there is nothing to report")
    try:
        objective = trainer_of(config, network).objective
    except GradflowError:
        objective = None  # a loss or optimizer of the user's own, in a module that is not imported
    return Run(folder, config, network, history, objective, network, {})
