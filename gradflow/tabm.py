"""`TabM`: an ensemble of multi-layer perceptrons that share weights, as one network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gradflow.checks import boolean, fraction, known_name, positive_integer
from gradflow.data.preprocessing import Preprocessing
from gradflow.layers import (
    ACTIVATIONS,
    Dense,
    Dropout,
    EachMember,
    Layer,
    MeanOfMembers,
    MemberDense,
    MemberScale,
)
from gradflow.mlp import NumberEmbedding, checked_sizes, embedding_layers
from gradflow.network import Sequential


class TabM(Sequential):
    """An ensemble of k multi-layer perceptrons that share weights (Gorishniy, Kotelnikov & Babenko, 2025).

    Each member multiplies the inputs by a learned vector of its own, runs through the same dense layers as the others,
    and ends in its own dense layer. Training minimizes the mean of the members' losses; the prediction is the mean of
    their probabilities, or of their values. It is often far better than one perceptron, at the cost of a batch that is
    k times as large.

    The layers are an `EachMember` and a `MeanOfMembers`, behind an `EmbedColumns` if the preprocessing has embeddings,
    and the embedding of numbers if there is one; the members share both. Biases begin at 0, where the authors draw
    them.

    Args:
        sizes: the widths from the inputs to the outputs: ``[20, 512, 512, 512, 1]`` are the authors' three hidden
            layers of 512 units.
        activation: the name of the hidden activation, as in `MLP`.
        members: the number k of members.
        dropout: the dropout rate after each hidden activation; 0 disables it.
        batch_ensemble: False for TabM-mini, as above. True gives members vectors for the inputs and the outputs of
            every hidden layer, and biases, as in a BatchEnsemble (Wen, Tran & Ba, 2020); these vectors begin at 1.
        initial_scale: the initial distribution of the members' vectors for the inputs, "signs" or "normal"
            (`EachMember`); None chooses as the authors do, "normal" if there are embeddings.
        preprocessing: preprocessing of the inputs, as in `MLP`. Inputs that come from one column, such as a one-hot
            category, share one random number in each member.
        embedding: None, or a layer that embeds numbers, as in `MLP`. All components of a number's embedding share one
            random number in each member.
        dtype, seed, backend, device: as in `Sequential`.

    Raises:
        DataError: if sizes, names or rates are invalid.
        BackendError: if the backend cannot be used here.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        *,
        members: int = 32,
        dropout: float = 0.1,
        batch_ensemble: bool = False,
        initial_scale: str | None = None,
        preprocessing: Preprocessing | None = None,
        embedding: NumberEmbedding | None = None,
        dtype: str = "float32",
        seed: int = 0,
        backend: str = "auto",
        device: str | None = None,
    ) -> None:
        widths = checked_sizes(sizes)
        members = positive_integer("members", members)
        embeddings = embedding_layers(widths[0], preprocessing, embedding)
        chunks = _chunks(widths[0], preprocessing, embedding)
        if embeddings:
            widths[0] = embeddings[-1].n_out
        stack = _stack(
            widths, activation, members, fraction("dropout", dropout), boolean("batch_ensemble", batch_ensemble)
        )
        scale = initial_scale if initial_scale is not None else "normal" if embeddings else "signs"
        each = EachMember(stack, members=members, initial_scale=scale, chunks=chunks)
        layers = [*embeddings, each, MeanOfMembers(members)]
        super().__init__(layers, dtype=dtype, seed=seed, backend=backend, device=device)
        self.preprocessing = preprocessing


def _chunks(n_in: int, preprocessing: Preprocessing | None, embedding: NumberEmbedding | None) -> list[int] | None:
    """Return the numbers of neighboring inputs of the members that come from one column; None if all are 1."""
    if preprocessing is None and embedding is None:
        return None
    chunks = [1] * n_in
    if preprocessing is not None:
        tables = preprocessing.tables
        chunks = [*preprocessing.widths[: len(preprocessing.widths) - len(tables)], *(size for _, size in tables)]
    return chunks if embedding is None else [embedding.size] * embedding.columns + chunks[embedding.columns :]


def _stack(widths: Sequence[int], activation: str, members: int, dropout: float, batch_ensemble: bool) -> list[Layer]:
    """Return the layers that run for each member."""
    hidden = ACTIVATIONS[known_name("activation", activation, ACTIVATIONS)]
    layers: list[Layer] = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(widths[:-1])):
        if batch_ensemble and index > 0:  # the first vector is that of `EachMember`
            layers.append(MemberScale(n_in, members=members))
        layers.append(Dense(n_in, n_out, bias=not batch_ensemble, initializer="fan_in_uniform"))
        if batch_ensemble:
            layers.append(MemberScale(n_out, members=members, bias=True))
        layers.append(hidden())
        if dropout:
            layers.append(Dropout(dropout))
    return [*layers, MemberDense(*widths[-2:], members=members)]
