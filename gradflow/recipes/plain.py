"""`PlainRecipe`, the network that one would begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gradflow.checks import fraction, known_name, positive, positive_integer
from gradflow.data.preprocessing import Preprocessing
from gradflow.data.rules import ColumnRule, Embedding, OneHot, Standardize
from gradflow.layers import ACTIVATIONS
from gradflow.mlp import MLP
from gradflow.network import Sequential
from gradflow.optimizers import Adam, Optimizer
from gradflow.recipes.base import Recipe, TableTask, checked_widths
from gradflow.recipes.columns import MarkGaps
from gradflow.schedules import Scheduled, described, number_or_schedule
from gradflow.training import EarlyStopping


class PlainRecipe(Recipe):
    """A plain multi-layer perceptron, to compare others with; it follows no paper.

    Numbers are standardized, categories become an input each (more than 100 in a column a vector of 8 numbers); two
    hidden layers of 128 ReLUs; Adam with the rate 0.001, early stopping. The weights of the last layer begin at 0, so
    that training starts from a constant prediction: what a random one adds, few rows cannot take away again.

    Args:
        hidden: the widths of the hidden layers.
        activation: the name of the hidden activation.
        dropout: the dropout rate after each hidden activation, or a schedule of it.
        learning_rate: the learning rate.
        patience: the number of epochs without improvement after which training ends.
        epochs, batch_size, monitor, networks: as in `Recipe`; "auto" has 32 rows up to 1,024 training rows, 64 up to
            2,048, 128 up to 4,096, else 256.
    """

    name = "plain"
    batch_sizes: ClassVar = {1024: 32, 2048: 64, 4096: 128, 2**63: 256}

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        dropout: Scheduled = 0.0,
        learning_rate: float = 1e-3,
        patience: int = 16,
        epochs: int = 1000,
        batch_size: int | str = "auto",
        monitor: str = "loss",
        networks: int = 1,
    ) -> None:
        super().__init__(epochs=epochs, batch_size=batch_size, monitor=monitor, networks=networks)
        self.hidden = checked_widths(hidden)
        self.activation = known_name("activation", activation, ACTIVATIONS)
        self.dropout = number_or_schedule("dropout", dropout, fraction)
        self.learning_rate = positive("learning_rate", learning_rate)
        self.patience = positive_integer("patience", patience)

    def numbers(self) -> ColumnRule:
        return MarkGaps(Standardize(missing="mark"))

    def categories(self) -> ColumnRule:
        return MarkGaps(OneHot("mark", "zeros", most=100, otherwise=Embedding(8, min_rows=1, missing="mark")))

    def network(self, task: TableTask, preprocessing: Preprocessing, **settings: Any) -> Sequential:
        sizes = [preprocessing.n_out, *self.hidden, task.outputs]
        return MLP(sizes, self.activation, dropout=self.dropout, preprocessing=preprocessing, **settings)

    def initialize(self, network: Sequential, x: Any) -> None:
        name = f"{len(network.layers) - 1}.weight"
        network.set_weights({name: np.zeros_like(network.get_weights()[name])}, partial=True)

    def optimizer(self, task: TableTask, network: Sequential) -> Optimizer:
        return Adam(self.learning_rate)

    def settings(self, task: TableTask) -> dict[str, Any]:
        stopping = EarlyStopping(f"val_{self.monitor}", self.patience)
        return super().settings(task) | {"early_stopping": stopping}

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "hidden": self.hidden,
            "activation": self.activation,
            "dropout": described(self.dropout),
            "learning_rate": self.learning_rate,
            "patience": self.patience,
        }
