"""Multi-layer perceptrons, by their widths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gradflow.checks import fraction, known_name, positive_integer, sequence
from gradflow.data.preprocessing import Preprocessing
from gradflow.errors import DataError, shown
from gradflow.initializers import Initializer
from gradflow.layers import ACTIVATIONS, Dense, Dropout, EmbedColumns, Layer
from gradflow.network import Sequential, checked_preprocessing
from gradflow.schedules import Scheduled, number_or_schedule


def checked_sizes(sizes: Sequence[int]) -> list[int]:
    """Return the widths of a multi-layer perceptron, from the inputs to the outputs, after checking them."""
    given = sequence("sizes", sizes, "a list of the widths from the inputs to the outputs, such as [64, 10]")
    if len(given) < 2:
        raise DataError(f"sizes must list at least the numbers of inputs and outputs, such as [64, 10], got {given!r}")
    return [positive_integer(f"sizes[{index}]", size) for index, size in enumerate(given)]


class MLP(Sequential):
    """A multi-layer perceptron: dense layers with activations between them, and none after the last.

    Args:
        sizes: the widths from the inputs to the outputs: ``[64, 128, 10]`` has one hidden layer of 128 units.
        activation: the name of the hidden activation, such as "relu" (docs/catalogue.md lists them), or of a subclass
            of `Activation` of your own.
        dropout: the dropout rate after each hidden activation, or a schedule of it; 0 disables it.
        input_dropout: the dropout rate on the inputs, after an `EmbedColumns`; 0 disables it. Above 0 the first layer
            is a `Dropout`, and the weights are named "1.weight" and so on.
        bias: True if the dense layers have biases.
        initializer: the weight initializer (`Dense`); None selects the rule that suits the activation.
        preprocessing: preprocessing of the inputs, as `network.preprocessing`; the first size is then its ``n_out``. If
            it has `gradflow.data.Embedding` columns, the first layer is an `EmbedColumns`, and the first `Dense` layer
            as wide as its outputs.
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
        preprocessing: Preprocessing | None = None,
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
        layers: list[Layer] = []
        if preprocessing is not None and checked_preprocessing(preprocessing, widths[0]).tables:
            embeddings = EmbedColumns(preprocessing.n_out, preprocessing.tables)
            layers.append(embeddings)
            widths[0] = embeddings.n_out
        if number_or_schedule("input_dropout", input_dropout, fraction):
            layers.append(Dropout(input_dropout))
        for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            layers.append(Dense(n_in, n_out, bias=bias, initializer=initializer))
            if index < len(widths) - 2:
                layers.append(hidden())
                if rate:
                    layers.append(Dropout(rate))
        super().__init__(layers, dtype=dtype, seed=seed, backend=backend, device=device)
        self.preprocessing = preprocessing
