"""`TabPackRecipe`: many networks with hyperparameters drawn at random, and an ensemble chosen among them.

References:
    Y. Gorishniy, A. Kotelnikov, I. Rubachev & A. Babenko, "TabPack", ICML (2026), arXiv:2607.05380.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gradflow.checks import fraction, positive_integer
from gradflow.data.preprocessing import Preprocessing
from gradflow.data.rules import ColumnRule, Embedding, OneHot, QuantileNormal
from gradflow.layers import CosineEmbedding, EmbedColumns
from gradflow.mlp import MLP
from gradflow.network import Sequential
from gradflow.optimizers import Muon, Optimizer
from gradflow.pack import EnsembleSelection
from gradflow.recipes.base import Recipe, TableTask
from gradflow.recipes.columns import MarkGaps
from gradflow.training import EarlyStopping

_STREAM = 0x7AB  # of the generator that draws: the network's own numbers have the seed alone


class Drawn(NamedTuple):
    """The hyperparameters of a network.

    Attributes:
        blocks: the number of hidden layers.
        dropout: the dropout rate after each.
        embedding, std: the size of the embedding of a number, and the scale of its initial frequencies.
        muon_rate: the learning rate of the weights of hidden layers.
        adamw_rate: the learning rate of all other parameters.
        weight_decay: the weight decay of both.
    """

    blocks: int
    dropout: float
    embedding: int
    std: float
    muon_rate: float
    adamw_rate: float
    weight_decay: float

    @classmethod
    def of_seed(cls, seed: int) -> Drawn:
        """Draw the hyperparameters of the network with this seed."""
        random = np.random.default_rng([seed, _STREAM])

        def log_uniform(low: float, high: float) -> float:
            return math.exp(random.uniform(math.log(low), math.log(high)))

        return cls(
            blocks=int(random.integers(1, 4)),
            dropout=float(random.uniform(0.0, 0.5)) if random.integers(2) else 0.0,
            embedding=int(random.choice(range(8, 33, 4))),
            std=log_uniform(0.01, 10.0),
            muon_rate=log_uniform(1e-3, 0.1),
            adamw_rate=log_uniform(1e-4, 5e-3),
            weight_decay=log_uniform(1e-3, 1.0),
        )


class TabPackRecipe(Recipe):
    """TabPack: 64 perceptrons with hyperparameters of their own, trained as a pack, and the best ensemble of them.

    It follows arXiv:2607.05380 and the authors' experiment "tabpack-cosine" (Gorishniy et al., 2026):

    - Numbers: `QuantileNormal` with noise, then `CosineEmbedding`. Categories: an input each.
    - 1 to 3 hidden layers of 384 ReLUs; for each network, a dropout rate of 0 or from U(0, 0.5), with equal chances.
      The size of an embedding is 8, 12, ... or 32; the scale of its initial frequencies log-uniform from 0.01 to 10.
      Weights and biases begin with U(-1 / √n_in, 1 / √n_in).
    - `Muon` for the weights of hidden layers, with a rate log-uniform from 0.001 to 0.1, AdamW for all others, from
      1e-4 to 0.005; weight decay from 0.001 to 1. Numbers to predict are standardized.
    - A network ends after 16 epochs without improvement on validation rows, and its best weights count. After each
      epoch of all networks, an ensemble of up to 32 is chosen greedily, with replacement, on the same rows, from the
      best weights of each network and those in the ensemble so far (`EnsembleSelection`); all end after 32 epochs that
      do not improve it.

    No settings are tuned: a run is all there is. It takes the time of 64 fits, which share out the processors; with
    `Muon` the iterations take the larger part, so fewer networks are the way to save time on a small machine.

    Departures: two classes have two outputs, not one. The loss on validation rows decides which epoch is best; the
    authors take the accuracy for classes (``monitor="accuracy"``), and choose the ensemble from the latest weights of
    networks in training, not the best. The scales of embeddings do not decay. Columns of two numbers stay numbers.
    Columns with more than 100 categories have a learned vector of 8 numbers for each. Missing numbers become the
    median, and missing values are marked if the training data lack some. All is computed in float32; the authors take
    bfloat16.

    Args:
        networks: the number of networks.
        width: the number of units of each hidden layer.
        dropout: the dropout rate of all networks; None draws one for each.
        ensemble: the number of additions to the ensemble.
        patience: the number of epochs without improvement after which a network ends.
        ensemble_patience: the number of epochs that do not improve the ensemble after which all networks end.
        epochs, batch_size, monitor: as in `Recipe`; "auto" has 256 rows up to 32,000 training rows, 512 up to 128,000,
            else 1,024, as the authors' choices for their tables, and 16 up to 256 training rows, of which they have no
            table: with one step in an epoch, 16 epochs would be too few.
    """

    name = "tabpack"
    batch_sizes: ClassVar = {256: 16, 32_000: 256, 128_000: 512, 2**63: 1024}

    def __init__(
        self,
        *,
        networks: int = 64,
        width: int = 384,
        dropout: float | None = None,
        ensemble: int = 32,
        patience: int = 16,
        ensemble_patience: int = 32,
        epochs: int = 1000,
        batch_size: int | str = "auto",
        monitor: str = "loss",
    ) -> None:
        super().__init__(epochs=epochs, batch_size=batch_size, monitor=monitor, networks=networks)
        self.width = positive_integer("width", width)
        self.dropout = None if dropout is None else fraction("dropout", dropout)
        self.ensemble = positive_integer("ensemble", ensemble)
        self.patience = positive_integer("patience", patience)
        self.ensemble_patience = positive_integer("ensemble_patience", ensemble_patience)

    def numbers(self) -> ColumnRule:
        return MarkGaps(QuantileNormal(missing="mark", noise=1e-5))

    def categories(self) -> ColumnRule:
        return MarkGaps(OneHot("mark", "zeros", most=100, otherwise=Embedding(8, min_rows=1, missing="mark")))

    def network(self, task: TableTask, preprocessing: Preprocessing, **settings: Any) -> Sequential:
        drawn = Drawn.of_seed(settings["seed"])
        embedding, width = None, preprocessing.n_out
        if preprocessing.tables:
            width = EmbedColumns(width, preprocessing.tables).n_out
        if preprocessing.n_numbers:
            embedding = CosineEmbedding(width, preprocessing.n_numbers, size=drawn.embedding, std=drawn.std)
        return MLP(
            [preprocessing.n_out, *[self.width] * drawn.blocks, task.outputs],
            dropout=drawn.dropout if self.dropout is None else self.dropout,
            initializer="fan_in_uniform",
            bias_initializer="fan_in_uniform",
            preprocessing=preprocessing,
            embedding=embedding,
            **settings,
        )

    def optimizer(self, task: TableTask, network: Sequential) -> Optimizer:
        drawn = Drawn.of_seed(network.seed)
        return Muon(drawn.muon_rate, weight_decay=drawn.weight_decay, adamw_factor=drawn.adamw_rate / drawn.muon_rate)

    def settings(self, task: TableTask) -> dict[str, Any]:
        return super().settings(task) | {
            "early_stopping": EarlyStopping(f"val_{self.monitor}", self.patience),
            "ensemble": EnsembleSelection(self.monitor, self.ensemble, self.ensemble_patience),
        }

    def seeds(self, seed: int) -> range:
        # Fits with seeds one after the other have no networks in common.
        return range(self.networks * seed, self.networks * (seed + 1))

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "width": self.width,
            "dropout": self.dropout,
            "ensemble": self.ensemble,
            "patience": self.patience,
            "ensemble_patience": self.ensemble_patience,
        }
