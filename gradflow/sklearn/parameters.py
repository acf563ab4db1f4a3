"""Checks of an estimator's parameters, at the beginning of each fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradflow.checks import (
    boolean,
    fraction,
    integer,
    known_name,
    non_negative,
    object_or_name,
    positive,
    positive_integer,
    sequence,
)
from gradflow.errors import DataError, shown
from gradflow.layers import ACTIVATIONS
from gradflow.losses import Loss
from gradflow.sklearn.layers import NORMALIZATIONS, SYNONYMS

_AT_LEAST_ONE = ("max_iter", "max_fun")
_ABOVE_ZERO = ("learning_rate_init", "epsilon")
_NOT_BELOW_ZERO = ("alpha", "power_t", "tol")
_FRACTIONS = ("momentum", "validation_fraction", "beta_1", "beta_2", "dropout")
_BOOLEANS = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "residual", "standardize")


def hidden_sizes(given: Any) -> list[int]:
    """Return the widths of the hidden layers, given as a number or several.

    Raises:
        DataError: if one is below 1.
    """
    sizes: Sequence[Any] = given if hasattr(given, "__iter__") else [given]
    listed = sequence("hidden_layer_sizes", sizes, "a list of widths, such as (100,)")
    return [positive_integer("hidden_layer_sizes", size) for size in listed]


def check_parameters(estimator: Any, losses: Sequence[str]) -> None:
    """Raise if a parameter is out of range; ``losses`` are the names of losses.

    Raises:
        DataError: a ValueError, which names the parameter.
    """

    def each(names: Sequence[str], check: Any) -> None:
        for name in names:
            check(name, getattr(estimator, name))

    hidden_sizes(estimator.hidden_layer_sizes)
    known_name("activation", estimator.activation, [*ACTIVATIONS, *SYNONYMS])
    known_name("solver", estimator.solver, ["adam", "lbfgs", "sgd"])
    known_name("learning_rate", estimator.learning_rate, ["adaptive", "constant", "invscaling"])
    each(_AT_LEAST_ONE, positive_integer)
    each(_ABOVE_ZERO, positive)
    each(_NOT_BELOW_ZERO, non_negative)
    each(_FRACTIONS, fraction)
    each(_BOOLEANS, boolean)
    if estimator.batch_size != "auto":
        positive_integer("batch_size", estimator.batch_size)
    if estimator.n_iter_no_change != math.inf:
        positive_integer("n_iter_no_change", estimator.n_iter_no_change)
    if not isinstance(estimator.verbose, bool):
        integer("verbose", estimator.verbose, least=0, most=2**31)
    if estimator.normalization is not None:
        known_name("normalization", estimator.normalization, NORMALIZATIONS)
    if estimator.categorical_features not in (None, "from_dtype"):
        raise DataError(
            f"categorical_features must be 'from_dtype' or None, got {shown(estimator.categorical_features)}"
        )
    object_or_name("loss", estimator.loss, Loss, losses)
