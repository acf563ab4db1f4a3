"""Fits of estimators by a recipe, which decides on preprocessing, network and training."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np

from gradflow.errors import DataError, DivergedError, shown, warn
from gradflow.inspect.initial_weights import ntk_factors
from gradflow.names import larger_is_better
from gradflow.recipes import Recipe, TableTask, get_recipe
from gradflow.sklearn.inputs import CATEGORICAL
from gradflow.sklearn.rows import Rows
from gradflow.training import Callback, History
from gradflow.training.watch.unit_size import advising

_CHANGES = {
    "hidden_layer_sizes": "hidden",
    "activation": "activation",
    "dropout": "dropout",
    "learning_rate_init": "learning_rate",
    "batch_size": "batch_size",
    "max_iter": "epochs",
    "n_iter_no_change": "patience",
    "n_members": "networks",
}
"""Parameters of estimators that change a setting of the recipe."""
_DECIDED = (
    "solver", "alpha", "learning_rate", "power_t", "tol", "warm_start", "momentum", "nesterovs_momentum", "beta_1",
    "beta_2", "epsilon", "max_fun", "standardize", "normalization", "residual", "schedule",
)  # fmt: skip
"""Parameters that a recipe leaves no choice."""
_MONITORS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "f1_macro": "f1",
    "precision_macro": "precision",
    "recall_macro": "recall",
    "neg_log_loss": "log_loss",
    "roc_auc": "roc_auc",
    "roc_auc_ovr": "roc_auc",
    "r2": "r2",
    "neg_mean_squared_error": "mean_squared_error",
    "neg_root_mean_squared_error": "root_mean_squared_error",
    "neg_mean_absolute_error": "mean_absolute_error",
}
"""The value that a recipe watches for a scorer of scikit-learn."""


def recipe_of(estimator: Any) -> Recipe:
    """Return the recipe of an estimator, with the settings that its parameters change.

    A parameter at its default leaves the decision to the recipe.

    Raises:
        DataError: for an unknown recipe, and parameters that contradict it.
    """
    recipe = get_recipe(estimator.recipe)
    defaults = inspect.signature(type(estimator)).parameters
    given = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if not _is_default(value, defaults[name].default)
    }
    for name in _DECIDED:
        if name in given:
            raise DataError(f"recipe={recipe.name!r} decides that itself: omit {name}={shown(given[name])}")
    changes = {setting: given[name] for name, setting in _CHANGES.items() if name in given}
    if "hidden" in changes and not hasattr(changes["hidden"], "__iter__"):
        changes["hidden"] = [changes["hidden"]]
    for name, setting in _CHANGES.items():
        if name in given and setting not in recipe.config():
            raise DataError(f"recipe={recipe.name!r} has no use for {name}={shown(given[name])}; omit it")
    if estimator.scoring is not None:
        if not isinstance(estimator.scoring, str) or estimator.scoring not in _MONITORS:
            raise DataError(
                f"with a recipe, scoring must be one of {', '.join(_MONITORS)}, got {shown(estimator.scoring)}"
            )
        changes["monitor"] = _MONITORS[estimator.scoring]
    return recipe.changed(**changes)


def _is_default(value: Any, default: Any) -> bool:
    if isinstance(value, str | int | float | tuple) and isinstance(default, str | int | float | tuple):
        return type(value) is type(default) and value == default
    return value is default


def fit_by_recipe(estimator: Any, rows: Rows, held_out: Rows | None, random: np.random.RandomState) -> None:
    """Train by the recipe of an estimator, and set its fitted attributes.

    Args:
        estimator: the estimator, which knows its classes and outputs.
        rows: the training rows.
        held_out: the rows that decide which epoch is best.
        random: the source of seeds.

    Raises:
        ValueError: if the training diverges.
    """
    assert held_out is not None  # a recipe always has some
    recipe, categories = recipe_of(estimator), estimator.categorical_features
    prepared = recipe.prepare(
        rows.x,
        TableTask(rows.n_rows, estimator.n_outputs_, estimator._make_loss()),
        rules=estimator.rules,
        categories=CATEGORICAL.get(categories) if isinstance(categories, str) else categories,
        classes=estimator._class_names(),
        seed=int(random.randint(2**31 - 1)),
        backend=estimator.backend,
        device=estimator.device,
        clip_norm=estimator.clip_norm,
        average=estimator.average,
        precision=estimator.precision,
        threads=estimator.threads,
    )
    estimator.__dict__.pop("_made_with", None)  # what a network that may be trained further was made with
    estimator.network_ = prepared.trainers[0].network
    estimator._dense_names = [name.removesuffix(".weight") for name in ntk_factors(estimator.network_)]
    estimator.n_layers_ = len(estimator._dense_names) + 1
    x, targets, weight = estimator._as_given(rows)
    validation = [part for part in estimator._as_given(held_out) if part is not None]
    settings = {} if prepared.pack is None else {"threads": estimator.threads}
    try:
        with advising(estimator._remedies()):
            prepared.fit(
                x,
                targets,
                sample_weight=weight,
                validation_data=tuple(validation),
                class_weight=estimator._class_weights(),
                shuffle=estimator.shuffle,
                callbacks=[*([_Report()] if estimator.verbose else []), *estimator.callbacks],
                progress=False,
                output=estimator.output,
                overwrite=estimator.output is not None,
                checkpoint=estimator.checkpoint,
                **settings,
            )
    except DivergedError as error:
        raise ValueError(str(error)) from error
    except KeyboardInterrupt:
        warn("Training interrupted by user.", UserWarning)
    if prepared.pack is not None:
        estimator.ensemble_ = prepared.model
    _set_attributes(estimator, prepared.trainers[0].history, f"val_{recipe.monitor}", rows.n_rows)


def _set_attributes(estimator: Any, history: History | None, monitor: str, rows: int) -> None:
    """Set what scikit-learn's estimators tell of their epochs."""
    values = {} if history is None else {name: history[name] for name in history}
    sign = 1 if larger_is_better(monitor) else -1
    estimator.loss_curve_ = list(values.get("loss", []))
    estimator.n_iter_ = len(estimator.loss_curve_)
    estimator.t_ = estimator.n_iter_ * rows
    estimator.loss_ = estimator.loss_curve_[-1] if estimator.loss_curve_ else math.nan
    estimator.best_loss_ = None
    estimator.validation_scores_ = [sign * value for value in values.get(monitor, [])]
    estimator.best_validation_score_ = max(estimator.validation_scores_, default=None)


class _Report(Callback):
    """Prints the loss of each epoch, as scikit-learn does."""

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        print(f"Iteration {epoch}, loss = {values['loss']:.8f}")
