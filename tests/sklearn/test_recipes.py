"""Estimators with a recipe."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import gradflow as gf
from gradflow.recipes import PlainRecipe, RealMLPRecipe
from gradflow.sklearn import MLPClassifier, MLPRegressor, PackSearchCV
from tests.recipes.test_recipes import SMALL, table

pytestmark = pytest.mark.filterwarnings(
    "ignore::gradflow.TrainingWarning",
    "ignore::gradflow.SlowPathWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
BOTH = pytest.mark.parametrize("make", [MLPClassifier, MLPRegressor])
TINY = PlainRecipe(hidden=(8,), epochs=3, batch_size=32)


def small(name: str) -> gf.recipes.Recipe:
    return gf.recipes.get_recipe(name).changed(**SMALL[name])


def data(make: Any, rows: int = 200) -> tuple[Any, np.ndarray]:
    x, y = table(rows)
    return x, np.where(y > 12, "high", "low") if make is MLPClassifier else y


@BOTH
@pytest.mark.parametrize("name", SMALL)
def test_a_table_as_it_is(make: Any, name: str, tmp_path: Path) -> None:
    x, y = data(make)
    weight = np.linspace(0.5, 2, len(x))
    model = make(recipe=small(name), random_state=0).fit(x, y, weight)
    assert model.score(x, y) > (0.8 if make is MLPClassifier else 0.4)
    assert model.n_iter_ == len(model.loss_curve_) == len(model.validation_scores_)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert [weight.ndim for weight in model.coefs_] == [2] * (model.n_layers_ - 1)
    again = clone(model).fit(x, y, weight)
    predict = "predict_proba" if make is MLPClassifier else "predict"
    expected = getattr(model, predict)(x)
    for same in (again, pickle.loads(pickle.dumps(model))):
        assert getattr(same, predict)(x).tobytes() == expected.tobytes()
    gf.save(model.network_, tmp_path / "model.safetensors")
    assert np.array_equal(gf.load(tmp_path / "model.safetensors").predict(x), model.network_.predict(x))
    assert make(recipe=small(name), random_state=1).fit(x, y, weight).loss_curve_ != model.loss_curve_


@pytest.mark.parametrize("name", SMALL)
def test_onnx_predicts_the_same(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    x, y = data(MLPRegressor)
    model = MLPRegressor(recipe=small(name).changed(epochs=3), random_state=0).fit(x, y)
    gf.to_onnx(getattr(model, "ensemble_", model.network_), tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    columns = {
        name: x[name].to_numpy(object if x[name].dtype.kind == "O" else np.float64)[:, None] for name in x.columns
    }
    np.testing.assert_allclose(session.run(None, columns)[0][:, 0], model.predict(x), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SMALL)
def test_on_a_gpu(name: str) -> None:
    x, y = data(MLPRegressor, 80)
    recipe = small(name).changed(epochs=2)
    settings: dict[str, Any] = {"recipe": recipe, "dropout": 1e-9, "random_state": 0}
    on_gpu = MLPRegressor(backend="cupy", **settings).fit(x, y)
    on_cpu = MLPRegressor(backend="numpy", **settings).fit(x, y)
    np.testing.assert_allclose(on_gpu.predict(x), on_cpu.predict(x), rtol=1e-3, atol=1e-3)


EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are held out at random",
    "check_regressors_train": "it sets alpha, which a recipe decides",
}


@parametrize_with_checks(
    [
        kind(recipe=PlainRecipe(hidden=(16,), epochs=60, batch_size=32, learning_rate=0.02), backend="numpy")
        for kind in (MLPClassifier, MLPRegressor)
    ],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_estimator_keeps_what_scikit_learn_asks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_parameters_change_the_recipe() -> None:
    x, y = data(MLPClassifier)
    model = MLPClassifier(
        recipe="realmlp", hidden_layer_sizes=(8, 4), activation="tanh", max_iter=2, batch_size=64, random_state=0
    ).fit(x, y)
    network = model.network_
    assert [layer.n_out for layer in network.layers if isinstance(layer, gf.Dense)] == [8, 4, 2]
    assert {layer.activation for layer in network.layers if isinstance(layer, gf.Parametric)} == {"tanh"}
    assert model.n_iter_ == 2
    several = MLPClassifier(recipe=TINY, n_members=3, random_state=0).fit(x, y)
    assert len(several.ensemble_) == 3
    mean = np.mean([network.predict(x) for network in several.ensemble_.networks], axis=0)
    np.testing.assert_allclose(several.predict_proba(x), mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "realmpl"}, "unknown recipe 'realmpl'"),
        ({"recipe": RealMLPRecipe}, "create an object: RealMLPRecipe"),
        ({"recipe": "tabm", "solver": "sgd"}, "recipe='tabm' decides that itself: omit solver='sgd'"),
        ({"recipe": "tabm", "standardize": True}, "omit standardize=True"),
        ({"recipe": "plain", "warm_start": True}, "omit warm_start=True"),
        ({"recipe": "realmlp", "n_iter_no_change": 5}, "recipe='realmlp' has no use for n_iter_no_change=5; omit it"),
        ({"recipe": "plain", "scoring": max}, "with a recipe, scoring must be one of accuracy, "),
        ({"recipe": "plain", "hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
    ],
)
@BOTH
def test_what_contradicts_a_recipe_is_refused(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings).fit(*data(make, 40))


@BOTH
def test_sparse_matrices_and_further_passes_are_refused(make: Any) -> None:
    model = make(recipe=TINY, random_state=0)
    x, y = np.eye(40), np.arange(40) % 2
    with pytest.raises(gf.DataError, match="not a sparse matrix"):
        model.fit(csr_matrix(x), y)
    model.fit(x, y)
    with pytest.raises(gf.DataError, match="not a sparse matrix"):
        model.predict(csr_matrix(x))
    assert not hasattr(model, "partial_fit")
    model.set_params(recipe=None, warm_start=True)
    for train in (model.fit, model.partial_fit):
        with pytest.raises(gf.DataError, match="clone the estimator to train another one"):
            train(x, y)
    model.set_params(warm_start=False, max_iter=3).fit(x, y).partial_fit(x, y)


def test_the_scorer_decides_which_epoch_is_best() -> None:
    x, y = data(MLPClassifier)
    loss, accuracy, area = (
        MLPClassifier(recipe=TINY, scoring=scoring, random_state=0).fit(x, y)
        for scoring in (None, "accuracy", "roc_auc")
    )
    assert max(loss.validation_scores_) < 0
    assert all(0 <= score <= 1 for model in (accuracy, area) for score in model.validation_scores_)
    smoothed = MLPClassifier(recipe=RealMLPRecipe(epochs=1, hidden=(8,)), scoring="accuracy").fit(x, y)
    assert smoothed._make_loss().config()["label_smoothing"] == 0.1


def test_rows_of_ones_own_decide_which_epoch_is_best() -> None:
    x, y = data(MLPClassifier)
    model = MLPClassifier(recipe=TINY, random_state=0).fit(x, y, X_val=x[:50], y_val=y[:50])
    assert model.t_ == 3 * len(x)
    with pytest.raises(ValueError, match="pass both or neither"):
        model.fit(x, y, X_val=x)


def test_searches_try_recipes() -> None:
    x, y = make_classification(80, random_state=0)
    grid = {"recipe": [TINY, PlainRecipe(hidden=(8,), epochs=40, learning_rate=0.05)]}
    search = GridSearchCV(MLPClassifier(random_state=0), grid, cv=2, error_score="raise").fit(x, y)
    assert search.best_params_["recipe"] is grid["recipe"][1]
    packed = PackSearchCV(MLPClassifier(random_state=0), grid, n_iter=2, cv=2).fit(x, y)
    np.testing.assert_allclose(packed.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])


def test_weights_of_classes_and_several_targets() -> None:
    x, y = data(MLPClassifier)
    plain, weighted = (
        MLPClassifier(recipe=TINY, class_weight=weight, random_state=0).fit(x, y).predict_proba(x)[:, 0].mean()
        for weight in (None, {"high": 50.0})
    )
    assert weighted > plain
    labels = np.stack([y == "high", np.arange(len(y)) % 2 == 0], axis=1).astype(int)
    assert MLPClassifier(recipe=TINY, random_state=0).fit(x, labels).predict_proba(x).shape == (len(x), 2)
    numbers = np.stack([np.arange(len(y)), -np.arange(len(y))], axis=1)
    assert MLPRegressor(recipe=TINY, random_state=0).fit(x, numbers).predict(x).shape == (len(x), 2)
    quantiles = MLPRegressor(recipe=TINY, loss=gf.QuantileLoss([0.1, 0.9]), random_state=0).fit(x, numbers[:, 0])
    assert quantiles.predict(x).shape == (len(x), 2)


def test_a_run_folder_and_printed_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = data(MLPClassifier)
    model = MLPClassifier(recipe=TINY, random_state=0, verbose=True, output=tmp_path / "run").fit(x, y)
    assert [line.partition(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        "Iteration 1", "Iteration 2", "Iteration 3",
    ]  # fmt: skip
    assert np.array_equal(gf.load(tmp_path / "run").predict(x), model.network_.predict(x))


def test_ctrl_c_keeps_what_was_learned() -> None:
    class Interrupts(gf.Callback):
        def on_epoch_end(self, trainer: Any, epoch: int, values: Any) -> None:
            if epoch == 2:
                import signal

                signal.raise_signal(signal.SIGINT)

    x, y = data(MLPClassifier)
    model = MLPClassifier(recipe=TINY, random_state=0, callbacks=[Interrupts()])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(x, y)
    assert model.n_iter_ == 2
    assert len(model.predict(x)) == len(x)


def test_a_fit_that_diverges_leaves_the_estimator_as_it_was() -> None:
    x, y = data(MLPRegressor)
    model = MLPRegressor(recipe=TINY, random_state=0).fit(x, y)
    before = model.predict(x)
    with pytest.raises(ValueError, match="NaN or infinite"):
        model.set_params(recipe=TINY.changed(learning_rate=1e30, epochs=20)).fit(x, y)
    assert np.array_equal(model.predict(x), before)
