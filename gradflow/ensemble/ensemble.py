"""`Ensemble`: networks whose predictions are averaged."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple, Self

import numpy as np

from gradflow.checks import instances, non_negative, positive_integer, sequence
from gradflow.data.classes import class_values
from gradflow.data.frames import as_columns
from gradflow.data.sources import Block, Source
from gradflow.ensemble.score import Score, Scorer
from gradflow.ensemble.selection import select
from gradflow.errors import DataError
from gradflow.metrics import Metric
from gradflow.network import Sequential
from gradflow.ops import Array


class EnsembleScores(NamedTuple):
    """The score of an ensemble, of each member, and how much they differ.

    Attributes:
        name: the name of the metric.
        ensemble: the metric of the ensemble.
        members: the metric of each member alone.
        weights: the weights of the members.
        diversity: of classes, the fraction of rows in which the classes of two members differ, averaged over all pairs
            of members; of numbers, the weighted mean of the squared differences between members and ensemble, by which
            the squared error of the ensemble is smaller than the weighted mean of theirs (Krogh and Vedelsby, 1995).
    """

    name: str
    ensemble: float
    members: tuple[float, ...]
    weights: tuple[float, ...]
    diversity: float

    def __str__(self) -> str:
        lines = [f"{'':10} {'weight':>6}  {self.name}"]
        for place, (weight, score) in enumerate(zip(self.weights, self.members, strict=True)):
            lines.append(f"{f'member {place}':10} {weight:6.3f}  {score:.4f}")
        return "\n".join([*lines, f"{'ensemble':10} {'':6}  {self.ensemble:.4f}", f"diversity {self.diversity:.4f}"])


class Ensemble:
    """Networks that predict together: the weighted mean of their probabilities, or of their values.

    All networks must take the same columns and have the same kind of outputs and the same classes; layers,
    preprocessing, target scales and dtypes may differ. ``gf.save`` and ``gf.load`` store an ensemble in one file.

    Args:
        networks: the networks.
        weights: a weight for each, at least 0; only ratios matter. None weighs all the same.

    Attributes:
        networks: the networks, a tuple.
        weights: their weights, with sum 1.

    Raises:
        DataError: if there are no networks, they do not match, or no weight is above 0.
    """

    def __init__(self, networks: Sequence[Sequential], weights: Sequence[float] | None = None) -> None:
        self.networks = tuple(instances("networks", networks, Sequential, "gradflow networks"))
        if not self.networks:
            raise DataError("an ensemble needs at least one network, got an empty list")
        for place, network in enumerate(self.networks):
            _check_match(self.networks[0], network, place)
        given = [1.0] * len(self.networks) if weights is None else sequence("weights", weights, "a list of numbers")
        checked = [non_negative(f"weights[{place}]", weight) for place, weight in enumerate(given)]
        if len(checked) != len(self.networks) or not any(checked):
            raise DataError(
                f"weights must be a number for each of the {len(self.networks)} networks, and one above 0, got {given}"
            )
        largest = max(checked)
        total = sum(weight / largest for weight in checked)
        self.weights = tuple(weight / largest / total for weight in checked)

    @classmethod
    def selected(
        cls,
        networks: Sequence[Sequential],
        x: Any,
        y: Any,
        *,
        metric: str | Metric | Scorer = "loss",
        size: int = 32,
    ) -> Self:
        """Return the ensemble that a greedy selection finds on validation data (Caruana et al., 2004).

        It adds ``size`` times the network that makes the mean of the predictions best, each as often as it helps, and
        keeps the best of these means. Networks that are never added are left out.

        Args:
            networks: the candidates.
            x, y: validation data, which none of them was trained on.
            metric: what to improve: "loss" for the cross-entropy of probabilities or the squared error of numbers,
                "accuracy", another metric such as "f1", or a function of y and predictions, (rows, n_out), whose result
                is larger if they are better.
            size: number of additions, at least 1.

        Raises:
            DataError: if the networks do not match, or data or metric do not match them.
        """
        whole = cls(networks)
        score = Score(whole.output_activation, whole.n_out, whole.classes, y, metric)
        predictions = all_predictions(whole.networks, x, score.rows)
        counts = select(predictions, score, positive_integer("size", size)).counts
        return cls([whole.networks[place] for place in np.flatnonzero(counts)], counts[counts > 0].tolist())

    def __len__(self) -> int:
        return len(self.networks)

    def __iter__(self) -> Iterator[Sequential]:
        return iter(self.networks)

    def __repr__(self) -> str:
        weights = ", ".join(f"{weight:.3g}" for weight in self.weights)
        return f"Ensemble of {len(self)} networks, weights ({weights}): {self.networks[0]!r}, ..."

    def copy(self) -> Self:
        """Return an independent ensemble of copies of the networks."""
        return copy.deepcopy(self)

    @property
    def n_out(self) -> int:
        """The number of outputs."""
        return self.networks[0].n_out

    @property
    def classes(self) -> Any:
        """Names of the classes, as in `Sequential.classes`."""
        return self.networks[0].classes

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the input columns, as in `Sequential.feature_names`."""
        return self.networks[0].feature_names

    @property
    def output_activation(self) -> str:
        """The meaning of the outputs: "softmax" or "sigmoid" for probabilities, "identity" for values."""
        return self.networks[0].output_activation

    def predict(self, x: Any) -> Array:
        """Return the weighted mean of the networks' predictions, (batch, n_out), for x as in `Sequential.predict`.

        Raises:
            DataError: if shape, dtype or values do not fit.
        """
        if isinstance(x, Source):
            with closing(x.blocks()) as blocks:
                return np.concatenate([self.predict(block) for block in blocks if len(block)])
        x = x if isinstance(x, Block) else as_columns("x", x)
        total: Array = 0.0
        for network, weight in zip(self.networks, self.weights, strict=True):
            if weight:
                total = total + weight * network.predict(x).astype(np.float64)
        return total.astype(np.result_type(*(network.dtype for network in self.networks)))

    def predict_classes(self, x: Any) -> Array:
        """Return the predicted class of each row, as `Sequential.predict_classes` does, from the mean probabilities.

        Raises:
            DataError: if the networks have one output and are no classifiers, or x does not fit.
        """
        if self.n_out == 1 and self.output_activation == "identity":
            raise DataError("networks with one output and no sigmoid predict numbers, not classes; use predict(x)")
        predictions = self.predict(x)
        if self.output_activation != "sigmoid":
            numbers = predictions.argmax(axis=1).astype(np.int64)
        else:
            numbers = (predictions > 0.5).astype(np.int64)
            numbers = numbers.reshape(-1) if self.n_out == 1 else numbers
        if self.classes is None or numbers.ndim == 2:
            return numbers
        return class_values(self.classes)[numbers if isinstance(numbers, np.ndarray) else numbers.get()]

    def scores(self, x: Any, y: Any, *, metric: str | Metric | Scorer = "loss") -> EnsembleScores:
        """Return the metric of the ensemble and of each member, and their diversity, on data as for `selected`.

        Raises:
            DataError: if data or metric do not match the networks.
        """
        score = Score(self.output_activation, self.n_out, self.classes, y, metric)
        predictions = all_predictions(self.networks, x, score.rows)
        mean = np.average(predictions, axis=0, weights=self.weights)
        members = tuple(score.sign * score(each) for each in predictions)
        if self.output_activation == "identity":
            squares = [((each - mean) ** 2).mean() for each in predictions]
            diversity = float(np.average(squares, weights=self.weights))
        else:
            diversity = _disagreement(predictions)
        return EnsembleScores(score.name, score.sign * score(mean), members, self.weights, diversity)


def all_predictions(networks: Sequence[Sequential], x: Any, rows: int) -> list[np.ndarray]:
    """Return the predictions of all networks for so many rows, in float64 on the host.

    Raises:
        DataError: if x has another number of rows.
    """
    x = x if isinstance(x, Source | Block) else as_columns("x", x)
    predictions = [network.predict(x) for network in networks]
    on_host = [each if isinstance(each, np.ndarray) else each.get() for each in predictions]
    if len(on_host[0]) != rows:
        raise DataError(f"x has {len(on_host[0])} rows, but y has {rows}; they must match")
    return [each.astype(np.float64) for each in on_host]


def _disagreement(predictions: Sequence[np.ndarray]) -> float:
    """Return the fraction of rows in which the classes of two members differ, averaged over all pairs."""
    is_binary = predictions[0].shape[1] == 1
    classes = [each[:, 0] > 0.5 if is_binary else each.argmax(axis=1) for each in predictions]
    pairs = [(one != other).mean() for place, one in enumerate(classes) for other in classes[:place]]
    return float(np.mean(pairs)) if pairs else 0.0


def _check_match(first: Sequential, other: Sequential, place: int) -> None:
    """Raise if a network cannot predict together with the first one.

    Raises:
        DataError: naming the difference.
    """

    def width(network: Sequential) -> int:
        return network.n_in if network.preprocessing is None else len(network.preprocessing.names)

    for what, of_first, of_other in (
        ("number of outputs", first.n_out, other.n_out),
        ("output activation", first.output_activation, other.output_activation),
        ("classes", first.classes, other.classes),
        ("number of input columns", width(first), width(other)),
        ("names of input columns", first.feature_names, other.feature_names),
    ):
        if of_first != of_other:
            raise DataError(
                f"the networks of an ensemble must have the same {what}, but network 0 has {of_first!r} and network "
                f"{place} {of_other!r}"
            )
