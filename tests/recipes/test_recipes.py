"""Recipes: what each decides, and what comes out of it."""

from __future__ import annotations

import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gradflow as gf
from gradflow.data.columns import CategoryColumn, EmbeddingColumn
from gradflow.optimizers.factors import segments
from gradflow.recipes import (
    AUTO,
    AUTO_NETWORKS,
    RECIPES,
    PlainRecipe,
    Prepared,
    RealMLPRecipe,
    Recipe,
    TableTask,
    TabMRecipe,
    TabPackRecipe,
    get_recipe,
)
from gradflow.recipes.base import some_rows
from gradflow.recipes.tabpack import Drawn

SMALL: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 30, "hidden": (16,), "batch_size": 32, "learning_rate": 0.01},
    "tabm": {"epochs": 20, "hidden": (16,), "batch_size": 32, "learning_rate": 0.01, "members": 4},
    "realmlp": {"epochs": 15, "hidden": (16, 16), "batch_size": 32},
    "tabpack": {"epochs": 60, "width": 16, "batch_size": 32, "networks": 6, "dropout": 0.0},
}
"""Settings with which a recipe is trained in moments."""


def table(rows: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return columns of numbers with gaps, of text, and of many categories, with the numbers to predict."""
    random = np.random.default_rng(seed)
    x = pd.DataFrame({name: random.normal(size=rows) for name in ("a", "b")})
    x["kind"] = random.choice(["red", "green", "blue"], rows)
    x["town"] = random.choice([f"town {place}" for place in range(20)], rows)
    y = 3 * x["a"] + np.where(x["kind"] == "red", 5.0, 0.0) + np.where(x["town"] < "town 15", 2.0, 0.0) + 10
    x.loc[::7, "b"] = np.nan
    return x, y.to_numpy()


def prepared(recipe: Recipe, x: Any, *, classes: bool, seed: int = 0) -> Prepared:
    loss = recipe.loss_of_classes() if classes else gf.MeanSquaredError()
    names = ["high", "low"] if classes else None
    return recipe.prepare(x, TableTask(len(x), 2 if classes else 1, loss), classes=names, seed=seed, backend="numpy")


def test_each_recipe_has_small_settings_here() -> None:
    assert SMALL.keys() == RECIPES.keys()


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "numbers"])
@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_learns(name: str, classes: bool, tmp_path: Path) -> None:
    (x, y), (held_out, targets) = gf.data.split(*table())
    if classes:
        y, targets = (np.where(each > 12, "high", "low") for each in (y, targets))
    recipe = get_recipe(name).changed(**SMALL[name])
    ready = prepared(recipe, x, classes=classes)
    model = ready.fit(x, y, validation_data=(held_out, targets), progress=False)
    if classes:
        assert np.mean(model.predict_classes(held_out) == targets) > 0.85
    else:
        errors = model.predict(held_out)[:, 0] - targets
        assert np.sqrt(np.mean(errors**2)) < 0.7 * targets.std()
    gf.save(model, tmp_path / "model.safetensors")
    assert np.array_equal(gf.load(tmp_path / "model.safetensors").predict(held_out), model.predict(held_out))


def numbers_alone(random: np.random.Generator) -> tuple[Any, np.ndarray]:
    x = random.normal(size=(400, 4))
    return x, 2 * x[:, 0] - x[:, 1] + abs(x[:, 2])


def of_odd_scales(random: np.random.Generator) -> tuple[Any, np.ndarray]:
    x, y = numbers_alone(random)
    others = np.column_stack([np.full(400, 7.0), random.normal(size=400) > 1])
    return np.column_stack([x * [1e-30, 1e20, 1e6, 1.0] + [0, 0, 1e7, 1e6], others]), 1e12 * y + 1e13


def one_column(random: np.random.Generator) -> tuple[Any, np.ndarray]:
    x = random.uniform(-2, 2, (400, 1))
    return x, np.sin(2 * x[:, 0]) + x[:, 0]


def categories_alone(random: np.random.Generator) -> tuple[Any, np.ndarray]:
    x = pd.DataFrame({"kind": random.choice(list("abcde"), 400), "town": random.choice(list("vwxyz"), 400)})
    return x, 2.0 * (x["kind"] < "c").to_numpy() + (x["town"] == "x").to_numpy()


@pytest.mark.parametrize("data", [numbers_alone, of_odd_scales, one_column, categories_alone])
@pytest.mark.parametrize("name", SMALL)
def test_half_of_the_spread_is_the_most_that_a_recipe_errs(name: str, data: Any) -> None:
    (x, y), (held_out, targets) = gf.data.split(*data(np.random.default_rng(1)))
    recipe = get_recipe(name).changed(**SMALL[name])
    ready = prepared(recipe.changed(epochs=min(recipe.epochs, 30)), x, classes=False)
    model = ready.fit(x, y, validation_data=(held_out, targets), progress=False)
    errors = model.predict(held_out)[:, 0] - targets
    assert np.sqrt(np.mean(errors**2)) < 0.5 * targets.std()


def test_the_plain_recipe_begins_with_one_answer() -> None:
    x, y = table()
    network = prepared(PlainRecipe(), x, classes=False).trainers[0].network
    assert np.all(network.predict(x) == 0)
    same = np.full(len(y), 3.5)
    model = prepared(PlainRecipe(epochs=2), x, classes=False).fit(x, same, validation_data=(x, same), progress=False)
    assert np.all(model.predict(x) == 3.5)


@pytest.mark.parametrize("name", SMALL)
def test_a_recipe_is_copied_and_described(name: str) -> None:
    recipe = get_recipe(name).changed(**SMALL[name])
    for same in (copy.deepcopy(recipe), pickle.loads(pickle.dumps(recipe)), type(recipe)(**recipe.config())):
        assert same.config() == recipe.config()
    assert type(recipe).__name__ in repr(recipe)


@pytest.mark.parametrize("name", SMALL)
def test_a_seed_decides_all(name: str) -> None:
    (x, y), validation = gf.data.split(*table(100))
    recipe = get_recipe(name).changed(**{**SMALL[name], "epochs": 2})
    predictions = [
        prepared(recipe, x, classes=False, seed=seed)
        .fit(x, y, validation_data=validation, progress=False)
        .predict(validation[0])
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(predictions[0], predictions[1])
    assert not np.array_equal(predictions[0], predictions[2])


def test_several_networks_are_an_ensemble() -> None:
    (x, y), validation = gf.data.split(*table(100))
    recipe = PlainRecipe(networks=3, **{**SMALL["plain"], "epochs": 2})
    model = prepared(recipe, x, classes=False, seed=5).fit(x, y, validation_data=validation, progress=False)
    assert isinstance(model, gf.Ensemble)
    assert [network.seed for network in model.networks] == [5, 6, 7]


def test_names_of_recipes() -> None:
    assert (get_recipe("auto").name, get_recipe("auto").networks) == (AUTO, AUTO_NETWORKS)
    assert get_recipe(recipe := RealMLPRecipe(epochs=3)) is recipe
    with pytest.raises(gf.DataError, match="realmlp"):
        get_recipe("realmpl")
    with pytest.raises(gf.DataError, match="dropout"):
        RealMLPRecipe().changed(dropuot=0.3)
    with pytest.raises(gf.DataError, match="schedule"):
        RealMLPRecipe(without=["schedules"])


# -- columns ----------------------------------------------------------------------------------------------------------


def test_only_gaps_that_occur_are_marked() -> None:
    x, _ = table()
    preprocessing = prepared(RealMLPRecipe(), x, classes=True).trainers[0].network.preprocessing
    assert preprocessing.output_names[:3] == ["a", "b", "b is missing"]
    gone = preprocessing.transform(pd.DataFrame({"a": [np.nan], "b": [np.nan], "kind": [None], "town": ["nowhere"]}))
    assert gone[0, :3].tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", SMALL)
def test_times_are_expanded_and_their_gaps_marked(name: str) -> None:
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(40), "D")
    x = pd.DataFrame({"a": np.arange(40) % 7, "sold": days, "paid": [None, *days[1:].date]})
    preprocessing = prepared(get_recipe(name), x, classes=True).trainers[0].network.preprocessing
    of_times = [each for each in preprocessing.output_names if each.startswith(("sold", "paid"))]
    cycles = ["month sin", "month cos", "weekday sin", "weekday cos"]
    assert of_times == [f"{each} {part}" for each in ("sold", "paid") for part in ("elapsed", *cycles)] + [
        "paid is missing"
    ]
    assert np.array_equal(preprocessing.transform(x.assign(sold=days.astype(object))), preprocessing.transform(x))


@pytest.mark.parametrize("name", SMALL)
def test_names_and_dates_are_doubted_as_categories(name: str) -> None:
    x = pd.DataFrame({"name": [f"row {row}" for row in range(30)], "a": np.arange(30.0)})
    with pytest.warns(gf.DataWarning, match="'name' has 30 different texts in 30 rows"):
        prepared(get_recipe(name).changed(**SMALL[name]), x, classes=True)


def test_columns_with_many_categories_are_embedded() -> None:
    x = pd.DataFrame({f"{count}": [f"{row % count}" for row in range(90)] for count in (8, 9)})
    columns = prepared(RealMLPRecipe(), x, classes=True).trainers[0].network.preprocessing.columns
    assert [type(column) for column in columns] == [CategoryColumn, EmbeddingColumn]
    assert columns[1].size == 8


# -- RealMLP ----------------------------------------------------------------------------------------------------------


def test_realmlp_is_that_of_the_paper() -> None:
    x, _ = table()
    trainer = prepared(RealMLPRecipe(), x, classes=False).trainers[0]
    kinds = [type(layer).__name__ for layer in trainer.network.layers]
    block = ["Dense", "Parametric", "Dropout"]
    assert kinds == ["EmbedColumns", "PeriodicEmbedding", "Scale", *block * 3, "Dense"]
    # Numbers a and b become 4 inputs each; then come the mark of b, three kinds and the 8 numbers of a town.
    assert [layer.n_in for layer in trainer.network.layers if isinstance(layer, gf.Dense)] == [20, 256, 256, 256]
    optimizer = trainer.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon) == (0.9, 0.95, 1e-8)
    assert optimizer.schedule.config() == {"learning_rate": 0.2, "cycles": 4}
    assert (trainer.standardize_targets, trainer.clamp_predictions) == (True, True)


def test_rates_and_decays_of_realmlp() -> None:
    network = (trainer := prepared(RealMLPRecipe(), table()[0], classes=True).trainers[0]).network
    optimizer = trainer.optimizer
    found = segments(network.layers, network.parameter_ranges, optimizer.factors, optimizer.decay_factors)

    def of(parameter: str) -> tuple[float, float]:
        """Return the factor of the rate, and of what weight decay takes away in a step."""
        _, end = network.parameter_ranges[parameter]
        rate, decay = next((rate, decay) for last, rate, decay in found if end <= last)
        return rate, rate * decay

    assert of("3.weight") == pytest.approx((1 / math.sqrt(20), 1))
    assert of("6.weight") == pytest.approx((1 / 16, 1))
    assert of("3.bias")[0] == pytest.approx(0.1)
    assert of("2.scale") == pytest.approx((6, 36))
    assert of("4.alpha") == pytest.approx((0.1, 0.01))
    assert of("1.frequencies") == pytest.approx((0.1, 0.01))
    assert of("1.bias")[0] == pytest.approx(0.1)
    assert of("0.table_0") == (1, 1)


def test_initial_weights_are_fitted_to_rows_of_a_whole_file(tmp_path: Path) -> None:
    x, y = table(400)
    x = x.sort_values("a", ignore_index=True)
    x.assign(y=y).to_csv(tmp_path / "sorted.csv", index=False)
    source = gf.data.CSV(tmp_path / "sorted.csv", target="y", block_rows=64)
    of_file, of_table = (prepared(RealMLPRecipe(hidden=(8,)), rows, classes=False) for rows in (source, x))
    assert np.array_equal(of_file.trainers[0].network.state, of_table.trainers[0].network.state)
    some = some_rows(source, 50, seed=1)
    assert len(some) == 50
    assert np.array_equal(some.columns[0], some_rows(x, 50, seed=1)["a"])
    assert set(some.columns[2]) == {"red", "green", "blue"}


def test_settings_of_realmlp() -> None:
    loss = gf.MeanSquaredError()
    settings = RealMLPRecipe().settings(TableTask(5000, 1, loss))
    stopping = settings.pop("early_stopping")
    assert settings == {"epochs": 256, "batch_size": 256, "drop_last": True}
    assert stopping.config() == {"monitor": "val_loss", "patience": 256, "min_delta": 0.0, "ties": "last"}
    sizes = [
        RealMLPRecipe(batch_size="auto").rows_of_a_batch(rows) for rows in (40, 1024, 1025, 30_000, 100_000, 100_001)
    ]
    assert sizes == [40, 64, 128, 256, 512, 1024]
    assert RealMLPRecipe().loss_of_classes().config()["label_smoothing"] == 0
    assert RealMLPRecipe(monitor="accuracy").loss_of_classes().config()["label_smoothing"] == 0.1
    assert RealMLPRecipe(monitor="accuracy", label_smoothing=0).loss_of_classes().config()["label_smoothing"] == 0


@pytest.mark.parametrize("block", gf.recipes.realmlp.BLOCKS)
def test_realmlp_without_a_block(block: str) -> None:
    (x, y), validation = gf.data.split(*table(100))
    recipe = RealMLPRecipe(without=[block], hidden=(8,), epochs=2, batch_size=32)
    network = prepared(recipe, x, classes=False).fit(x, y, validation_data=validation, progress=False)
    whole = prepared(recipe.changed(without=[]), x, classes=False).fit(x, y, validation_data=validation, progress=False)
    assert not np.array_equal(network.predict(x), whole.predict(x))


# -- TabM -------------------------------------------------------------------------------------------------------------


def test_tabm_is_that_of_the_authors() -> None:
    trainer = prepared(TabMRecipe(), table()[0], classes=False).trainers[0]
    kinds = [type(layer).__name__ for layer in trainer.network.layers]
    assert kinds == ["EachMember", "MeanOfMembers"]
    inner: Any = trainer.network.layers[0]
    assert inner.members == 32
    assert [type(layer).__name__ for layer in inner.layers] == [*["Dense", "ReLU", "Dropout"] * 3, "MemberDense"]
    assert [layer.rate for layer in inner.layers if isinstance(layer, gf.Dropout)] == [0.1] * 3
    assert inner.chunks == [1, 1, 1, 3, 20]  # two numbers, a mark, and the categories of two columns
    assert isinstance(trainer.optimizer, gf.AdamW)
    assert trainer.optimizer.config()["weight_decay"] == 3e-4
    settings = TabMRecipe().settings(TableTask(5000, 1, gf.MeanSquaredError()))
    assert settings.pop("early_stopping").config() == {"monitor": "val_loss", "patience": 16, "min_delta": 0.0}
    assert settings == {"epochs": 1000, "batch_size": 256}
    assert [TabMRecipe().rows_of_a_batch(rows) for rows in (10, 256, 257, 10**6)] == [10, 16, 256, 256]


# -- TabPack ----------------------------------------------------------------------------------------------------------


def test_tabpack_is_that_of_the_authors() -> None:
    x, _ = table()
    trainers = prepared(TabPackRecipe(networks=12), x, classes=True, seed=7).trainers
    for seed, trainer in enumerate(trainers, start=7 * 12):
        drawn, layers = Drawn.of_seed(seed), trainer.network.layers
        dropout = ["Dropout"] if drawn.dropout else []
        blocks = ["Dense", "ReLU", *dropout] * drawn.blocks
        assert [type(layer).__name__ for layer in layers] == ["CosineEmbedding", *blocks, "Dense"]
        assert (layers[0].columns, layers[0].size, layers[0].std) == (2, drawn.embedding, drawn.std)
        assert {layer.rate for layer in layers if isinstance(layer, gf.Dropout)} <= {drawn.dropout}
        widths = [layer.n_out for layer in layers if isinstance(layer, gf.Dense)]
        assert widths == [384] * drawn.blocks + [2]
        limit = 1 / math.sqrt(layers[1].n_in)
        largest = abs(trainer.network.get_weights()["1.weight"]).max()
        assert 0.99 * limit < largest <= limit * (1 + 1e-6)
        optimizer = trainer.optimizer
        assert isinstance(optimizer, gf.Muon)
        assert (optimizer.momentum, optimizer.nesterov, optimizer.adjust) == (0.95, True, "original")
        assert (optimizer.learning_rate, optimizer.weight_decay) == (drawn.muon_rate, drawn.weight_decay)
        assert optimizer.adamw_factor * drawn.muon_rate == pytest.approx(drawn.adamw_rate)
    settings = TabPackRecipe().settings(TableTask(5000, 2, gf.SoftmaxCrossEntropy()))
    assert settings.pop("early_stopping").config() == {"monitor": "val_loss", "patience": 16, "min_delta": 0.0}
    assert repr(settings.pop("ensemble")) == "EnsembleSelection('loss', size=32, patience=32)"
    assert settings == {"epochs": 1000, "batch_size": 256}
    assert TabPackRecipe().networks == 64
    assert [TabPackRecipe().rows_of_a_batch(rows) for rows in (40, 257, 32_000, 32_001, 128_001)] == [
        16,
        256,
        256,
        512,
        1024,
    ]


def test_hyperparameters_of_tabpack_are_drawn_from_all_of_their_ranges() -> None:
    drawn = [Drawn.of_seed(seed) for seed in range(2000)]
    assert {each.blocks for each in drawn} == {1, 2, 3}
    assert {each.embedding for each in drawn} == set(range(8, 33, 4))
    rates = np.array([each.dropout for each in drawn])
    assert 0.4 < np.mean(rates == 0) < 0.6
    assert 0.49 < rates.max() < 0.5
    ranges = {"std": (0.01, 10), "muon_rate": (1e-3, 0.1), "adamw_rate": (1e-4, 5e-3), "weight_decay": (1e-3, 1)}
    for name, (low, high) in ranges.items():
        values = np.array([getattr(each, name) for each in drawn])
        assert low <= values.min() < 1.05 * low
        assert high / 1.05 < values.max() <= high
        assert np.sqrt(low * high) / 1.3 < np.median(values) < 1.3 * np.sqrt(low * high)


def test_the_ensemble_of_tabpack_is_chosen_on_validation_rows() -> None:
    (x, y), validation = gf.data.split(*table(100))
    recipe = TabPackRecipe(networks=3, width=8, ensemble=2, epochs=3, batch_size=32)
    ready = prepared(recipe, x, classes=False)
    model = ready.fit(x, y, validation_data=validation, progress=False)
    assert isinstance(model, gf.Ensemble)
    assert len(model) <= 2
    assert ready.pack is not None
    assert model is ready.pack.ensemble
    recipe = recipe.changed(networks=1)
    single = prepared(recipe, x, classes=False).fit(x, y, validation_data=validation, progress=False)
    assert isinstance(single, gf.Ensemble)
