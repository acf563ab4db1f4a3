"""Checks of an estimator's parameters, at the beginning of each fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradflow.checks import (
    boolean,
    fraction,
    instance,
    instances,
    integer,
    known_name,
    non_negative,
    object_or_name,
    positive,
    positive_integer,
    sequence,
)
from gradflow.data.rules import ColumnRule
from gradflow.errors import DataError, shown
from gradflow.layers import ACTIVATIONS, NORMALIZATIONS
from gradflow.losses import Loss
from gradflow.schedules import (
    CosineSchedule,
    CosLogSchedule,
    FlatCosineSchedule,
    OneCycleSchedule,
    Schedule,
    get_schedule,
    number_or_schedule,
)
from gradflow.sklearn.by_recipe import recipe_of
from gradflow.sklearn.inputs import CATEGORICAL
from gradflow.sklearn.layers import SYNONYMS
from gradflow.training import Callback, Checkpoint

_AT_LEAST_ONE = ("max_iter", "max_fun", "n_members")
_ABOVE_ZERO = ("learning_rate_init", "epsilon")
_NOT_BELOW_ZERO = ("alpha", "power_t", "tol")
_FRACTIONS = ("momentum", "validation_fraction", "beta_1", "beta_2")
_OF_NETWORK = (
    "hidden_layer_sizes", "activation", "standardize", "categorical_features", "rules", "dropout", "normalization",
    "residual",
)  # fmt: skip
_BOOLEANS = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping", "residual", "standardize")

_SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "cosine": CosineSchedule,
    "coslog": CosLogSchedule,
    "flat_cosine": FlatCosineSchedule,
    "one_cycle": OneCycleSchedule,
}
"""Schedules that need no more than a rate, by the names that stand for them."""
_NOT_IN_LBFGS = ("dropout", "schedule", "clip_norm", "average", "callbacks", "output", "checkpoint")
_NOT_IN_PARTIAL_FIT = ("schedule", "average", "callbacks", "output", "checkpoint")


def hidden_sizes(given: Any) -> list[int]:
    """Return the widths of the hidden layers, given as a number or several.

    Raises:
        DataError: if one is below 1.
    """
    sizes: Sequence[Any] = given if hasattr(given, "__iter__") else [given]
    listed = sequence("hidden_layer_sizes", sizes, "a list of widths, such as (100,)")
    return [positive_integer("hidden_layer_sizes", size) for size in listed]


def schedule_of(estimator: Any) -> Schedule | None:
    """Return the schedule of the learning rate; None if the solver's parameters define it.

    Raises:
        DataError: if it is no schedule, or there is another one.
    """
    given = estimator.schedule
    if given is None:
        return None
    if estimator.learning_rate != "constant":
        raise DataError(
            f"schedule and learning_rate={estimator.learning_rate!r} both change the learning rate; pass one of them"
        )
    if isinstance(given, str):
        return _SCHEDULES[known_name("schedule", given, _SCHEDULES)](estimator.learning_rate_init)
    if not (isinstance(given, Schedule) or (callable(given) and not isinstance(given, type))):
        raise DataError(
            "schedule must be a schedule of gradflow, a function of the time in epochs, None, or one of "
            f"{', '.join(map(repr, _SCHEDULES))}, got {shown(given)}"
        )
    return get_schedule(given)


def _check_use(estimator: Any, *, is_partial: bool) -> None:
    """Raise for parameters of gradflow that would have no effect.

    Raises:
        DataError: naming the parameter.
    """
    user, names = ("partial_fit", _NOT_IN_PARTIAL_FIT) if is_partial else ("solver='lbfgs'", _NOT_IN_LBFGS)
    if is_partial or estimator.solver == "lbfgs":
        for name in names:
            if given := getattr(estimator, name):
                raise DataError(f"{user} does not support {name}={shown(given)}; omit it")
    if estimator.solver == "lbfgs" and estimator.precision != "float32":
        raise DataError(f"solver='lbfgs' does not support precision={shown(estimator.precision)}; omit it")
    uses = {"partial_fit": is_partial, "warm_start": estimator.warm_start, "output": estimator.output is not None}
    if estimator.recipe is None and estimator.n_members > 1 and any(uses.values()):
        used = next(name for name, is_used in uses.items() if is_used)
        raise DataError(f"{used} does not support n_members={estimator.n_members}; omit it")
    if estimator.checkpoint is not None and estimator.output is None:
        raise DataError("checkpoint needs a folder; pass output too")


def _check_rules(rules: Any) -> None:
    """Raise if these are not rules by column.

    Raises:
        DataError: with an example.
    """
    if not isinstance(rules, Mapping) or not all(isinstance(rule, ColumnRule) for rule in rules.values()):
        raise DataError(
            f"rules must be a dict of rules by column, such as {{'day': gradflow.data.Dates()}}, got {shown(rules)}"
        )


def of_network(estimator: Any) -> dict[str, Any]:
    """Return the parameters that only a new network follows."""
    given = {name: getattr(estimator, name) for name in _OF_NETWORK}
    return given | {"hidden_layer_sizes": hidden_sizes(estimator.hidden_layer_sizes)}


def check_same_network(estimator: Any, before: dict[str, Any]) -> None:
    """Raise if parameters have changed that a network which is trained further cannot follow.

    Args:
        estimator: the estimator.
        before: the result of `of_network` when the network was made.

    Raises:
        DataError: naming the parameter.
    """
    for name, given in of_network(estimator).items():
        is_plain = isinstance(given, str | int | float)
        if repr(given) != repr(before[name]) and not (is_plain and given == before[name]):
            raise DataError(
                f"{name} was {shown(before[name])} when the network was created, but is {shown(given)} now; warm_start "
                "and partial_fit train the same network further. Clone the estimator for another network"
            )


def check_parameters(estimator: Any, losses: Sequence[str], *, is_partial: bool) -> None:
    """Raise if a parameter is out of range, or would have no effect.

    Args:
        estimator: the estimator.
        losses: the names of losses.
        is_partial: True for `partial_fit`.

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
    number_or_schedule("dropout", estimator.dropout, fraction)
    each(_BOOLEANS, boolean)
    if estimator.batch_size != "auto":
        positive_integer("batch_size", estimator.batch_size)
    if estimator.n_iter_no_change != math.inf:
        positive_integer("n_iter_no_change", estimator.n_iter_no_change)
    if not isinstance(estimator.verbose, bool):
        integer("verbose", estimator.verbose, least=0, most=2**31)
    if estimator.normalization is not None:
        known_name("normalization", estimator.normalization, NORMALIZATIONS)
    if estimator.categorical_features is not None:
        object_or_name("categorical_features", estimator.categorical_features, ColumnRule, CATEGORICAL)
    if estimator.rules is not None:
        _check_rules(estimator.rules)
    object_or_name("loss", estimator.loss, Loss, losses)
    instances("callbacks", estimator.callbacks, Callback, "gradflow.Callback objects")
    if estimator.threads is not None:
        positive_integer("threads", estimator.threads)
    if estimator.checkpoint is not None:
        instance("checkpoint", estimator.checkpoint, Checkpoint, "a gradflow.Checkpoint")
    schedule_of(estimator)
    if estimator.recipe is not None:
        recipe_of(estimator)
    _check_use(estimator, is_partial=is_partial)
