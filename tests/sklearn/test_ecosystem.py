"""Estimators inside scikit-learn's own tools, as people use them."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingRandomSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import gradflow as gf
from gradflow.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"
)
X, Y = load_iris(return_X_y=True, as_frame=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
RANDOM = np.random.default_rng(0)
PEOPLE = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 90, 200).astype(float),
        "city": RANDOM.choice(["Rome", "Oslo", "Lima"], 200),
        "job": pd.Categorical(RANDOM.choice(["cook", "clerk"], 200)),
        "income": RANDOM.lognormal(10, 1, 200),
    }
)
BUYS = np.where((PEOPLE.city == "Rome") | (PEOPLE.income > 4e4), "yes", "no")


def classifier(**settings: Any) -> MLPClassifier:
    return MLPClassifier((16,), max_iter=80, random_state=0, learning_rate_init=0.01, **settings)


def test_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), classifier())
    assert pipeline.fit(X, NAMES).score(X, NAMES) > 0.9
    np.testing.assert_array_equal(pipeline[-1].feature_names_in_, X.columns)


def test_a_column_transformer() -> None:
    columns = ColumnTransformer([("text", OneHotEncoder(), ["city", "job"])], remainder=StandardScaler())
    assert make_pipeline(columns, classifier()).fit(PEOPLE, BUYS).score(PEOPLE, BUYS) > 0.85


def test_searches_over_processes() -> None:
    grid = {"hidden_layer_sizes": [(4,), (16,)], "alpha": [1e-4, 1e-2]}
    search = GridSearchCV(classifier(standardize=True), grid, cv=3, n_jobs=2).fit(X, NAMES)
    assert search.best_score_ > 0.8
    alone = GridSearchCV(classifier(standardize=True), grid, cv=3).fit(X, NAMES)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    halving = HalvingRandomSearchCV(
        classifier(), grid, cv=2, n_jobs=2, random_state=0, resource="max_iter", n_candidates=4, max_resources=32
    )
    assert halving.fit(X, NAMES).best_params_["alpha"] in (1e-4, 1e-2)


def _threads_of_a_worker() -> int:
    from gradflow.backends.cpu.native import native_library

    library = native_library()
    return 1 if library is None or library.blas is None else library.blas.threads or 1


def test_workers_of_a_process_pool_share_the_processors() -> None:
    workers = joblib.cpu_count()
    found = joblib.Parallel(n_jobs=workers, backend="loky")(
        joblib.delayed(_threads_of_a_worker)() for _ in range(workers)
    )
    assert set(found) == {1}


def test_cross_validation_returns_fitted_estimators() -> None:
    result = cross_validate(classifier(), X, NAMES, cv=3, return_estimator=True)
    assert [estimator.predict(X[:2]).dtype for estimator in result["estimator"]] == [NAMES.dtype] * 3


@pytest.mark.parametrize(
    "ensemble",
    [
        BaggingClassifier(classifier(), n_estimators=2, random_state=0),
        StackingClassifier([("net", classifier()), ("line", LogisticRegression(max_iter=500))], cv=2),
        CalibratedClassifierCV(classifier(), cv=2),
        OneVsRestClassifier(classifier()),
    ],
    ids=lambda of: type(of).__name__,
)
def test_ensembles(ensemble: Any) -> None:
    scaled = StandardScaler().fit_transform(X)
    assert ensemble.fit(scaled, NAMES).score(scaled, NAMES) > 0.8


def test_regressors_in_ensembles() -> None:
    x, y = X.iloc[:, 1:], X.iloc[:, 0]
    net = MLPRegressor(hidden_layer_sizes=(16,), standardize=True, random_state=0, learning_rate_init=0.01)
    assert VotingRegressor([("net", net), ("line", LinearRegression())]).fit(x, y).score(x, y) > 0.7
    assert TransformedTargetRegressor(net, transformer=StandardScaler()).fit(x, y).score(x, y) > 0.7


def test_inspection() -> None:
    model = classifier(standardize=True).fit(X, NAMES)
    importance = permutation_importance(model, X, NAMES, n_repeats=2, random_state=0)
    assert importance.importances_mean.max() > 0.1
    assert partial_dependence(model, X, features=[2], grid_resolution=4)["average"].shape == (3, 4)


def test_weights_are_routed() -> None:
    weight = np.linspace(0.1, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        model = classifier().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_validate(model, X, NAMES, cv=2, params={"sample_weight": weight})
    assert len(scores["test_score"]) == 2


def test_sparse_inputs_are_those_of_dense_ones() -> None:
    dense = np.where(np.abs(X) > 2, X, 0)
    for form in (scipy.sparse.csr_matrix, scipy.sparse.csc_array):
        model, other = classifier().fit(form(dense), NAMES), classifier().fit(dense, NAMES)
        assert model.predict_proba(form(dense)).tobytes() == other.predict_proba(dense).tobytes()


def test_a_large_sparse_matrix_is_made_dense_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, weight = np.where(np.abs(X) > 2, X, 0), np.linspace(0.1, 1, len(X))
    sparse = scipy.sparse.csr_matrix(dense)
    expected = classifier(early_stopping=True, class_weight="balanced").fit(dense, NAMES, weight)
    monkeypatch.setattr("gradflow.sklearn.sparse.DENSE_BYTES", 0)
    monkeypatch.setattr("gradflow.sklearn.sparse._BLOCK_BYTES", 320)
    model = classifier(early_stopping=True, class_weight="balanced").fit(sparse, NAMES, weight)
    assert model.predict_proba(sparse).tobytes() == expected.predict_proba(dense).tobytes()
    assert model.loss_curve_ == expected.loss_curve_
    model.set_params(early_stopping=False).partial_fit(sparse, NAMES)
    expected.set_params(early_stopping=False).partial_fit(dense, NAMES)
    assert model.predict_proba(sparse).tobytes() == expected.predict_proba(dense).tobytes()
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        classifier().fit(sparse, NAMES, -weight)


def test_joblib_writes_and_reads_fitted_estimators(tmp_path: Any) -> None:
    model = classifier(categorical_features="from_dtype", standardize=True).fit(PEOPLE, BUYS)
    joblib.dump(model, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    assert again.predict_proba(PEOPLE).tobytes() == model.predict_proba(PEOPLE).tobytes()


def test_tables_with_text_and_gaps() -> None:
    people = PEOPLE.copy()
    people.loc[::7, "age"] = np.nan
    people.loc[::9, "city"] = None
    model = classifier(categorical_features="from_dtype", standardize=True).fit(people, BUYS)
    assert model.score(people, BUYS) > 0.8
    unseen = people.assign(city="Kyoto")
    assert set(model.predict(unseen)) <= {"yes", "no"}
    with pytest.raises(ValueError, match="column 'city' of X holds no numbers"):
        classifier(standardize=True).fit(people, BUYS)
    with pytest.raises(ValueError, match="two columns named 'age'"):
        classifier(standardize=True).fit(people[["age", "age"]], BUYS)
    with pytest.raises(ValueError, match="Feature names"):
        model.predict(people.rename(columns={"age": "years"}))


def test_rules_of_single_columns() -> None:
    day = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(PEOPLE)), "D")
    people = PEOPLE.drop(columns="job").assign(day=day)
    with pytest.raises(ValueError, match=r"'day' .*holds times.*gradflow.data.Dates\(\)"):
        classifier().fit(people[["age", "day"]], BUYS)
    with pytest.raises(ValueError, match=r"'day' holds times.*rules= of .* an estimator"):
        classifier(standardize=True, categorical_features=gf.Embedding(size=3)).fit(people, BUYS)
    rules = {"city": gf.Embedding(size=5, missing="mark"), "day": gf.data.Dates(("weekday",))}
    for settings in ({"standardize": True}, {"categorical_features": gf.Embedding(size=3)}):
        model = classifier(rules=rules, **settings).fit(people, BUYS)
        expected = gf.data.fit_preprocessing(
            people,
            rules,
            numbers=gf.data.Standardize(missing="mark") if "standardize" in settings else gf.data.Unchanged(),
        )
        assert model.network_.preprocessing == expected
        assert model.network_.preprocessing.tables[0][1] == 5
        assert pickle.loads(pickle.dumps(model)).predict(people).tolist() == model.predict(people).tolist()
        assert model.predict(people.assign(day=people["day"].astype(str))).tolist() == model.predict(people).tolist()
    sizes = [gf.Embedding(size=size, missing="mark") for size in (1, 2)]
    search = GridSearchCV(classifier(standardize=True), {"categorical_features": sizes}, cv=2, error_score="raise")
    search.fit(PEOPLE, BUYS)
    best = search.best_estimator_
    assert best.network_.preprocessing.tables[0][1] == best.categorical_features.size


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_categories_may_be_embedded(solver: str) -> None:
    people = PEOPLE.copy()
    people.loc[::9, "city"] = None
    settings: dict[str, Any] = {"categorical_features": "embedding", "standardize": True, "residual": True}
    model = classifier(solver=solver, **settings).fit(people, BUYS)
    assert [type(layer).__name__ for layer in model.network_.layers[:2]] == ["EmbedColumns", "Dense"]
    assert model.score(people, BUYS) > 0.8
    assert model.coefs_[0].shape[0] == model.network_.layers[0].n_out
    assert len(model.coefs_) == model.n_layers_ - 1
    for twin in (pickle.loads(pickle.dumps(model)), clone(model).fit(people, BUYS)):
        assert twin.predict_proba(people).tobytes() == model.predict_proba(people).tobytes()
    assert set(model.predict(people.assign(city="Kyoto"))) <= {"yes", "no"}
    if solver == "adam":
        model.partial_fit(people, BUYS)


def test_targets_of_regressions_are_standardized_too() -> None:
    y = 1e6 + 1e5 * X.iloc[:, 0]
    model = MLPRegressor(hidden_layer_sizes=(16,), standardize=True, random_state=0, learning_rate_init=0.01).fit(X, y)
    assert model.score(X, y) > 0.95
    assert abs(model.predict(X).mean() / y.mean() - 1) < 0.01


def test_early_stopping_on_a_score_and_on_data_of_ones_own() -> None:
    x, y, held_out = X[50:], NAMES[50:], slice(None, None, 4)
    model = classifier(early_stopping=True, scoring="roc_auc").fit(x, y, X_val=x[held_out], y_val=y[held_out])
    assert all(0 <= score <= 1 for score in model.validation_scores_)
    from sklearn.metrics import roc_auc_score

    best = roc_auc_score(y[held_out], model.predict_proba(x[held_out])[:, 1])
    assert model.best_validation_score_ == pytest.approx(best)
    with pytest.raises(ValueError, match="early_stopping=True"):
        classifier().fit(x, y, X_val=x, y_val=y)
    with pytest.raises(ValueError, match="belong together"):
        classifier(early_stopping=True).fit(x, y, X_val=x)
    with pytest.raises(ValueError, match="classes not in"):
        classifier(early_stopping=True).fit(x, y, X_val=X, y_val=NAMES)


def test_shap_explains_every_prediction() -> None:
    """The values of a row and the base value add up to its prediction, and the petals matter most."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Matplotlib, about how SHAP uses it
        shap = pytest.importorskip("shap")
    x, width = X.to_numpy(), X.to_numpy()[:, 3]
    model = classifier(standardize=True).fit(x, NAMES)
    net = MLPRegressor(hidden_layer_sizes=(16,), standardize=True, random_state=0, learning_rate_init=0.01)
    for predict, inputs in ((model.predict_proba, x), (net.fit(x[:, :3], width).predict, x[:, :3])):
        explained = shap.explainers.Permutation(predict, inputs, seed=0)(inputs[::30])
        total = explained.base_values + explained.values.sum(axis=1)
        np.testing.assert_allclose(total, predict(inputs[::30]), rtol=1e-4, atol=1e-5)
        assert np.abs(explained.values).reshape(5, inputs.shape[1], -1).mean(axis=(0, 2)).argmax() >= 2
