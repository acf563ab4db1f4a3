"""`Recipe`, the base class of recipes, and the training that one prepares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from gradflow.checks import known_name, object_or_name, positive_integer, sequence, text
from gradflow.configurable import Configurable
from gradflow.data.dates import Dates
from gradflow.data.in_memory import rows_of
from gradflow.data.preprocessing import Preprocessing, fit_preprocessing
from gradflow.data.rules import ColumnRule
from gradflow.data.sources import Source
from gradflow.data.table import Table
from gradflow.ensemble import Ensemble
from gradflow.errors import GradflowError, unknown_name
from gradflow.losses import Loss, SoftmaxCrossEntropy
from gradflow.metrics import METRICS
from gradflow.network import Sequential
from gradflow.optimizers import Optimizer
from gradflow.pack import Pack
from gradflow.recipes.columns import MarkGaps
from gradflow.training import Trainer

RECIPES: dict[str, type[Recipe]] = {}
"""Every recipe class by its name."""

AUTO, AUTO_NETWORKS = "realmlp", 4
"""The recipe that "auto" stands for, and its number of networks: what did best in ``benchmarks.tables``."""


class TableTask(NamedTuple):
    """The task of a network: what to learn, and from how many rows.

    Attributes:
        rows: the number of training rows.
        outputs: the number of outputs of the network.
        loss: the loss.
    """

    rows: int
    outputs: int
    loss: Loss

    @property
    def is_values(self) -> bool:
        """True if numbers are predicted, not classes."""
        return self.loss.output_activation == "identity"


class Prepared:
    """A training as a recipe has decided it, ready to begin.

    Args:
        trainers: the trainer of each network.
        settings: arguments of `Trainer.fit`, or of `Pack.fit` for several networks.

    Attributes:
        trainers, settings: the arguments.
        pack: the networks as a pack; None for a single one.
    """

    def __init__(self, trainers: Sequence[Trainer], settings: Mapping[str, Any]) -> None:
        self.trainers, self.settings = tuple(trainers), dict(settings)
        self.pack = Pack(trainers) if len(trainers) > 1 or "ensemble" in settings else None

    def fit(self, x: Any, y: Any = None, **arguments: Any) -> Sequential | Ensemble:
        """Train, and return the `model`.

        Args:
            x, y: the training data, whose columns the preprocessing was fitted on.
            arguments: other arguments of `Trainer.fit` or `Pack.fit`, which have precedence; ``validation_data`` is
                needed.

        Raises:
            DataError: as `Trainer.fit`.
        """
        (self.pack or self.trainers[0]).fit(x, y, **self.settings | arguments)
        return self.model

    @property
    def model(self) -> Sequential | Ensemble:
        """The network as it is now, or the ensemble of several: the chosen one, or all that have not diverged."""
        if self.pack is None:
            return self.trainers[0].network
        diverged = self.pack.errors
        return self.pack.ensemble or Ensemble([each for place, each in enumerate(self.pack) if place not in diverged])


class Recipe(Configurable, registry=RECIPES):
    """Base class of recipes: everything that training on a table takes.

    A subclass defines rules of columns, the network and its optimizer, and the `settings` of its fit. All recipes learn
    from training rows alone, and choose the weights of the epoch that is best on validation rows.

    Args:
        epochs: the number of epochs, or the most of them.
        batch_size: the rows of a batch; "auto" chooses by the number of rows, as the authors advise.
        monitor: the value on validation rows that decides which epoch is best, by its name in the history without
            "val_": "loss", "accuracy", or a metric, such as "roc_auc" or "root_mean_squared_error".
        networks: the number of networks, with seeds one after the other, whose predictions are averaged.

    Raises:
        DataError: for numbers out of range, and unknown names.
    """

    batch_sizes: ClassVar[Mapping[int, int]] = {}
    """The batch size of "auto" for at most so many rows, in ascending order."""
    clamps_predictions: ClassVar[bool] = False
    """True to keep predicted numbers within the range of the targets."""

    def __init__(
        self, *, epochs: int, batch_size: int | str = "auto", monitor: str = "loss", networks: int = 1
    ) -> None:
        self.epochs = positive_integer("epochs", epochs)
        self.batch_size = batch_size if batch_size == "auto" else positive_integer("batch_size", batch_size)
        self.monitor = known_name("monitor", text("monitor", monitor), ["loss", "accuracy", *METRICS])
        self.networks = positive_integer("networks", networks)

    # -- what subclasses define ---------------------------------------------------------------------------------------

    def numbers(self) -> ColumnRule:
        """Return the rule of columns of numbers."""
        raise GradflowError(f"recipe {type(self).__name__} does not define numbers()")

    def categories(self) -> ColumnRule:
        """Return the rule of columns of text and categories."""
        raise GradflowError(f"recipe {type(self).__name__} does not define categories()")

    def times(self) -> ColumnRule:
        """Return the rule of columns of dates and timestamps."""
        return MarkGaps(Dates(missing="mark"))

    def loss_of_classes(self) -> Loss:
        """Return the loss for two classes and more."""
        return SoftmaxCrossEntropy()

    def network(self, task: TableTask, preprocessing: Preprocessing, **settings: Any) -> Sequential:
        """Return the network, with these settings of `Sequential`."""
        raise GradflowError(f"recipe {type(self).__name__} does not define network(task, preprocessing)")

    def initialize(self, network: Sequential, x: Any) -> None:
        """Set the initial weights from training rows, where a recipe does that."""

    def optimizer(self, task: TableTask, network: Sequential) -> Optimizer:
        """Return the optimizer of a network."""
        raise GradflowError(f"recipe {type(self).__name__} does not define optimizer(task, network)")

    def settings(self, task: TableTask) -> dict[str, Any]:
        """Return the arguments of `Trainer.fit` that the recipe decides, such as ``early_stopping``."""
        return {"epochs": self.epochs, "batch_size": self.rows_of_a_batch(task.rows)}

    def seeds(self, seed: int) -> range:
        """Return the seeds of the networks."""
        return range(seed, seed + self.networks)

    # -- what all have ------------------------------------------------------------------------------------------------

    def changed(self, **settings: Any) -> Self:
        """Return this recipe with other settings.

        Raises:
            DataError: for settings that it does not have.
        """
        known = self.config()
        for name in settings:
            if name not in known:
                raise unknown_name(f"setting of recipe {self.name!r}", name, known)
        return type(self)(**known | settings)

    def rows_of_a_batch(self, rows: int) -> int:
        """Return the batch size for so many training rows."""
        if self.batch_size != "auto":
            return min(int(self.batch_size), rows)
        return min(next(size for most, size in self.batch_sizes.items() if rows <= most), rows)

    def prepare(
        self,
        x: Any,
        task: TableTask,
        *,
        rules: Mapping[str | int, ColumnRule] | None = None,
        categories: ColumnRule | None = None,
        classes: Sequence[Any] | None = None,
        seed: int = 0,
        backend: str = "auto",
        device: str | None = None,
        **of_trainer: Any,
    ) -> Prepared:
        """Return the training on a table.

        Args:
            x: the inputs of the training rows: an array, a table or a source.
            task: what must be learned.
            rules: rules of single columns, in place of those of the recipe.
            categories: the rule of columns of text and categories, in place of that of the recipe.
            classes: the names of the classes, if targets hold them; None for class numbers, and for numbers to predict.
            seed: the seed, from which `seeds` makes that of each network.
            backend, device: as in `Sequential`.
            of_trainer: further arguments of `Trainer`, such as ``metrics``.

        Raises:
            DataError: for invalid data or arguments.
        """
        text = categories or self.categories()
        preprocessing = fit_preprocessing(x, rules, numbers=self.numbers(), text=text, times=self.times())
        metrics = [*of_trainer.pop("metrics", ())]
        if self.monitor not in ("loss", "accuracy", *metrics):
            metrics.append(self.monitor)
        scales = task.is_values and task.loss.takes_any_scale
        settings: dict[str, Any] = {
            "standardize_targets": scales,
            "clamp_predictions": scales and self.clamps_predictions,
            "metrics": metrics,
        } | of_trainer
        trainers = []
        for of_network in self.seeds(seed):
            network = self.network(task, preprocessing, seed=of_network, backend=backend, device=device)
            network.preprocessing = preprocessing
            network.classes = classes
            self.initialize(network, x)
            trainers.append(Trainer(network, task.loss, self.optimizer(task, network), **settings))
        return Prepared(trainers, self.settings(task))

    def config(self) -> dict[str, Any]:
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "monitor": self.monitor,
            "networks": self.networks,
        }


def checked_widths(hidden: Any) -> list[int]:
    """Return the widths of hidden layers after checking them.

    Raises:
        DataError: if one is below 1.
    """
    return [positive_integer("hidden", width) for width in sequence("hidden", hidden, "a list of widths")]


def some_rows(x: Any, most: int, seed: int) -> Any:
    """Return at most so many rows of inputs, at random; a source is read once for them."""
    rows = len(next(iter(x.values()))) if isinstance(x, Mapping) else len(x)
    if rows <= most and not isinstance(x, Source):
        return x
    places = np.sort(np.random.default_rng(seed).choice(rows, min(most, rows), replace=False))
    return _rows_of_source(x, places) if isinstance(x, Source) else rows_of(x, places)


def _rows_of_source(source: Source, places: np.ndarray) -> Any:
    """Return the inputs at these sorted places."""
    parts: list[Any] = []
    first = 0
    with closing(source.blocks()) as blocks:
        for block in blocks:
            begin, end = np.searchsorted(places, [first, first + len(block)])
            parts.append(block[places[begin:end] - first].x)
            first += len(block)
    if not isinstance(parts[0], Table):
        return np.concatenate(parts)
    columns = zip(*(part.columns for part in parts), strict=True)
    return replace(parts[0], columns=tuple(map(np.concatenate, columns)))


def get_recipe(recipe: str | Recipe) -> Recipe:
    """Return the recipe of this name, with default settings, or the recipe itself; "auto" is `AUTO_NETWORKS` of `AUTO`.

    Raises:
        DataError: for an unknown name.
    """
    found = object_or_name("recipe", recipe, Recipe, ["auto", *RECIPES])
    if isinstance(found, Recipe):
        return found
    cls: Any = RECIPES[AUTO if found == "auto" else found]
    made: Recipe = cls(networks=AUTO_NETWORKS) if found == "auto" else cls()
    return made
