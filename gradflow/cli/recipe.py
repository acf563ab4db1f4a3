"""``gradflow train FILE --recipe NAME``: what a recipe decides, and what the options beside it change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from gradflow.checks import positive_integer
from gradflow.cli.file_options import FileTrainingOptions
from gradflow.cli.own_data import OwnData
from gradflow.cli.rules import text_of
from gradflow.cli.training_options import option_name, widths_of
from gradflow.data import Embedding, OneHot, Standardize
from gradflow.data.rules import ColumnRule
from gradflow.errors import DataError
from gradflow.losses import Loss, get_loss
from gradflow.recipes import Prepared, Recipe, TableTask, get_recipe

_CHANGES = {
    "layers": "hidden",
    "activation": "activation",
    "dropout": "dropout",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "batch_size": "batch_size",
    "epochs": "epochs",
    "early_stopping": "patience",
    "members": "networks",
}
"""Options that change a setting of the recipe."""
_DECIDED = (
    "normalization",
    "optimizer",
    "schedule",
    "momentum",
    "weight_decay_schedule",
    "factor",
    "decay_factor",
    "dropout_schedule",
    "l1",
    "l2",
    "dtype",
)
"""Options that a recipe leaves no choice."""


def recipe_of(options: FileTrainingOptions, given: Collection[str]) -> Recipe:
    """Return the recipe with the settings that the options on the command line change.

    Args:
        options: the options.
        given: the names of those that are on the command line.

    Raises:
        DataError: for an unknown recipe, and options that contradict it.
    """
    assert options.recipe is not None
    recipe = get_recipe(options.recipe)
    for name in _DECIDED:
        if name in given:
            raise DataError(f"--recipe {recipe.name} decides that itself: omit {option_name(name)}")
    changes: dict[str, Any] = {}
    for name, setting in _CHANGES.items():
        if name not in given:
            continue
        if setting not in recipe.config():
            raise DataError(f"--recipe {recipe.name} has no use for {option_name(name)}; omit it")
        changes[setting] = getattr(options, name)
    if "networks" in changes:
        positive_integer("--members", options.members)
    if "hidden" in changes:
        changes["hidden"] = widths_of(options.layers)
    if "batch_size" in changes:
        rows = options.rows_per_step
        changes["batch_size"] = 2**31 if rows is None else rows
    return recipe.changed(**changes)


def loss_of(options: FileTrainingOptions, recipe: Recipe, *, is_classifier: bool) -> Loss:
    """Return the loss: that of the recipe, unless --loss names another one."""
    if is_classifier and options.loss == "softmax_cross_entropy":
        return recipe.loss_of_classes()
    return get_loss(options.loss)


def prepared_by_recipe(
    own: OwnData, options: FileTrainingOptions, recipe: Recipe, x: Any, task: TableTask, **settings: Any
) -> Prepared:
    """Return the training on a file.

    Args:
        own: the file.
        options: the options.
        recipe: the recipe.
        x: the inputs of the training rows.
        task: what must be learned.
        settings: further arguments of `Recipe.prepare`.
    """
    rules: dict[str | int, ColumnRule] = {name: _by_recipe(rule, recipe) for name, rule in own.fitted_rules.items()}
    return recipe.prepare(x, task, rules=rules, seed=options.seed, backend=options.backend, **settings)


def _by_recipe(rule: ColumnRule, recipe: Recipe) -> ColumnRule:
    """Return the rule that a recipe has for plain numbers or categories, and any other rule as it is."""
    if type(rule) is Standardize:
        return recipe.numbers()
    return recipe.categories() if type(rule) in (OneHot, Embedding) else rule


def shown_rule(rule: ColumnRule | None, recipe: Recipe | None) -> str:
    """Return the rule of a column as text: with a recipe, whether it is of numbers or categories, which it codes."""
    if recipe is None or type(rule) not in (Standardize, OneHot, Embedding):
        return text_of(rule)
    return f"{'number' if type(rule) is Standardize else 'category'}, coded by {recipe.name}"


def given_settings(settings: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """Return the settings of a run that make it again with the recipe: those given, and what the data have decided."""
    kept = {*given, "recipe", "loss", "metrics", "seed", "backend"}
    left_out = {field.name.replace("_", "-") for field in fields(FileTrainingOptions) if field.name not in kept}
    return {name: value for name, value in settings.items() if name not in left_out}
