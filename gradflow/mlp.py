"""Multi-layer perceptrons, by their widths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gradflow.checks import fraction, known_name, positive_integer, sequence
from gradflow.data.preprocessing import Preprocessing
from gradflow.errors import DataError, shown
from gradflow.initializers import Initializer
from gradflow.layers import (
    ACTIVATIONS,
    CosineEmbedding,
    Dense,
    Dropout,
    EmbedColumns,
    Layer,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from gradflow.network import Sequential, checked_preprocessing
from gradflow.schedules import Scheduled, number_or_schedule


def checked_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the widths of a multi-layer perceptron, from the inputs to the outputs, after checking them."""
    given = sequence("sizes", sizes, "a list of the widths from the inputs to the outputs, such as [64, 10]")
    if len(given) < 2:
        raise DataError(f"sizes must list at least the numbers of inputs and outputs, such as [64, 10], got {given!r}")
    return [positive_integer(f"sizes[{index}]", size) for index, size in enumerate(given)]


NumberEmbedding = PeriodicEmbedding | PiecewiseLinearEmbedding | CosineEmbedding


def embedding_layers(
    n_in: int, preprocessing: Preprocessing | None, embedding: NumberEmbedding | None
) -> list[EmbedColumns | NumberEmbedding]:
    """Return the layers in front of a multi-layer perceptron that embed categories and numbers; their n_out is known.

    Raises:
        DataError: if the embedding is no such layer, or takes other inputs.
    """
    vectors: list[EmbedColumns] = []
    if preprocessing is not None and checked_preprocessing(preprocessing, n_in).tables:
        vectors.append(EmbedColumns(preprocessing.n_out, preprocessing.tables))
        n_in = vectors[0].n_out
    if embedding is None:
        return [*vectors]
    if not isinstance(embedding, NumberEmbedding):
        raise DataError(
            "embedding must be a layer that embeds numbers, such as gradflow.PeriodicEmbedding(n_in, columns), got "
            f"{shown(embedding)}"
        )
    if embedding.n_in != n_in:
        behind = f", behind the vectors of {len(vectors[0].tables)} columns of categories" if vectors else ""
        raise DataError(f"embedding must take {n_in} inputs{behind}, but {embedding!r} takes {embedding.n_in}")
    if preprocessing is not None and embedding.columns > preprocessing.n_numbers:
        raise DataError(
            f"embedding must have at most {preprocessing.n_numbers} columns, which are the numbers of the "
            f"preprocessing (n_numbers), got {embedding.columns}"
        )
    return [*vectors, embedding]


class MLP(Sequential):
    """A multi-layer perceptron: dense layers with activations between them, and none after the last.

    Args:
        sizes: the widths from the inputs to the outputs: ``[64, 128, 10]`` has one hidden layer of 128 units.
        activation: the name of the hidden activation, such as "relu" (docs/catalogue.md lists them), or of a subclass
            of `Activation` of your own.
        dropout: the dropout rate after each hidden activation, or a schedule of it; 0 disables it.
        input_dropout: the dropout rate on the inputs, after embeddings; 0 disables it. Above 0 a `Dropout` comes before
            the first `Dense`, whose weight is then named "1.weight" if there are no embeddings, and so on.
        bias: True if the dense layers have biases.
        initializer: the weight initializer (`Dense`); None selects the rule that suits the activation.
        bias_initializer: the bias initializer (`Dense`); None is "zeros", or "fan_in_uniform" with a `CosineEmbedding`,
            which begins at 0: without biases so would all units.
        preprocessing: preprocessing of the inputs, as `network.preprocessing`; the first size is then its ``n_out``. If
            it has `gradflow.data.Embedding` columns, the first layer is an `EmbedColumns`, and the first `Dense` layer
            as wide as its outputs.
        embedding: None, or a layer that embeds numbers, after an `EmbedColumns` and before everything else, such as
            ``PeriodicEmbedding(preprocessing.n_out, preprocessing.n_numbers)``.
        dtype: "float32" or "float64".
        seed: for initial weights, dropout and shuffles.
        backend: "auto", "numpy", "cupy" or "reference".
        device: "cpu", "cuda" or, for one of several GPUs, "cuda:1"; None is the backend's.

    Raises:
        DataError: if sizes, names or rates are invalid.
        BackendError: if the backend cannot be used here.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        *,
        dropout: Scheduled = 0.0,
        input_dropout: Scheduled = 0.0,
        bias: bool = True,
        initializer: Initializer | None = None,
        bias_initializer: str | float | None = None,
        preprocessing: Preprocessing | None = None,
        embedding: NumberEmbedding | None = None,
        dtype: str = "float32",
        seed: int = 0,
        backend: str = "auto",
        device: str | None = None,
    ) -> None:
        widths = checked_sizes(sizes)
        if not isinstance(activation, str):
            raise DataError(
                f"activation must be one name, for all hidden layers, got {shown(activation)}; for several, list the "
                "layers: gradflow.Sequential([gradflow.Dense(64, 32), gradflow.Tanh(), gradflow.Dense(32, 10)])"
            )
        hidden = ACTIVATIONS[known_name("activation", activation, ACTIVATIONS)]
        rate = number_or_schedule("dropout", dropout, fraction)
        embeddings = embedding_layers(widths[0], preprocessing, embedding)
        if embeddings:
            widths[0] = embeddings[-1].n_out
        layers: list[Layer] = [*embeddings]
        if number_or_schedule("input_dropout", input_dropout, fraction):
            layers.append(Dropout(input_dropout))
        if bias_initializer is None:
            bias_initializer = "fan_in_uniform" if isinstance(embedding, CosineEmbedding) else "zeros"
        for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            dense = Dense(n_in, n_out, bias=bias, initializer=initializer, bias_initializer=bias_initializer)
            layers.append(dense)
            if index < len(widths) - 2:
                layers.append(hidden())
                if rate:
                    layers.append(Dropout(rate))
        super().__init__(layers, dtype=dtype, seed=seed, backend=backend, device=device)
        self.preprocessing = preprocessing
