"""The layers of an estimator's network, and their initial weights, which are those of scikit-learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradflow.layers import ACTIVATIONS, NORMALIZATIONS, Dense, Dropout, Layer, Residual
from gradflow.schedules import Scheduled

SYNONYMS = {"logistic": "sigmoid"}
"""scikit-learn's names of activations, where gradflow has others."""


class Stack(NamedTuple):
    """Layers, and the names of the dense ones among them, from the inputs to the outputs."""

    layers: list[Layer]
    dense: list[str]


def make_stack(
    sizes: Sequence[int],
    activation: str,
    *,
    first: Sequence[Layer] = (),
    dropout: Scheduled,
    normalization: str | None,
    residual: bool,
) -> Stack:
    """Return the first layers, and dense layers with these widths, each hidden one with normalization, activation and
    dropout.

    If ``residual``, each hidden layer between two of the same width has a shortcut.
    """
    layers = list(first)
    dense = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        if index == len(sizes) - 2:
            dense.append(f"{len(layers)}")
            layers.append(Dense(n_in, n_out))
            continue
        hidden: list[Layer] = [Dense(n_in, n_out)]
        if normalization is not None:
            hidden.append(NORMALIZATIONS[normalization](n_out))
        hidden.append(ACTIVATIONS[SYNONYMS.get(activation, activation)]())
        has_shortcut = residual and index > 0 and n_in == n_out
        dense.append(f"{len(layers)}.0" if has_shortcut else f"{len(layers)}")
        layers += [Residual(hidden)] if has_shortcut else hidden
        if dropout:
            layers.append(Dropout(dropout))
    return Stack(layers, dense)


def initial_weights(
    sizes: Sequence[int], names: Sequence[str], activation: str, random: Any, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Return weights and biases from U(-a, a), a = √(6 / (n_in + n_out)), or √(2 / (n_in + n_out)) with "logistic".

    That is the rule of Glorot & Bengio (2010), equation 16, which scikit-learn uses for biases too: with the same
    ``random`` state, the numbers are the same.
    """
    weights = {}
    for name, (n_in, n_out) in zip(names, itertools.pairwise(sizes), strict=True):
        limit = math.sqrt((2 if activation == "logistic" else 6) / (n_in + n_out))
        weights[f"{name}.weight"] = random.uniform(-limit, limit, (n_in, n_out)).astype(dtype)
        weights[f"{name}.bias"] = random.uniform(-limit, limit, n_out).astype(dtype)
    return weights
