"""``gradflow train digits``: trains on the images of handwritten digits that come with gradflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer

from gradflow.cli.command_line import without
from gradflow.cli.fitting import Command, RunOptions, fit, print_summary
from gradflow.cli.members import fit_members
from gradflow.cli.option_groups import with_fields
from gradflow.cli.training_options import TrainingOptions
from gradflow.data import load_digits
from gradflow.data.digits import Digits
from gradflow.errors import DataError
from gradflow.losses import get_loss
from gradflow.training import History, Trainer

DIGITS_HELP = """Train on 1,438 images of handwritten digits, and test on 359 held-out ones.

Each image has 8 x 8 pixels. The defaults classify about 98 % of the held-out images correctly, within seconds.

Examples:

[cyan]gradflow train digits[/]

[cyan]gradflow train digits --layers 32 --activation sigmoid[/]

[cyan]gradflow train digits --optimizer sgd --learning-rate 0.1 --batch-size 64[/]

[cyan]gradflow train digits --layer-statistics --json-lines[/]

[cyan]gradflow train digits --epochs 200 --early-stopping 20 --output runs/patient[/]

[cyan]gradflow train digits --members 8[/]

[cyan]gradflow train --resume runs/patient[/]

Runs are saved in runs/digits, runs/digits-2 and so on, unless --output names a folder.
"""


@with_fields
def digits(
    context: typer.Context,
    options: TrainingOptions,
    run: RunOptions,
) -> None:
    """Train on the digits; `DIGITS_HELP` describes it."""
    trainers = [_trainer(each) for each in options.of_members]
    folder = run.folder("digits")
    if options.optimizer == "lbfgs" and (options.batch_size != "all" or options.dropout):
        raise DataError(
            "--optimizer lbfgs needs all images in one batch and no dropout; add --batch-size all --dropout 0"
        )
    data = load_digits()
    y_train, y_test = (_targets(labels, options.loss) for labels in (data.y_train, data.y_test))
    # The arguments after "gradflow train".
    words = without(list(context.obj)[1:], "--overwrite", n_values=0)
    command = Command(words, context.obj[0] == "repeat", {})
    arguments: dict[str, Any] = {
        "class_weight": options.weights_of(range(10)),
        "validation_data": (data.x_test, y_test),
    }
    if len(trainers) > 1:
        fit_members(trainers, folder, command, options, run, data.x_train, y_train, **arguments)
        return
    [trainer] = trainers
    report = partial(_report, trainer, folder, data, (y_train, y_test))
    fit(trainer, folder, command, options, run, report, data.x_train, y_train, **arguments)


def _trainer(options: TrainingOptions) -> Trainer:
    return Trainer(
        options.made_network(64, 10),
        options.loss,
        options.made_optimizer(),
        metrics=options.metric_names,
        l1=options.l1,
        l2=options.l2,
        clip_norm=options.clip_norm,
        threads=options.threads,
        layer_statistics=options.layer_statistics,
    )


def _targets(labels: np.ndarray, loss: str) -> np.ndarray:
    """Convert the labels for the loss: unchanged, or one-hot, with one output per class."""
    if get_loss(loss).name == "softmax_cross_entropy":
        return labels
    one_hot: np.ndarray = np.eye(10, dtype=np.float32)[labels]
    return one_hot


def _report(
    trainer: Trainer, folder: Path, data: Digits, targets: tuple[np.ndarray, np.ndarray], history: History
) -> None:
    """Print the results of a run, on the training and the held-out images."""
    results: dict[str, float] = {}
    for name, x, y, labels in (
        ("training", data.x_train, targets[0], data.y_train),
        ("held-out", data.x_test, targets[1], data.y_test),
    ):
        # With other losses than softmax_cross_entropy, too, the largest output is the predicted digit.
        accuracy = float(np.mean(trainer.network.logits(x).argmax(axis=1) == labels))
        values = trainer.evaluate(x, y) | {"accuracy": accuracy}
        results |= {f"{name} {value}": number for value, number in values.items()}
    print_summary(trainer, history, folder, len(data.x_train), results)
