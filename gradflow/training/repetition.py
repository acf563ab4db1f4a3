"""`repeat`: rerun a training run from its folder and the same data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from gradflow.checks import file_path, instance, is_function
from gradflow.distributed import world
from gradflow.errors import DataError, DivergedError, FileFormatError, GradflowError
from gradflow.json_shape import check_shape
from gradflow.layers.descriptions import layer_from_description
from gradflow.losses import LOSSES
from gradflow.names import function_at
from gradflow.network import Sequential
from gradflow.optimizers import LBFGS, OPTIMIZERS, Optimizer
from gradflow.schedules import SCHEDULES, FunctionSchedule
from gradflow.storage import described_network, read_tensors
from gradflow.training.data.prepare import prepare_fit
from gradflow.training.progress.callbacks import Callback
from gradflow.training.progress.early_stopping import EarlyStopping
from gradflow.training.runs.comparison import RunComparison, compare_runs, read_config
from gradflow.training.runs.run_folder import initial_state
from gradflow.training.step.objective import Objective
from gradflow.training.trainer import Trainer

_OF_FIT = ("epochs", "batch_size", "shuffle", "drop_last", "accumulate", "tolerance")

_COMPARED = {"initial_state": str, "data": str, "validation_data": (str, NoneType)}

_INSTEAD = "Run your program again with another output=, and compare the folders with gradflow.compare_runs(folder, "
"other)"


def repeat(
    folder: str | os.PathLike[str],
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    validation_data: Any = None,
    network: Sequential | None = None,
    callbacks: Sequence[Callback] = (),
) -> RunComparison:
    """Rerun a finished training run, and compare weights and history bit for bit.

    Network, trainer and arguments of `fit` are recreated from the config.json in the folder, on the same backend. The
    folder holds only a fingerprint of the data; data that do not match it raise an error.

    Args:
        folder: the run folder; nothing in it is changed.
        x, y, sample_weight, validation_data: the same data as for `Trainer.fit`.
        network: the network as it was when the run began, if layers and seed do not determine it: with custom
            initializers, weights that were set, or earlier training. It is trained in place.
        callbacks: callbacks of the run that affected it, such as one that stopped the training.

    Raises:
        DataError: if there is no finished run, the data differ, or the folder lacks information; says what to do.
        FileFormatError: if a file is damaged.
        BackendError: if the run's backend is not available here.
    """
    import tempfile  # loads archive modules, which would slow down importing gradflow

    folder = file_path("folder", folder)
    config = read_config(folder)
    check_shape(config, _COMPARED, str(folder / "config.json"))
    if config["result"]["stopped_by"] == "interrupted":
        raise DataError(
            f"the run in {folder} was interrupted; finish it first: trainer.fit(..., resume={str(folder)!r})"
        )
    trainer, arguments = _made_again(folder, config, network)
    _check_beginning(config, trainer.network)
    given = {"sample_weight": sample_weight, "validation_data": validation_data}
    of_data = {name: arguments[name] for name in ("class_weight", "validation_fraction")}
    _check_data(config, trainer, x, y, **of_data, **given)
    ranks = world()
    with ranks.together(), tempfile.TemporaryDirectory() as of_rank:
        again = ranks.gathered(of_rank)[0]
        # A run that diverges writes its files too.
        with suppress(DivergedError):
            trainer.fit(x, y, callbacks=callbacks, progress=False, output=again, **given, **arguments)
        found: RunComparison = ranks.gathered(compare_runs(folder, again) if ranks.rank == 0 else None)[0]
        return found


def _made_again(folder: Path, config: Mapping[str, Any], network: Sequential | None) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer of a run, and the arguments of its `fit`.

    Raises:
        DataError: if they cannot be recreated; says what to do.
        FileFormatError: if the config has values that no run can have written.
    """
    try:
        if network is None:
            network = _network(folder, config)
        instance("network", network, Sequential, "a gradflow network")
        trainer = trainer_of(config, network)
        class_weight = config["class_weight"]
        if isinstance(class_weight, dict):
            names = {str(name): name for name in config["network"].get("classes", range(network.n_out + 1))}
            class_weight = {names[label]: weight for label, weight in class_weight.items()}
        arguments = {name: config[name] for name in _OF_FIT}
        arguments |= {"class_weight": class_weight, "early_stopping": None}
        arguments["validation_fraction"] = config.get("validation_fraction")  # earlier versions had none
        if config["early_stopping"] is not None:
            arguments["early_stopping"] = EarlyStopping(**config["early_stopping"])
        result = config["result"]
        if result["stopped_by"] == "epochs" and result["epochs"] != config["epochs"]:
            raise ValueError(f"{config['epochs']} epochs, and a result of {result['epochs']}")
    except GradflowError:
        raise
    except OSError as error:
        raise DataError(f"{error.filename}, which a finished run has, cannot be read: {error.strerror}") from error
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{folder / 'config.json'} has values that no run can have: {error}") from error
    return trainer, arguments


def _network(folder: Path, config: Mapping[str, Any]) -> Sequential:
    """Build the network from its seed, after checking that the config matches the size of the saved model."""
    description = dict(config["network"])
    if config["standardize_targets"] or config.get("clamp_predictions"):
        description["output_scale"] = None
    saved, _ = read_tensors(folder / "model.safetensors", "gradflow model")

    def described(weights: Mapping[str, np.ndarray] | None) -> Sequential:
        layers = list(map(layer_from_description, description["layers"]))
        return described_network(layers, description, config["backend"], None, weights)

    described(saved)
    return described(None)


def trainer_of(config: Mapping[str, Any], network: Sequential) -> Trainer:
    """Return the trainer with the loss, optimizer and settings of a run, for another network."""
    # Folders of earlier versions lack some of them.
    settings = {name: config[name] for name in Objective.settings() if name in config}
    settings["metrics"] = [_function("metric", name) if ":" in name else name for name in settings.get("metrics", ())]
    name = config["loss"]["name"]
    loss = _function("loss", name) if ":" in name else _made(LOSSES, "loss", config["loss"])
    return Trainer(network, loss, _optimizer(config), **settings)


def _function(kind: str, path: str) -> Any:
    """Return a function of a module that has been imported: a file must not decide what is imported."""
    function = function_at(path)
    if not is_function(function):
        raise DataError(f"the {kind} of the run was the function {path}; define it, or import its module, first")
    return function


def _optimizer(config: Mapping[str, Any]) -> Optimizer:
    settings = dict(config["optimizer"])
    if issubclass(_known(OPTIMIZERS, "optimizer", settings["name"]), LBFGS):
        del settings["learning_rate"]
    rate = settings.get("learning_rate")
    if isinstance(rate, dict):
        if issubclass(_known(SCHEDULES, "schedule", rate["name"]), FunctionSchedule):
            raise DataError(
                f"the learning rate of the run was a function, which cannot be stored in a folder. {_INSTEAD}"
            )
        settings["learning_rate"] = _made(SCHEDULES, "schedule", rate)
    made: Optimizer = _made(OPTIMIZERS, "optimizer", settings)
    return made


def _made(classes: Mapping[str, type[Any]], kind: str, description: Mapping[str, Any]) -> Any:
    """Create an object from a description: the name of its class, and the arguments."""
    arguments = dict(description)
    name = arguments.pop("name")
    try:
        return _known(classes, kind, name)(**arguments)
    except TypeError as error:
        raise DataError(
            f"the {kind} {name!r} cannot be created from {arguments}: {error}. Its config() must return all of its "
            f"arguments. {_INSTEAD}"
        ) from error


def _known(classes: Mapping[str, type[Any]], kind: str, name: str) -> type[Any]:
    if name not in classes:
        raise DataError(f"the run had the {kind} {name!r}, which is unknown; import the module that defines it")
    return classes[name]


def _check_beginning(config: Mapping[str, Any], network: Sequential) -> None:
    was, now = config["initial_state"], initial_state(network)
    if now != was:
        raise DataError(
            f"the run did not start from this network: it was at {was}, but is at {now}. Pass network= in its state "
            "at that time: with the same initializers, the weights that were set, or after the earlier fit"
        )


def _check_data(config: Mapping[str, Any], trainer: Trainer, x: Any, y: Any, **others: Any) -> None:
    objective, backend = trainer.objective, trainer.network.backend
    scaling = {name: getattr(objective, name) for name in ("standardize_targets", "clamp_predictions")}
    data, validation, _ = prepare_fit(trainer.network, trainer.loss, x, y, **scaling, **others)
    classes, classes_now = config["network"].get("classes", []), list(data.classes or ())
    if classes_now != classes:
        raise DataError(f"this is not the data of the run: its classes were {classes!r}, but are {classes_now!r}")
    for name, given in (("data", data), ("validation_data", validation)):
        now = given and given.fingerprint(backend, trainer.loss)
        if now != config[name]:
            raise DataError(f"this is not the {name} of the run: {name} was {config[name]!r}, but is {now!r}")
