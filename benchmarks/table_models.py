"""The models that `benchmarks.tables` compares: gradflow's recipes and their peers, each as it comes.

A model is a function that fits on the parts of a table and returns its predictions: numbers (rows,), or probabilities
(rows, classes) of the classes in sorted order. What chooses by validation rows is given them as such; what does not is
given them as training rows. Test rows are seen by predictions only.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import gradflow as gf
from benchmarks.table_data import Parts, Table
from gradflow.recipes import RealMLPRecipe, Recipe, TabMRecipe, TabPackRecipe, get_recipe

Predict = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class Task:
    """One fit: the table and its rows, the seed, and how much to train.

    Attributes:
        is_quick: True to train next to nothing, to see that everything works.
    """

    table: Table
    parts: Parts
    seed: int
    is_quick: bool

    @property
    def is_values(self) -> bool:
        """True if numbers are predicted, not classes."""
        return self.table.is_values

    @property
    def classes(self) -> np.ndarray:
        """The classes, sorted."""
        return np.unique(self.parts.training[1])

    def all_rows(self) -> tuple[Any, np.ndarray]:
        """Return training and validation rows together."""
        import pandas as pd

        (x, y), (more_x, more_y) = self.parts.training, self.parts.validation
        return pd.concat([x, more_x], ignore_index=True), np.concatenate([y, more_y])

    def numbered(self, y: np.ndarray) -> np.ndarray:
        """Return targets as they are, and classes as numbers."""
        return y if self.is_values else np.searchsorted(self.classes, y)


# -- gradflow ---------------------------------------------------------------------------------------------------------


def _trained(task: Task, network: gf.Sequential, optimizer: gf.Optimizer) -> Predict:
    network.preprocessing = task.parts.preprocessing
    loss = "mean_squared_error" if task.is_values else "softmax_cross_entropy"
    trainer = gf.Trainer(network, loss, optimizer, standardize_targets=task.is_values)
    trainer.fit(
        *task.parts.training,
        epochs=3 if task.is_quick else 1000,
        batch_size=256,
        validation_data=task.parts.validation,
        early_stopping=gf.EarlyStopping("val_loss", patience=16),
        progress=False,
    )
    return lambda x: network.predict(x)[:, 0] if task.is_values else network.predict(x)


def _sizes(task: Task, *hidden: int) -> list[int]:
    return [task.parts.preprocessing.n_out, *hidden, 1 if task.is_values else len(task.classes)]


def gradflow_mlp(task: Task) -> Predict:
    """Fit the network that one would begin with: two hidden layers of 128 units, Adam, early stopping."""
    return _trained(task, gf.MLP(_sizes(task, 128, 128), seed=task.seed, backend="numpy"), gf.Adam())


def by_recipe(task: Task, recipe: Recipe) -> Predict:
    """Fit by a recipe; quick fits have one narrow layer and few epochs."""
    from gradflow.sklearn import MLPClassifier, MLPRegressor

    if task.is_quick:
        recipe = recipe.changed(**{name: value for name, value in _QUICK.items() if name in recipe.config()})
    kind = MLPRegressor if task.is_values else MLPClassifier
    model = kind(recipe=recipe, random_state=task.seed, backend="numpy")
    held_out, targets = task.parts.validation
    model.fit(*task.parts.training, X_val=held_out, y_val=targets)
    return model.predict if task.is_values else model.predict_proba


_QUICK = {"epochs": 3, "hidden": [16], "width": 16, "members": 4, "networks": 1}


# -- scikit-learn -----------------------------------------------------------------------------------------------------


def sklearn_mlp(task: Task) -> Predict:
    """Fit scikit-learn's MLP on standardized numbers and one-hot text."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    x, y = task.all_rows()
    numbers, text = _columns(x)
    inputs = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
            ("text", OneHotEncoder(handle_unknown="ignore"), text),
        ]
    )
    iterations = 3 if task.is_quick else 200
    if not task.is_values:
        classifier = make_pipeline(inputs, MLPClassifier(random_state=task.seed, max_iter=iterations)).fit(x, y)
        return lambda x: np.asarray(classifier.predict_proba(x))
    mean, std = y.mean(), y.std()  # as it comes, it hardly learns targets far from unit size
    regressor = make_pipeline(inputs, MLPRegressor(random_state=task.seed, max_iter=iterations)).fit(
        x, (y - mean) / std
    )
    return lambda x: mean + std * np.asarray(regressor.predict(x))


def hist_gradient_boosting(task: Task) -> Predict:
    """Fit scikit-learn's HistGradientBoosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if task.is_values else HistGradientBoostingClassifier
    iterations = 3 if task.is_quick else 100
    return _with_categories(task, kind(random_state=task.seed, categorical_features="from_dtype", max_iter=iterations))


# -- other trees ------------------------------------------------------------------------------------------------------


def lightgbm(task: Task) -> Predict:
    """Fit LightGBM."""
    import lightgbm

    kind = lightgbm.LGBMRegressor if task.is_values else lightgbm.LGBMClassifier
    return _with_categories(task, kind(random_state=task.seed, n_estimators=3 if task.is_quick else 100, verbose=-1))


def xgboost(task: Task) -> Predict:
    """Fit XGBoost."""
    import xgboost

    kind = xgboost.XGBRegressor if task.is_values else xgboost.XGBClassifier
    model = kind(random_state=task.seed, n_estimators=3 if task.is_quick else 100, enable_categorical=True)
    return _with_categories(task, model)


def catboost(task: Task) -> Predict:
    """Fit CatBoost."""
    import catboost

    x, y = task.all_rows()
    text = _columns(x)[1]
    kind = catboost.CatBoostRegressor if task.is_values else catboost.CatBoostClassifier
    model = kind(
        random_seed=task.seed,
        iterations=3 if task.is_quick else 1000,
        cat_features=text,
        verbose=False,
        allow_writing_files=False,
        thread_count=os.cpu_count(),
    )
    model.fit(x.fillna(dict.fromkeys(text, "missing")), task.numbered(y))
    predict = model.predict if task.is_values else model.predict_proba
    return lambda x: np.asarray(predict(x.fillna(dict.fromkeys(text, "missing"))))


def _columns(x: Any) -> tuple[list[str], list[str]]:
    """Return the names of the columns of numbers, and of text."""
    numbers = [name for name in x.columns if x[name].dtype.kind in "fiub"]
    return numbers, [name for name in x.columns if name not in numbers]


def _with_categories(task: Task, model: Any) -> Predict:
    """Fit a model of trees on text as pandas' categories, which are those of the rows it is fitted on."""
    import pandas as pd

    x, y = task.all_rows()
    kinds = {name: pd.CategoricalDtype(sorted(x[name].dropna().unique())) for name in _columns(x)[1]}
    model.fit(x.astype(kinds), task.numbered(y))
    predict = model.predict if task.is_values else model.predict_proba
    return lambda x: np.asarray(predict(x.astype(kinds)))


# -- pytabkit ---------------------------------------------------------------------------------------------------------


def realmlp(task: Task) -> Predict:
    """Fit pytabkit's RealMLP with its tuned defaults."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    kind = RealMLP_TD_Regressor if task.is_values else RealMLP_TD_Classifier
    settings = {"n_epochs": 2} if task.is_quick else {}
    return _of_pytabkit(task, kind(device="cpu", n_threads=os.cpu_count(), random_state=task.seed, **settings))


def tabm(task: Task) -> Predict:
    """Fit pytabkit's TabM with its defaults."""
    from pytabkit import TabM_D_Classifier, TabM_D_Regressor

    kind = TabM_D_Regressor if task.is_values else TabM_D_Classifier
    settings = {"n_epochs": 2, "tabm_k": 4, "d_block": 32} if task.is_quick else {}
    return _of_pytabkit(task, kind(device="cpu", n_threads=os.cpu_count(), random_state=task.seed, **settings))


def _of_pytabkit(task: Task, model: Any) -> Predict:
    (x, y), (held_out, targets) = task.parts.training, task.parts.validation
    text = _columns(x)[1]
    x, held_out = (rows.fillna(dict.fromkeys(text, "missing")) for rows in (x, held_out))
    medians = {name: x[name].median() for name in x.columns if name not in text}  # neither takes gaps in numbers
    model.fit(
        x.fillna(medians), task.numbered(y), X_val=held_out.fillna(medians), y_val=task.numbered(targets),
        cat_col_names=text,
    )  # fmt: skip
    predict = model.predict if task.is_values else model.predict_proba
    return lambda x: np.asarray(predict(x.fillna(dict.fromkeys(text, "missing")).fillna(medians)))


_RECIPES: dict[str, Recipe] = {
    "auto": get_recipe("auto"),
    "RealMLP": RealMLPRecipe(),
    "TabM": TabMRecipe(),
    "TabPack": TabPackRecipe(),
}

MODELS: dict[str, Callable[[Task], Predict]] = {
    "gradflow MLP": gradflow_mlp,
    **{f"gradflow {name}": partial(by_recipe, recipe=recipe) for name, recipe in _RECIPES.items()},
    "scikit-learn MLP": sklearn_mlp,
    "HistGradientBoosting": hist_gradient_boosting,
    "LightGBM": lightgbm,
    "XGBoost": xgboost,
    "CatBoost": catboost,
    "RealMLP": realmlp,
    "TabM": tabm,
}
"""The models by the name in the results; a new recipe is one more function."""
