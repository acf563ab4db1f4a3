"""Options of network and training, which `gradflow train` has for all data, and what is made of them."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import typer

from gradflow.backends import BACKENDS
from gradflow.checks import known_name, positive_integer
from gradflow.cli.specifications import name_and_settings, numbers_by_name
from gradflow.data import Preprocessing
from gradflow.data.weights import ClassWeight
from gradflow.errors import DataError, unknown_name
from gradflow.layers import ACTIVATIONS, NORMALIZATIONS, Dense, Dropout, EmbedColumns, Layer
from gradflow.losses import LOSSES
from gradflow.metrics import METRICS
from gradflow.mlp import MLP
from gradflow.network import Sequential
from gradflow.optimizers import LBFGS, OPTIMIZERS, Optimizer, get_optimizer
from gradflow.schedules import SCHEDULES, FunctionSchedule, Schedule


def _names(names: Mapping[str, type]) -> str:
    return ", ".join(sorted(names))


_NAMED_SCHEDULES = {name: cls for name, cls in SCHEDULES.items() if not issubclass(cls, FunctionSchedule)}


@dataclass(frozen=True)
class TrainingOptions:
    """Network, loss, optimizer and regularization, with the defaults for the digits."""

    layers: Annotated[
        str, typer.Option(help="Widths of the hidden layers, separated by commas; 'none' for no hidden layer.")
    ] = "128,64"
    activation: Annotated[str, typer.Option(help=f"Activation after each hidden layer: {_names(ACTIVATIONS)}.")] = (
        "relu"
    )
    normalization: Annotated[
        str | None,
        typer.Option(help=f"Normalization of each hidden layer: {_names(NORMALIZATIONS)}.", show_default="none"),
    ] = None
    loss: Annotated[str, typer.Option(help=f"Loss to minimize: {_names(LOSSES)}.")] = "softmax_cross_entropy"
    metrics: Annotated[
        str | None,
        typer.Option(
            help=f"Values to measure besides loss and accuracy, separated by commas: {_names(METRICS)}, or such as "
            "top_3_accuracy.",
            show_default="none",
        ),
    ] = None
    optimizer: Annotated[str, typer.Option(help=f"Optimizer: {_names(OPTIMIZERS)}.")] = "adam"
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of the optimizer.", show_default="0.001 for adam and adamw, 0.02 for muon, else 0.01"
        ),
    ] = None
    schedule: Annotated[
        str,
        typer.Option(
            help=f"Learning rate over time: {_names(_NAMED_SCHEDULES)}, with settings as in 'cosine:warmup=2' or "
            "'step:every=10,factor=0.5'."
        ),
    ] = "constant"
    momentum: Annotated[
        float | None, typer.Option(help="Momentum of sgd or muon.", show_default="0 for sgd, 0.95 for muon")
    ] = None
    weight_decay: Annotated[
        float | None,
        typer.Option(
            help="Decoupled weight decay of adamw, lion or muon.", show_default="0.01 for adamw and muon, 0 for lion"
        ),
    ] = None
    epochs: Annotated[int, typer.Option(help="Number of passes over the training data.")] = 50
    batch_size: Annotated[str, typer.Option(help="Rows per step; 'all' uses all of them in each step.")] = "32"
    dropout: Annotated[float, typer.Option(help="Fraction of hidden units dropped at random in each step.")] = 0.2
    l1: Annotated[float, typer.Option("--l1", help="Strength of the L1 penalty on the weights.")] = 0.0
    l2: Annotated[float, typer.Option("--l2", help="Strength of the L2 penalty on the weights.")] = 0.0
    clip_norm: Annotated[
        float | None, typer.Option(help="Clip the norm of the gradient to at most this value.", show_default="no limit")
    ] = None
    class_weight: Annotated[
        list[str] | None,
        typer.Option(
            help="'balanced' gives all classes the same total weight; NAME=WEIGHT, which may be repeated, weighs one.",
            metavar="WEIGHT",
            show_default="1 for all",
        ),
    ] = None
    early_stopping: Annotated[
        int | None,
        typer.Option(
            metavar="PATIENCE",
            help="Stop after this many epochs without improvement of the held-out loss, and restore the best epoch. "
            "(The held-out rows then select the epoch, so their results are slightly optimistic.)",
            show_default="off",
        ),
    ] = None
    layer_statistics: Annotated[
        bool,
        typer.Option(
            "--layer-statistics", metavar="", help="Measure gradients, updates and dead or saturated units of layers."
        ),
    ] = False
    threads: Annotated[
        int | None,
        typer.Option(help="Maximum number of threads on the CPU.", show_default="chosen by the library"),
    ] = None
    backend: Annotated[str, typer.Option(help=f"Backend: {', '.join(BACKENDS)}.")] = "auto"
    dtype: Annotated[str, typer.Option(help="Data type: float32 or float64.")] = "float32"
    seed: Annotated[int, typer.Option(help="Random seed: the same seed gives the same run.")] = 0
    members: Annotated[
        int,
        typer.Option(help="Networks to train at once, with seeds from --seed on; the model is the mean of them."),
    ] = 1

    @property
    def of_members(self) -> list[Self]:
        """The options of each network, which differ in their seeds.

        Raises:
            DataError: if there are none.
        """
        return [replace(self, seed=self.seed + place) for place in range(positive_integer("--members", self.members))]

    def check(self, classes: Sequence[Any]) -> None:
        """Check everything that does not depend on the rows.

        Raises:
            DataError: for unknown names, and numbers out of range.
        """
        self.made_optimizer()
        self.weights_of(classes)
        widths_of(self.layers)
        known_name("activation", self.activation, ACTIVATIONS)

    def made_network(self, n_in: int, n_out: int, preprocessing: Preprocessing | None = None) -> Sequential:
        """Return a network with these hidden layers.

        Raises:
            DataError: for unknown names, or numbers out of range.
        """
        of_network: dict[str, Any] = {"dtype": self.dtype, "seed": self.seed, "backend": self.backend}
        widths = [n_in, *widths_of(self.layers), n_out]
        if self.normalization in (None, "none"):
            return MLP(widths, self.activation, dropout=self.dropout, preprocessing=preprocessing, **of_network)
        network = Sequential(self._normalized(widths, preprocessing), **of_network)
        network.preprocessing = preprocessing
        return network

    def _normalized(self, widths: list[int], preprocessing: Preprocessing | None) -> list[Layer]:
        normalization = NORMALIZATIONS[known_name("normalization", self.normalization, NORMALIZATIONS)]
        activation = ACTIVATIONS[known_name("activation", self.activation, ACTIVATIONS)]
        layers: list[Layer] = []
        if preprocessing is not None and preprocessing.tables:
            embeddings = EmbedColumns(preprocessing.n_out, preprocessing.tables)
            layers.append(embeddings)
            widths = [embeddings.n_out, *widths[1:]]
        for n_in, n_out in itertools.pairwise(widths[:-1]):
            layers += [Dense(n_in, n_out), normalization(n_out), activation()]
            layers += [Dropout(self.dropout)] if self.dropout else []
        return [*layers, Dense(*widths[-2:])]

    def made_optimizer(self) -> Optimizer:
        """Return the optimizer with its settings and schedule.

        Raises:
            DataError: for unknown names, settings that it does not have, or numbers out of range.
        """
        cls = OPTIMIZERS[known_name("optimizer", self.optimizer, OPTIMIZERS)]
        given = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name in settings.keys() - inspect.signature(cls).parameters.keys():
            able = [other for other, of in OPTIMIZERS.items() if name in inspect.signature(of).parameters]
            *others, last = sorted(able)
            raise DataError(
                f"--optimizer {self.optimizer} has no {option_name(name)}; {', '.join(others)} and {last} have it"
            )
        if issubclass(cls, LBFGS) or (self.schedule == "constant" and not settings):
            if self.schedule != "constant":
                raise DataError("lbfgs uses a line search and takes no --schedule; omit it")
            return get_optimizer(self.optimizer, self.learning_rate)
        rate = cls.default_learning_rate if self.learning_rate is None else self.learning_rate
        made: Optimizer = cls(rate if self.schedule == "constant" else _schedule(self.schedule, rate), **settings)
        return made

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics."""
        return [name for name in (self.metrics or "").replace(" ", "").split(",") if name not in ("", "none")]

    @property
    def rows_per_step(self) -> int | None:
        """The batch size; None for all rows."""
        if self.batch_size == "all":
            return None
        try:
            number = int(self.batch_size)
        except ValueError:
            raise DataError(f"--batch-size must be a whole number of rows, or all; got {self.batch_size!r}") from None
        return positive_integer("batch_size", number)

    def weights_of(self, classes: Sequence[Any]) -> ClassWeight | None:
        """Return the weights of the classes with these names.

        Raises:
            DataError: for classes that do not exist, and weights that are not numbers.
        """
        if not self.class_weight:
            return None
        if self.class_weight == ["balanced"]:
            return "balanced"
        names = {str(name): name for name in classes}
        weights = numbers_by_name("--class-weight", self.class_weight, "yes=2, or balanced")
        for name in weights.keys() - names.keys():
            raise unknown_name("class", name, names)
        return {names[name]: weight for name, weight in weights.items()}


def option_name(name: str) -> str:
    """Return the option of a field, such as "--batch-size"."""
    return f"--{name.replace('_', '-')}"


def _schedule(text: str, learning_rate: float) -> Schedule:
    """Return the schedule of a text such as "step:every=10"."""
    name, settings = name_and_settings("--schedule", text)
    cls: type[Any] = _NAMED_SCHEDULES[known_name("schedule", name, _NAMED_SCHEDULES)]
    allowed = [setting for setting in inspect.signature(cls).parameters if setting != "learning_rate"]
    for setting in settings:
        if setting not in allowed:
            raise unknown_name(f"setting of --schedule {name}", setting, allowed)
    try:
        made: Schedule = cls(learning_rate, **settings)
    except TypeError:  # the checks above leave only settings without a default
        required = [
            setting
            for setting in allowed
            if setting not in settings and inspect.signature(cls).parameters[setting].default is inspect.Parameter.empty
        ]
        raise DataError(f"--schedule {name} needs {' and '.join(required)}: {name}:{required[0]}=...") from None
    return made


def widths_of(layers: str) -> list[int]:
    """Parse hidden widths from a text such as "128,64"."""
    if layers.strip() == "none":
        return []
    try:
        return [positive_integer("each width", int(word)) for word in layers.split(",")]
    except ValueError:
        raise DataError(
            f"--layers must be whole numbers above 0 separated by commas, such as 128,64, or none; got {layers!r}"
        ) from None
