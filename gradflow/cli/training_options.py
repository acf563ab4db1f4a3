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
from gradflow.schedules import SCHEDULES, FunctionSchedule, Schedule, Scheduled


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
    weight_decay_schedule: Annotated[
        str,
        typer.Option(help="Weight decay over time, as --schedule, with --weight-decay in place of the learning rate."),
    ] = "constant"
    factor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Factor of the learning rate of a layer, by its number, or of a kind of parameter: 0=0.1, bias=2, "
            "Dense.weight=0.5; may be repeated.",
            show_default="1 for all",
        ),
    ] = None
    decay_factor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER", help="Factor of the weight decay, by the same names.", show_default="1 for all"
        ),
    ] = None
    epochs: Annotated[int, typer.Option(help="Number of passes over the training data.")] = 50
    batch_size: Annotated[str, typer.Option(help="Rows per step; 'all' uses all of them in each step.")] = "32"
    dropout: Annotated[float, typer.Option(help="Fraction of hidden units dropped at random in each step.")] = 0.2
    dropout_schedule: Annotated[
        str, typer.Option(help="Dropout over time, as --schedule, with --dropout for the learning rate.")
    ] = "constant"
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
        self.dropout_over_time()
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
            rate = self.dropout_over_time()
            return MLP(widths, self.activation, dropout=rate, preprocessing=preprocessing, **of_network)
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
            layers += [Dropout(self.dropout_over_time())] if self.dropout else []
        return [*layers, Dense(*widths[-2:])]

    def dropout_over_time(self) -> Scheduled:
        """Return the rate of dropout, or its schedule.

        Raises:
            DataError: for a schedule of no dropout, and unknown names and settings.
        """
        return _over_time("--dropout", self.dropout, self.dropout_schedule)

    def made_optimizer(self) -> Optimizer:
        """Return the optimizer with its settings and schedule.

        Raises:
            DataError: for unknown names, settings that it does not have, or numbers out of range.
        """
        cls = OPTIMIZERS[known_name("optimizer", self.optimizer, OPTIMIZERS)]
        settings = self._settings_of(cls)
        if issubclass(cls, LBFGS) or (self.schedule == "constant" and not settings):
            if self.schedule != "constant":
                raise DataError("lbfgs uses a line search and takes no --schedule; omit it")
            return get_optimizer(self.optimizer, self.learning_rate)
        rate = cls.default_learning_rate if self.learning_rate is None else self.learning_rate
        over_time = rate if self.schedule == "constant" else _schedule("--schedule", self.schedule, rate)
        made: Optimizer = cls(over_time, **settings)
        return made

    def _settings_of(self, cls: type[Optimizer]) -> dict[str, Any]:
        """Return the settings of an optimizer, besides the learning rate.

        Raises:
            DataError: for settings that it does not have.
        """
        known = inspect.signature(cls).parameters
        given: dict[str, Any] = {"momentum": self.momentum, "weight_decay": self.weight_decay}
        for name, texts in (("factors", self.factor), ("decay_factors", self.decay_factor)):
            given[name] = numbers_by_name(_OPTIONS[name], texts, "0=0.1, or bias=2") if texts else None
        if self.weight_decay_schedule != "constant" and "weight_decay" in known:
            value = known["weight_decay"].default if self.weight_decay is None else self.weight_decay
            given["weight_decay"] = _over_time("--weight-decay", value, self.weight_decay_schedule)
        elif self.weight_decay_schedule != "constant":
            given["weight_decay"] = self.weight_decay_schedule
        settings = {name: value for name, value in given.items() if value is not None}
        for name in settings.keys() - known.keys():
            able = [other for other, of in OPTIMIZERS.items() if name in inspect.signature(of).parameters]
            *others, last = sorted(able)
            raise DataError(
                f"--optimizer {self.optimizer} has no {_OPTIONS[name]}; {', '.join(others)} and {last} have it"
            )
        return settings

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


_OPTIONS = {
    "momentum": "--momentum",
    "weight_decay": "--weight-decay",
    "factors": "--factor",
    "decay_factors": "--decay-factor",
}
"""The options of optimizers' settings."""


def _over_time(option: str, value: float, schedule: str) -> Scheduled:
    """Return a number, or its schedule of a text such as "step:every=10"."""
    if schedule == "constant":
        return value
    if not value:
        raise DataError(f"{option}-schedule {schedule} has no effect on a value of 0; pass {option}")
    return _schedule(f"{option}-schedule", schedule, value)


def _schedule(option: str, text: str, value: float) -> Schedule:
    """Return the schedule of a text such as "step:every=10", which begins with a value or leads up to it."""
    name, settings = name_and_settings(option, text)
    cls: type[Any] = _NAMED_SCHEDULES[known_name("schedule", name, _NAMED_SCHEDULES)]
    allowed = [setting for setting in inspect.signature(cls).parameters if setting != "learning_rate"]
    for setting in settings:
        if setting not in allowed:
            raise unknown_name(f"setting of {option} {name}", setting, allowed)
    try:
        made: Schedule = cls(value, **settings)
    except TypeError:  # the checks above leave only settings without a default
        required = [
            setting
            for setting in allowed
            if setting not in settings and inspect.signature(cls).parameters[setting].default is inspect.Parameter.empty
        ]
        raise DataError(f"{option} {name} needs {' and '.join(required)}: {name}:{required[0]}=...") from None
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
