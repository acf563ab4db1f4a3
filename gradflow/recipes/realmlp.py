"""`RealMLPRecipe`, with the tuned defaults of its authors.

References:
    D. Holzmüller, L. Grinsztajn & I. Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
        data", NeurIPS (2024), arXiv:2407.04491.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gradflow.checks import fraction, known_name, non_negative, positive, sequence
from gradflow.data.preprocessing import Preprocessing
from gradflow.data.rules import ColumnRule, Embedding, OneHot, SmoothClip, Standardize
from gradflow.inspect.initial_weights import fit_initial_weights, ntk_factors
from gradflow.layers import ACTIVATIONS, Dense, Dropout, EmbedColumns, Layer, Parametric, PeriodicEmbedding, Scale
from gradflow.losses import Loss, SoftmaxCrossEntropy
from gradflow.network import Sequential
from gradflow.optimizers import AdamW, Optimizer
from gradflow.random import RandomNumbers
from gradflow.recipes.base import Recipe, TableTask, checked_widths, some_rows
from gradflow.recipes.columns import MarkGaps
from gradflow.schedules import CosLogSchedule, FlatCosineSchedule
from gradflow.training import EarlyStopping

BLOCKS = (
    "clipping", "embedding", "scale", "parametric", "dropout", "initialization", "ntk", "factors", "schedule", "decay",
)  # fmt: skip
"""The blocks that `RealMLPRecipe` may leave out."""

_ROWS_OF_INITIALIZATION = 10_000
_OF_DECISIONS = ("accuracy", "balanced_accuracy", "f1", "precision", "recall")
"""Values that only depend on the predicted classes, not on their probabilities."""


class RealMLPRecipe(Recipe):
    """RealMLP-TD: a multi-layer perceptron with defaults tuned on 118 tables (Holzmüller et al., 2024).

    It follows arXiv:2407.04491 and the source of pytabkit 1.8. In the order in which data pass:

    - Numbers: `SmoothClip`, (x - median) / (q75 - q25), then x / √(1 + (x / 3)²). Categories: an input each in columns
      with at most 8, scaled and clipped as numbers, and one input of ±1 for two; missing and unknown ones are 0. In
      other columns a learned vector of 8 numbers, from N(0, 1).
    - `PeriodicEmbedding` of each number: 16 frequencies from N(0, 0.1²), then 3 numbers and the number itself.
    - `Scale`, then three times `Dense` with 256 units, `Parametric` SELU for classes or Mish for numbers, `Dropout` of
      0.15, constant during the first half of training, then half a cosine to 0; then `Dense`.
    - Dense layers begin with outputs of standard deviation 1 and boundaries within the data (`fit_initial_weights`),
      and learn in the NTK parametrization (`ntk_factors`).
    - Adam with β₁ = 0.9, β₂ = 0.95 and the rate 0.04 for classes, 0.2 for numbers; 0.1 of it for biases, activations
      and embeddings of numbers, 6 times as much for the scale; "coslog4" (`CosLogSchedule`) over 256 epochs of batches
      of 256 rows, the last smaller one left out. Decoupled weight decay of 0.02 of all but biases, in time as dropout.
      As in pytabkit, a parameter with the rate factor f decays with f².
    - Numbers to predict are standardized, and predictions kept within their range. The weights of the best epoch are
      kept; of several, those of the last.

    Departures: by default the loss on validation rows decides which epoch is best, without label smoothing, as the
    authors advise for log loss and AUC; ``monitor="accuracy"`` is their default, with label smoothing of 0.1. Missing
    numbers, which pytabkit refuses, become the median, and are marked if the training data lack some. Biases and phases
    of the embedding do not decay.

    Args:
        hidden: the widths of the hidden layers.
        activation: the name of the hidden activation; None for the one above.
        dropout: the dropout rate of the first half of training.
        learning_rate: the highest learning rate; None for the one above.
        weight_decay: the weight decay of the first half of training.
        label_smoothing: the label smoothing of classes; None for 0.1 if ``monitor`` is the accuracy or another value of
            decisions, else 0.
        without: names of blocks to leave out, to see what they contribute: "clipping" standardizes numbers and leaves
            categories at 0 and 1, "embedding" feeds numbers in directly, "scale", "parametric", "dropout",
            "initialization" begins with LeCun's, "ntk" has the rate 1 / 16 of that above for all weights, "factors" has
            one rate for all kinds of parameters, "schedule" keeps the rate constant, and "decay".
        epochs, batch_size, monitor, networks: as in `Recipe`; "auto" has 64 rows up to 1,024 rows, 128 up to 8,192, 256
            up to 30,000, 512 up to 100,000, else 1,024, as pytabkit.
    """

    name = "realmlp"
    clamps_predictions = True
    batch_sizes: ClassVar = {1024: 64, 8192: 128, 30_000: 256, 100_000: 512, 2**63: 1024}

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (256, 256, 256),
        activation: str | None = None,
        dropout: float = 0.15,
        learning_rate: float | None = None,
        weight_decay: float = 0.02,
        label_smoothing: float | None = None,
        without: Sequence[str] = (),
        epochs: int = 256,
        batch_size: int | str = 256,
        monitor: str = "loss",
        networks: int = 1,
    ) -> None:
        super().__init__(epochs=epochs, batch_size=batch_size, monitor=monitor, networks=networks)
        self.hidden = checked_widths(hidden)
        self.activation = None if activation is None else known_name("activation", activation, ACTIVATIONS)
        self.dropout = fraction("dropout", dropout)
        self.learning_rate = None if learning_rate is None else positive("learning_rate", learning_rate)
        self.weight_decay = non_negative("weight_decay", weight_decay)
        self.label_smoothing = None if label_smoothing is None else fraction("label_smoothing", label_smoothing)
        self.without = [known_name("without", name, BLOCKS) for name in sequence("without", without, "a list of names")]

    def _has(self, block: str) -> bool:
        return block not in self.without

    def numbers(self) -> ColumnRule:
        return MarkGaps(SmoothClip(missing="mark") if self._has("clipping") else Standardize(missing="mark"))

    def categories(self) -> ColumnRule:
        many = Embedding(8, min_rows=1, missing="fill")
        clip = 3.0 if self._has("clipping") else None
        return OneHot("fill", "zeros", most=8, signs=True, clip=clip, otherwise=many)

    def loss_of_classes(self) -> Loss:
        smoothing = 0.1 if self.monitor in _OF_DECISIONS else 0.0
        return SoftmaxCrossEntropy(smoothing if self.label_smoothing is None else self.label_smoothing)

    def network(self, task: TableTask, preprocessing: Preprocessing, **settings: Any) -> Sequential:
        activation = self.activation or ("mish" if task.is_values else "selu")
        width = preprocessing.n_out
        layers: list[Layer] = []
        if preprocessing.tables:
            layers.append(EmbedColumns(width, preprocessing.tables, initializer=_standard_normal))
            width = layers[-1].output_width(width)
        if preprocessing.n_numbers and self._has("embedding"):
            layers.append(PeriodicEmbedding(width, preprocessing.n_numbers))
            width = layers[-1].output_width(width)
        if self._has("scale"):
            layers.append(Scale(width))
        for units in self.hidden:
            layers.append(Dense(width, units, initializer="lecun_normal"))
            layers.append(Parametric(units, activation) if self._has("parametric") else ACTIVATIONS[activation]())
            if self.dropout and self._has("dropout"):
                layers.append(Dropout(FlatCosineSchedule(self.dropout)))
            width = units
        layers.append(Dense(width, task.outputs, initializer="lecun_normal"))
        return Sequential(layers, **settings)

    def initialize(self, network: Sequential, x: Any) -> None:
        if self._has("initialization"):
            fit_initial_weights(network, some_rows(x, _ROWS_OF_INITIALIZATION, network.seed))

    def optimizer(self, task: TableTask, network: Sequential) -> Optimizer:
        rate = self.learning_rate or (0.2 if task.is_values else 0.04)
        factors = {"Dense.bias": 0.1}
        for kind, factor in ((Scale, 6.0), (Parametric, 0.1), (PeriodicEmbedding, 0.1)):
            if any(type(layer) is kind for layer in network.layers):
                factors[kind.__name__] = factor
        if not self._has("factors"):
            factors = {}
        decay = {name: factor for name, factor in factors.items() if name != "Dense.bias"}
        of_weights = ntk_factors(network)
        if not self._has("ntk"):
            of_weights = dict.fromkeys(of_weights, 1 / 16)
        return AdamW(
            CosLogSchedule(rate) if self._has("schedule") else rate,
            beta2=0.95,
            weight_decay=FlatCosineSchedule(self.weight_decay) if self.weight_decay and self._has("decay") else 0.0,
            factors=factors | of_weights,
            decay_factors=decay | {name: 1 / factor for name, factor in of_weights.items()},
        )

    def settings(self, task: TableTask) -> dict[str, Any]:
        stopping = EarlyStopping(f"val_{self.monitor}", self.epochs, ties="last")
        return super().settings(task) | {"drop_last": True, "early_stopping": stopping}

    def config(self) -> dict[str, Any]:
        return super().config() | {
            "hidden": self.hidden,
            "activation": self.activation,
            "dropout": self.dropout,
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "label_smoothing": self.label_smoothing,
            "without": self.without,
        }


def _standard_normal(shape: tuple[int, ...], random: RandomNumbers) -> np.ndarray:
    """N(0, 1)."""
    return random.normal(1.0, shape)
