"""`TabMRecipe`, with the defaults of its authors.

References:
    Y. Gorishniy, A. Kotelnikov & A. Babenko, "TabM: advancing tabular deep learning with parameter-efficient
        ensembling", ICLR (2025), arXiv:2410.24210.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from gradflow.checks import boolean, fraction, known_name, non_negative, positive, positive_integer
from gradflow.data.preprocessing import Preprocessing
from gradflow.data.rules import ColumnRule, Embedding, OneHot, QuantileNormal
from gradflow.layers import ACTIVATIONS
from gradflow.network import Sequential
from gradflow.optimizers import AdamW, Optimizer
from gradflow.recipes.base import Recipe, TableTask, checked_widths
from gradflow.recipes.columns import MarkGaps
from gradflow.tabm import TabM
from gradflow.training import EarlyStopping


class TabMRecipe(Recipe):
    """TabM: an ensemble of 32 perceptrons that share weights, as one network (Gorishniy et al., 2025).

    It follows arXiv:2410.24210 and the defaults of the authors' package tabm 0.0.3, ``TabM.make``, without embeddings
    of numbers:

    - Numbers: `QuantileNormal` with noise of 1e-3. Categories: an input each.
    - `TabM` with 32 members, three hidden layers of 512 ReLUs, dropout 0.1; for classes the mean of the members'
      probabilities, for numbers that of their values.
    - The mean of the members' losses. AdamW with the rate 0.002 and weight decay 0.0003, batches of 256 rows. Training
      ends after 16 epochs in which the prediction of the ensemble on validation rows does not improve, and the weights
      of the best epoch are kept. Numbers to predict are standardized.

    Departures: it is TabM-mini by default, which is nearly as good in the paper and takes less time
    (``batch_ensemble=True`` is TabM). Up to 256 rows, fewer than any table of the authors has, are trained in batches
    of 16: with one step in an epoch, 16 epochs would be too few. All members see the same batches: the authors'
    ``share_training_batches``. Biases begin at 0. The loss on validation rows decides which epoch is best; the authors
    take the accuracy for classes (``monitor="accuracy"``). Columns with more than 100 categories have a learned vector
    of 8 numbers for each. Missing numbers become the median, and missing values are marked if the training data lack
    some.

    Args:
        hidden: the widths of the hidden layers.
        activation: the name of the hidden activation.
        dropout: the dropout rate after each hidden activation.
        members: the number of perceptrons that share weights.
        batch_ensemble: True for TabM itself, False for TabM-mini.
        learning_rate: the learning rate.
        weight_decay: the weight decay.
        patience: the number of epochs without improvement after which training ends.
        epochs, batch_size, monitor, networks: as in `Recipe`; "auto" has 16 rows up to 256 training rows, else 256.
    """

    name = "tabm"
    batch_sizes: ClassVar = {256: 16, 2**63: 256}

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (512, 512, 512),
        activation: str = "relu",
        dropout: float = 0.1,
        members: int = 32,
        batch_ensemble: bool = False,
        learning_rate: float = 2e-3,
        weight_decay: float = 3e-4,
        patience: int = 16,
        epochs: int = 1000,
        batch_size: int | str = "auto",
        monitor: str = "loss",
        networks: int = 1,
    ) -> None:
        super().__init__(epochs=epochs, batch_size=batch_size, monitor=monitor, networks=networks)
        self.hidden = checked_widths(hidden)
        self.activation = known_name("activation", activation, ACTIVATIONS)
        self.dropout = fraction("dropout", dropout)
        self.members = positive_integer("members", members)
        self.batch_ensemble = boolean("batch_ensemble", batch_ensemble)
        self.learning_rate = positive("learning_rate", learning_rate)
        self.weight_decay = non_negative("weight_decay", weight_decay)
        self.patience = positive_integer("patience", patience)

    def numbers(self) -> ColumnRule:
        return MarkGaps(QuantileNormal(missing="mark", noise=1e-3))

    def categories(self) -> ColumnRule:
        return MarkGaps(OneHot("mark", "zeros", most=100, otherwise=Embedding(8, min_rows=1, missing="mark")))

    def network(self, task: TableTask, preprocessing: Preprocessing, **settings: Any) -> Sequential:
        return TabM(
            [preprocessing.n_out, *self.hidden, task.outputs],
            self.activation,
            members=self.members,
            dropout=self.dropout,
            batch_ensemble=self.batch_ensemble,
            preprocessing=preprocessing,
            **settings,
        )

    def optimizer(self, task: TableTask, network: Sequential) -> Optimizer:
        return AdamW(self.learning_rate, weight_decay=self.weight_decay)

    def settings(self, task: TableTask) -> dict[str, Any]:
        stopping = EarlyStopping(f"val_{self.monitor}", self.patience)
        return super().settings(task) | {"early_stopping": stopping}

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "hidden": self.hidden,
            "activation": self.activation,
            "dropout": self.dropout,
            "members": self.members,
            "batch_ensemble": self.batch_ensemble,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "patience": self.patience,
        }
