"""Mistakes with data that users make: each message says what is wrong, and gives advice in the estimators' terms."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

pytest.importorskip("sklearn")
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.metrics import d2_pinball_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import gradflow as gf
from gradflow.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame({"age": RANDOM.integers(18, 90, 60).astype(float), "city": RANDOM.choice(["Rome", "Oslo"], 60)})
LABELS = np.where(TABLE.city == "Rome", "yes", "no")
TABLES: dict[str, Any] = {"standardize": True, "categorical_features": "from_dtype", "max_iter": 3, "random_state": 0}
BOTH = pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])


def targets(make: Any) -> np.ndarray:
    return LABELS if make is MLPClassifier else TABLE.age.to_numpy() / 50


@BOTH
def test_an_estimator_used_before_fit(make: Any) -> None:
    names = ["predict", *(["predict_proba", "predict_log_proba"] if make is MLPClassifier else [])]
    for name in names:
        with pytest.raises(NotFittedError, match=f"This {make.__name__} instance is not fitted yet. Call 'fit'"):
            getattr(make(), name)(TABLE[["age"]])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        make().score(TABLE[["age"]], targets(make))


def test_classes_missing_in_the_first_partial_fit() -> None:
    model = MLPClassifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        model.partial_fit(TABLE[["age"]], LABELS)
    with pytest.raises(ValueError, match=r"classes not in `self.classes_`.*'no'"):
        model.partial_fit(TABLE[["age"]], LABELS, classes=["no", "maybe"])
    assert vars(model) == vars(MLPClassifier())
    model.partial_fit(TABLE[["age"]], LABELS, classes=["maybe", "no", "yes"])
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(TABLE[["age"]], LABELS, classes=["no", "yes"])
    assert list(model.classes_) == ["maybe", "no", "yes"]


def test_a_target_with_one_class() -> None:
    """It is the answer to every question, with certainty, as in scikit-learn, whose own tests want no warning of it."""
    model = MLPClassifier(max_iter=3).fit(TABLE[["age"]], ["yes"] * 60)
    assert set(model.predict(TABLE[["age"]])) == {"yes"}
    assert model.predict_proba(TABLE[["age"]]).tolist() == [[1.0]] * 60


@BOTH
def test_a_table_at_fit_and_an_array_at_predict(make: Any) -> None:
    model = make(**TABLES).fit(TABLE, targets(make))
    expected = model.predict(TABLE)
    with pytest.warns(UserWarning, match=f"X does not have valid feature names, but {make.__name__} was"):
        np.testing.assert_array_equal(model.predict(TABLE.to_numpy()), expected)
    with pytest.raises(ValueError, match=r"must be in the same order as they were in fit"):
        model.predict(TABLE[["city", "age"]])
    with pytest.raises(ValueError, match=r"yet now missing:\n- city"):
        model.predict(TABLE[["age"]])
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- zip"):
        model.predict(TABLE.assign(zip=1))
    nameless = make(**TABLES).fit(TABLE.to_numpy(), targets(make))
    np.testing.assert_array_equal(nameless.predict(TABLE.to_numpy()), expected)
    with pytest.raises(ValueError, match=f"X has 1 features, but {make.__name__} is expecting 2 features"):
        nameless.predict(TABLE[["age"]].to_numpy())


@BOTH
def test_categories_never_seen_are_all_alike_and_no_category(make: Any) -> None:
    model = make(**TABLES).fit(TABLE, targets(make))
    kyoto, lima = (model.predict(TABLE.assign(city=city)) for city in ("Kyoto", "Lima"))
    np.testing.assert_array_equal(kyoto, lima)


@BOTH
def test_text_in_a_column_of_numbers(make: Any) -> None:
    model = make(**TABLES).fit(TABLE, targets(make))
    with pytest.raises(ValueError, match="column 'age' holds numbers, but 'old' in row 3; correct it"):
        model.predict(TABLE.assign(age=["old" if row == 3 else "41" for row in range(60)]))
    plain = make(max_iter=3).fit(TABLE[["age"]], targets(make))
    with pytest.raises(ValueError, match=r"column 'age' of X holds no numbers, .*'old'; in fit it did"):
        plain.predict(TABLE[["age"]].assign(age="old"))


@BOTH
@pytest.mark.parametrize(
    ("convert", "name"),
    [
        (lambda table: table, "city"),
        (lambda table: table.astype({"city": "category"}), "city"),
        (lambda table: table.astype({"city": object}), "city"),
        (pl.from_pandas, "city"),
        (lambda table: table.to_numpy(), "1"),
        (lambda table: table.to_numpy().tolist(), "1"),
    ],
    ids=["str", "category", "object", "polars", "array", "list"],
)
def test_text_without_categorical_features_names_the_column_and_the_remedy(make: Any, convert: Any, name: str) -> None:
    model = make()
    remedy = r"pass categorical_features='from_dtype' to encode it"
    with pytest.raises(ValueError, match=rf"column '{name}' of X holds no numbers.*'(Rome|Oslo)'; {remedy}"):
        model.fit(convert(TABLE), targets(make))
    with pytest.raises(ValueError, match=rf"column '{name}' of X holds no numbers.*; {remedy}"):
        make(standardize=True).fit(convert(TABLE), targets(make))
    assert vars(model) == vars(make())


@BOTH
def test_gaps_in_numbers_name_the_parameter_that_fills_them(make: Any) -> None:
    table = TABLE.assign(age=TABLE["age"].where(TABLE.index != 4))
    with pytest.raises(ValueError, match=r"column 'age' of X has no value in row 4\. Pass standardize=True"):
        make(categorical_features="from_dtype").fit(table, targets(make))
    make(categorical_features="from_dtype", rules={"age": gf.data.RobustScale(missing="fill")}, max_iter=2).fit(
        table, targets(make)
    )


@BOTH
@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (gf.data.Batches([(np.ones((9, 3)), np.ones(9))]), "gradflow.Trainer trains on sources"),
        (dict(TABLE), r"pandas.DataFrame\(X\)"),
        ("people.csv", r"pandas.read_csv\(X\)"),
        (pl.from_pandas(TABLE).lazy(), r"X.collect\(\)"),
    ],
    ids=["source", "dict", "path", "lazy"],
)
def test_data_that_only_networks_take(make: Any, data: Any, remedy: str) -> None:
    for settings in ({"max_iter": 3}, TABLES):
        model = make(**settings)
        with pytest.raises(ValueError, match=f"X must be an array or a table, got .*{remedy}"):
            model.fit(data, targets(make))
        with pytest.raises(ValueError, match=f"X must be an array or a table, got .*{remedy}"):
            model.fit(TABLE[["age"]], targets(make)).predict(data)


@BOTH
def test_a_column_that_is_there_twice(make: Any) -> None:
    for settings in ({}, TABLES):
        with pytest.raises(ValueError, match=r"X has (2|two) columns named 'age'; rename"):
            make(**settings).fit(TABLE[["age", "age"]], targets(make))
    model = make(max_iter=3).fit(TABLE[["age"]], targets(make))
    with pytest.raises(ValueError, match="X has 2 columns named 'age'; rename"):
        model.predict(TABLE[["age", "age"]])


@BOTH
def test_missing_values_without_standardize(make: Any) -> None:
    gaps = TABLE[["age"]].mask(TABLE[["age"]] > 50)
    with pytest.raises(ValueError, match=r"Input X contains NaN\. Pass standardize=True to replace missing values"):
        make().fit(gaps, targets(make))
    model = make(max_iter=3).fit(TABLE[["age"]], targets(make))
    with pytest.raises(ValueError, match="Input X contains NaN, which the estimator was fitted without"):
        model.predict(gaps)
    assert np.isfinite(MLPRegressor(standardize=True, max_iter=3).fit(gaps, TABLE.age).predict(gaps)).all()


@BOTH
@pytest.mark.parametrize("settings", [{"max_iter": 3}, TABLES], ids=["plain", "tables"])
def test_a_file_with_a_header_only(make: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("age,city,buys\n")
    empty = pd.read_csv(tmp_path / "empty.csv")
    with pytest.raises(ValueError, match=r"0 sample\(s\).*minimum of 1 is required"):
        make(**settings).fit(empty[["age"]], empty["buys"])
    fitted = make(**settings).fit(TABLE[["age"]], targets(make))
    with pytest.raises(ValueError, match=r"0 sample\(s\)|no rows|at least one row"):
        fitted.predict(empty[["age"]])
    with pytest.raises(gf.DataError, match=r"empty.csv.*(no rows|header)"):
        gf.data.fit_preprocessing(gf.data.CSV(tmp_path / "empty.csv", target="buys"))


def test_text_as_the_target_of_a_regression() -> None:
    for settings in ({}, TABLES):
        for y in (LABELS, LABELS.astype(object), pd.Series(LABELS), LABELS.tolist()):
            with pytest.raises(ValueError, match=r"y holds text, such as '(yes|no)', but MLPReg"):
                MLPRegressor(**settings).fit(TABLE[["age"]], y)


def test_a_model_file_whose_columns_or_classes_do_not_match(tmp_path: Path) -> None:
    model = MLPClassifier(**TABLES).fit(TABLE, LABELS)
    gf.save(model.network_, tmp_path / "model.safetensors")
    network = gf.load(tmp_path / "model.safetensors")
    with pytest.raises(gf.DataError, match="city"):
        network.predict(TABLE[["age"]])
    with pytest.raises(gf.DataError, match=r"x must have shape \(rows, 2\), as the preprocessing expects, got"):
        network.predict(TABLE[["age"]].to_numpy())
    with pytest.raises(gf.DataError, match="3 outputs"):
        gf.Trainer(gf.MLP([2, 3]), "softmax_cross_entropy", "adam").fit(np.ones((4, 2)), [0, 1, 2, 3], epochs=1)


@pytest.mark.filterwarnings("ignore::gradflow.TrainingWarning")
def test_a_target_with_gaps_or_mixed_types() -> None:
    x, missing = TABLE[["age"]], np.where(TABLE.age > 50, np.nan, TABLE.age)
    for settings in ({}, TABLES):
        with pytest.raises(ValueError, match="Input y contains NaN"):
            MLPRegressor(**settings).fit(x, missing)
        with pytest.raises(ValueError, match="Input y contains NaN"):
            MLPClassifier(**settings).fit(x, missing)
        for gap in (None, pd.NA):
            with pytest.raises(ValueError, match=r"y has no class in row 3, but (None|<NA>); omit rows"):
                MLPClassifier(**settings).fit(x, [gap if row == 3 else label for row, label in enumerate(LABELS)])
        with pytest.raises(ValueError, match="y mixes text and others, such as 'a' and 1; convert it to text"):
            MLPClassifier(**settings).fit(x, np.array(["a", 1] * 30, object))


@BOTH
def test_times_in_a_table(make: Any) -> None:
    table = TABLE[["age"]].assign(day=pd.date_range("2020", periods=60))
    with pytest.raises(ValueError, match="column 'day' of X holds times; pass rules="):
        make().fit(table, targets(make))
    with pytest.raises(ValueError, match="column 'day' holds times"):
        make(**TABLES).fit(table, targets(make))


# -- advice ------------------------------------------------------------------------------------------------------------


def advice(model: Any, x: Any, y: Any) -> str:
    """Return the warning of a fit; it points to the line of the user's program."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", gf.TrainingWarning)
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("always", gf.TrainingWarning)
        model.fit(x, y)
    (warning,) = caught
    return str(warning.message)


def test_advice_names_the_parameters_of_the_estimators() -> None:
    x, y = load_wine(return_X_y=True)
    text = advice(MLPClassifier(solver="sgd", random_state=0, max_iter=20), x, y)
    assert "Pass standardize=True, or scale X first. Try learning_rate_init below 0.001, or clip_norm=1.0" in text
    assert "preprocessing" not in text
    pipeline = make_pipeline(FunctionTransformer(), MLPClassifier(solver="sgd", random_state=0, max_iter=20))
    assert advice(pipeline, x, y) == text
    x, y = load_diabetes(return_X_y=True)
    text = advice(MLPRegressor(random_state=0, max_iter=50), x, y)
    assert "Targets are far from unit size: they have mean 152 and standard deviation 77. Pass standardize=True" in text
    assert "learning_rate_init above 0.001" in text
    scheduled = MLPRegressor(random_state=0, max_iter=50, schedule=gf.StepSchedule(0.001, every=100))
    assert "a schedule with a rate above 0.001" in advice(scheduled, x, y)
    assert "trainer" not in text


def test_advice_gives_the_rate_that_was_passed() -> None:
    """For several labels, the optimizer's rate is as many times the one that was passed."""
    x, _ = load_iris(return_X_y=True)
    labels = (x[:, :4] > x[:, :4].mean(axis=0)).astype(int)
    model = MLPClassifier(solver="sgd", learning_rate_init=50.0, momentum=0, random_state=0, max_iter=12)
    assert "learning_rate_init below 50" in advice(model, x, labels)


def test_advice_is_that_of_the_trainer_again_after_a_fit_that_failed() -> None:
    x, y = load_diabetes(return_X_y=True)
    failing = MLPRegressor(solver="sgd", learning_rate_init=0.1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"non-finite.*Pass standardize=True, or scale y first"):
            failing.fit(1000 * x, 1000 * y)
    trainer = gf.Trainer(gf.MLP([10, 100, 1], seed=0), "mean_squared_error", "adam")
    with pytest.warns(gf.TrainingWarning, match="Pass standardize_targets=True to the trainer"):
        trainer.fit(x, y, epochs=20, batch_size=200, progress=False)


# -- the scale of targets ----------------------------------------------------------------------------------------------


def test_targets_are_standardized_for_every_loss_that_allows_it() -> None:
    """A change of the units of y changes those of the predictions, and nothing else."""
    x, y = load_diabetes(return_X_y=True)
    two = np.column_stack([y, -3 * y + RANDOM.normal(size=len(y))])
    shift, scale = 5e3, 2.0**10
    losses = [
        "squared_error", "mean_absolute_error", gf.HuberLoss(0.5), gf.QuantileLoss([0.3]),
        gf.QuantileLoss([0.1, 0.5, 0.9]),
    ]  # fmt: skip
    for loss in losses:
        for of in (y, two):
            settings: dict[str, Any] = {"loss": loss, "standardize": True, "random_state": 0, "max_iter": 20}
            plain = MLPRegressor(**settings).fit(x, of).predict(x)
            other = MLPRegressor(**settings).fit(x, scale * (of + shift)).predict(x)
            np.testing.assert_allclose(other / scale - shift, plain, rtol=1e-2, atol=1.0)
            assert plain.std() > 1


def test_standardized_quantiles_have_the_fractions_that_they_say() -> None:
    x = RANDOM.normal(size=(2000, 2))
    y = np.column_stack([1e4 + 500 * x[:, 0], 3e-3 * x[:, 1]]) + RANDOM.normal(size=(2000, 2)) * [200, 1e-3]
    model = MLPRegressor(
        gf.QuantileLoss([0.1, 0.5, 0.9]), (32,), standardize=True, learning_rate_init=0.01, max_iter=60, random_state=0
    ).fit(x, y)
    predicted = model.predict(x).reshape(2000, 2, 3)
    np.testing.assert_allclose((y[:, :, None] < predicted).mean(axis=0), [[0.1, 0.5, 0.9]] * 2, atol=0.06)
    parts = [d2_pinball_score(y, predicted[:, :, place], alpha=level) for place, level in enumerate([0.1, 0.5, 0.9])]
    assert model.score(x, y) == pytest.approx(np.mean(parts))
    assert model.score(x, y) > 0.3


def test_early_stopping_and_searches_judge_quantiles_by_their_own_score() -> None:
    x = RANDOM.normal(size=(600, 2))
    y, weight = x[:, 0] + RANDOM.exponential(size=600), np.linspace(0.1, 1, 600)
    model = MLPRegressor(gf.QuantileLoss([0.9]), early_stopping=True, random_state=0, max_iter=40)
    model.fit(x, y, weight, X_val=x[:200], y_val=y[:200], sample_weight_val=weight[:200])
    expected = d2_pinball_score(y[:200], model.predict(x[:200]), alpha=0.9, sample_weight=weight[:200])
    assert model.best_validation_score_ == pytest.approx(expected)
    search = GridSearchCV(model.set_params(loss=gf.QuantileLoss([0.1, 0.9])), {"alpha": [1e-4, 100.0]}, cv=2)
    assert search.fit(x, y).best_params_ == {"alpha": 1e-4}


@BOTH
def test_lists_of_numbers_and_text_are_the_columns_of_a_table(make: Any) -> None:
    model = make(**TABLES).fit(TABLE.to_numpy().tolist(), targets(make))
    expected = make(**TABLES).fit(TABLE, targets(make))
    assert model.network_.n_in == expected.network_.n_in
    np.testing.assert_array_equal(model.predict(TABLE.to_numpy().tolist()), expected.predict(TABLE))
