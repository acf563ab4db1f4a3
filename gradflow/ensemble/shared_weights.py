"""Some members of a network whose members share weights: the choice, and the smaller network."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gradflow.checks import instance, integer, positive_integer, sequence
from gradflow.ensemble.ensemble import all_predictions
from gradflow.ensemble.score import Score, Scorer
from gradflow.ensemble.selection import select
from gradflow.errors import DataError
from gradflow.layers import EachMember, Layer, MeanOfMembers, MemberDense, MemberScale
from gradflow.layers.stack import with_inner
from gradflow.metrics import Metric
from gradflow.network import Sequential


def with_members(network: Sequential, members: Sequence[int]) -> Sequential:
    """Return an independent network with copies of some members of one whose members share weights, such as a `TabM`.

    Its prediction is the mean of theirs, at the cost of that many members. A member that occurs several times weighs as
    much more. Everything else stays, from preprocessing to dtype, backend and the epoch count.

    Args:
        network: a network that ends in a `MeanOfMembers`; it is not changed.
        members: the members to keep, in this order, counted from 0; at least one.

    Raises:
        DataError: if the network has no members that share weights, or a number is not that of a member.
    """
    count = _number_of_members(network)
    given = sequence("members", members, "a list of the numbers of members, such as [0, 3, 5]")
    kept = [integer(f"members[{place}]", member, least=0, most=count - 1) for place, member in enumerate(given)]
    if not kept:
        raise DataError("members must list at least one member to keep")
    with network.access.reading():
        layers, weights = copy.deepcopy(network.layers), network.get_weights()
    for name in _of_each_member(network.layers):
        weights[name] = weights[name][kept]
    for layer in with_inner(layers):
        if isinstance(layer, EachMember):
            layer.set_members(len(kept))
        elif isinstance(layer, MemberScale | MemberDense | MeanOfMembers):
            layer.members = len(kept)
    smaller = Sequential(
        layers,
        dtype=network.dtype.name,
        seed=network.seed,
        backend=network.backend.name,
        device=network.backend.place,
        weights=weights,
    )
    smaller.output_activation, smaller.output_scale = network.output_activation, network.output_scale
    smaller.preprocessing = network.preprocessing
    if network.preprocessing is None:
        smaller.feature_names = network.feature_names
    smaller.classes, smaller.frozen = network.classes, network.frozen
    smaller.precision, smaller.epochs_begun = network.precision, network.epochs_begun
    return smaller


def select_members(
    network: Sequential, x: Any, y: Any, *, size: int = 8, metric: str | Metric | Scorer = "loss"
) -> list[int]:
    """Return the members that a greedy selection finds on validation data (Caruana et al., 2004), for `with_members`.

    It adds ``size`` times the member that makes the mean of the predictions best, each as often as it helps, and keeps
    the best of these means; so it may return fewer. Members of 8 chosen from 32 predict better than 8 members trained
    alone (Gorishniy, Kotelnikov & Babenko, 2025, section 5.2).

    Args:
        network: a trained network that ends in a `MeanOfMembers`, such as a `TabM`.
        x, y: validation data, which it was not trained on.
        size: the largest number of members, counted as often as they are added.
        metric: what to improve, as in `Ensemble.selected`.

    Raises:
        DataError: if the network has no members that share weights, or data or metric do not match it.
    """
    members = range(_number_of_members(network))
    score = Score(network.output_activation, network.n_out, network.classes, y, metric)
    predictions = all_predictions([with_members(network, [member]) for member in members], x, score.rows)
    counts = select(predictions, score, positive_integer("size", size)).counts
    return np.repeat(members, counts).tolist()


def _number_of_members(network: Sequential) -> int:
    instance("network", network, Sequential, "a gradflow network")
    averaging = [layer for layer in network.layers if isinstance(layer, MeanOfMembers)]
    if not averaging:
        raise DataError(
            f"a {type(network).__name__} without a MeanOfMembers has no members that share weights; gradflow.TabM "
            "creates a network that has"
        )
    return averaging[0].members


def _of_each_member(layers: Sequence[Layer], prefix: str = "") -> Iterator[str]:
    """Yield the names of the parameters with an entry for each member."""
    for index, layer in enumerate(layers):
        if isinstance(layer, EachMember):
            yield f"{prefix}{index}.scale"
        elif isinstance(layer, MemberScale | MemberDense):
            yield from (f"{prefix}{index}.{name}" for name in layer.parameters())
        yield from _of_each_member(getattr(layer, "layers", ()), f"{prefix}{index}.")
