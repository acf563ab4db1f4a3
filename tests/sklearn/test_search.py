"""`PackSearchCV` against scikit-learn's `RandomizedSearchCV`, whose results it must have."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, RandomizedSearchCV, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import gradflow as gf
from gradflow.backends.blas import numpy_blas, using_threads
from gradflow.sklearn import MLPClassifier, MLPRegressor, PackSearchCV
from gradflow.sklearn.shared_rows import Fit

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]
DRAWN = {"alpha": loguniform(1e-5, 1e-1), "hidden_layer_sizes": [(8,), (16,), (8, 8)]}
TIMES = ("fit_time", "score_time")


def classifier(**settings: Any) -> MLPClassifier:
    return MLPClassifier(max_iter=8, random_state=0, backend="numpy", **settings)


def assert_same_results(ours: Any, theirs: Any, x: np.ndarray = X) -> None:
    assert ours.best_params_ == theirs.best_params_
    assert ours.cv_results_.keys() == theirs.cv_results_.keys()
    for name, values in ours.cv_results_.items():
        if not any(time in name for time in TIMES):
            np.testing.assert_array_equal(np.asarray(values), np.asarray(theirs.cv_results_[name]), err_msg=name)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))


@pytest.fixture(autouse=True)
def _not_converged() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Stochastic Optimizer: Maximum iterations")
        yield


@pytest.fixture
def sharing(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """The fits that train on data that they share."""
    fits: list[Fit] = []
    run = Fit.run

    def noted(fit: Fit) -> None:
        fits.append(fit)
        run(fit)

    monkeypatch.setattr(Fit, "run", noted)
    return fits


def assert_same_as_alone(
    model: Any, drawn: Any, x: Any, y: Any, sharing: Sequence[Fit], expected: int, **settings: Any
) -> PackSearchCV:
    """Check a search against scikit-learn's on the same estimator with one thread, and how many fits share data."""
    fit = settings.pop("fit", {})
    settings = {"n_iter": 3, "random_state": 1, "cv": 3} | settings
    ours = PackSearchCV(model, drawn, threads=2, **settings).fit(x, y, **fit)
    assert len(sharing) == expected
    names = [name for name in model.get_params() if name == "threads" or name.endswith("__threads")]
    alone = clone(model).set_params(**dict.fromkeys(names, 1))
    theirs = RandomizedSearchCV(alone, drawn, n_jobs=1, **settings).fit(x, y, **fit)
    if settings.get("refit", True):
        assert_same_results(ours, theirs, x)
    else:
        scores = [result.cv_results_["split0_test_score"] for result in (ours, theirs)]
        np.testing.assert_array_equal(*scores)
    return ours


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_results_are_those_of_scikit_learn(threads: int | None) -> None:
    settings: dict[str, Any] = {"n_iter": 4, "random_state": 1, "cv": 3}
    ours = PackSearchCV(classifier(), DRAWN, threads=threads, **settings).fit(X, NAMES)
    theirs = RandomizedSearchCV(classifier(threads=1), DRAWN, n_jobs=1, **settings).fit(X, NAMES)
    assert_same_results(ours, theirs)
    assert ours.classes_.tolist() == ["setosa", "versicolor", "virginica"]


def test_several_scores_weights_and_a_pipeline() -> None:
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    drawn = {f"mlpclassifier__{name}": values for name, values in DRAWN.items()}
    settings: dict[str, Any] = {
        "n_iter": 3, "random_state": 2, "cv": 3, "scoring": ["accuracy", "f1_macro"], "refit": "accuracy",
        "return_train_score": True,
    }  # fmt: skip
    fit: dict[str, Any] = {"mlpclassifier__sample_weight": weight}
    ours = PackSearchCV(make_pipeline(StandardScaler(), classifier()), drawn, **settings).fit(X, Y, **fit)
    pipeline = make_pipeline(StandardScaler(), classifier(threads=1))
    assert_same_results(ours, RandomizedSearchCV(pipeline, drawn, n_jobs=1, **settings).fit(X, Y, **fit))


def test_a_regression() -> None:
    x, y = load_diabetes(return_X_y=True)
    settings: dict[str, Any] = {"n_iter": 2, "random_state": 3, "cv": 3}
    regressor = MLPRegressor(max_iter=8, random_state=0, standardize=True, backend="numpy")
    ours = PackSearchCV(regressor, {"alpha": [1e-4, 1e-2]}, **settings).fit(x, y)
    theirs = RandomizedSearchCV(clone(regressor).set_params(threads=1), {"alpha": [1e-4, 1e-2]}, **settings).fit(x, y)
    assert_same_results(ours, theirs, x)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_a_candidate_that_fails_has_no_score() -> None:
    search = PackSearchCV(classifier(), {"alpha": [-1.0, 1e-4]}, n_iter=2, cv=3)
    with pytest.warns(FitFailedWarning, match="3 fits failed out of a total of 6"):
        search.fit(X, Y)
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [
        a < 0 for a in search.cv_results_["param_alpha"]
    ]


def test_what_cannot_run_side_by_side_says_so() -> None:
    search = PackSearchCV(LogisticRegression(max_iter=1000), {"C": [0.1, 1.0]}, n_iter=2, cv=3)
    with pytest.warns(gf.SlowPathWarning, match="LogisticRegression is no estimator of gradflow, so the fits run one"):
        search.fit(X, Y)
    assert search.best_score_ > 0.9
    on_gpu = PackSearchCV(MLPClassifier(backend="cupy"), DRAWN)
    assert on_gpu._why_alone() == "the estimator may train on the GPU"
    with pytest.raises(gf.DataError, match="threads must be at least 1"):
        PackSearchCV(classifier(), DRAWN, threads=0).fit(X, Y)


@pytest.mark.skipif(numpy_blas() is None, reason="the threads of this BLAS are unknown")
def test_the_threads_of_the_blas_are_restored() -> None:
    blas = numpy_blas()
    assert blas is not None
    before = blas.threads
    PackSearchCV(classifier(), DRAWN, n_iter=1, cv=2, random_state=0).fit(X, Y)
    assert blas.threads == before


@pytest.mark.skipif(numpy_blas() is None, reason="the threads of this BLAS are unknown")
def test_by_default_as_many_fits_run_at_a_time_as_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradflow.pack.threads.processors", lambda: 2)
    two = threading.Barrier(2)

    def score(estimator: MLPClassifier, x: np.ndarray, y: np.ndarray) -> float:
        return float(two.wait(timeout=60))  # for another fit; alone it would never come

    search = PackSearchCV(classifier(), DRAWN, n_iter=2, cv=2, scoring=score, refit=False, error_score="raise")
    with using_threads(numpy_blas(), 2):
        search.fit(X, Y)
    assert sorted(search.cv_results_["mean_test_score"] * 2) in ([0, 2], [1, 1])


def test_it_is_an_estimator_of_scikit_learn() -> None:
    search = PackSearchCV(classifier(), {"alpha": [1e-4, 1e-3]}, n_iter=2, cv=2, random_state=0, threads=2)
    again = clone(search)
    assert again.get_params(deep=False).keys() == search.get_params(deep=False).keys()
    assert again.threads == 2
    fitted = search.set_params(n_iter=1).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert loaded.score(X, Y) == fitted.score(X, Y)
    assert "PackSearchCV" in repr(search)


@pytest.mark.filterwarnings("ignore:batch_size=500 is larger")
@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True, "n_iter_no_change": 2},
        {"early_stopping": True, "scoring": "neg_log_loss", "validation_fraction": 0.3},
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "n_iter_no_change": 1},
        {"dropout": 0.3, "normalization": "batch", "batch_size": 16},
        {"standardize": True, "class_weight": "balanced", "activation": "tanh", "clip_norm": 1.0},
        {"batch_size": 500, "shuffle": False, "schedule": "cosine"},
    ],
    ids=str,
)
def test_every_setting_has_the_bits_of_fits_alone(settings: dict[str, Any], sharing: list[Fit]) -> None:
    assert_same_as_alone(classifier(**settings), DRAWN, X, NAMES, sharing, 9)


def test_tables_are_preprocessed_for_each_fold(sharing: list[Fit]) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcd"))
    table.loc[::7, "a"] = np.nan
    table["kind"] = pandas.Categorical(np.array(["u", "v", "w"])[np.arange(len(X)) % 3])
    model = classifier(standardize=True, categorical_features="from_dtype")
    search = assert_same_as_alone(model, DRAWN, table, NAMES, sharing, 9)
    assert search.feature_names_in_.tolist() == [*"abcd", "kind"]


def test_regressions_with_several_targets_and_losses(sharing: list[Fit]) -> None:
    x, y = load_diabetes(return_X_y=True)
    model = MLPRegressor(max_iter=6, random_state=0, backend="numpy")
    assert_same_as_alone(model, {"alpha": [1e-4, 1e-2]}, x, np.stack([y, -y], axis=1), sharing, 6, n_iter=2)
    sharing.clear()
    drawn = {"loss": ["squared_error", "poisson", gf.HuberLoss()]}
    assert_same_as_alone(model, drawn, x.astype(np.float32), y, sharing, 9, scoring="r2")


def test_other_folds_scores_and_results(sharing: list[Fit]) -> None:
    def score(model: Any, x: Any, y: Any) -> float:
        return -float(log_loss(y, model.predict_proba(x)))

    settings: dict[str, Any] = {"cv": ShuffleSplit(2, random_state=0), "scoring": score, "refit": False}
    search = assert_same_as_alone(classifier(), DRAWN, X, Y, sharing, 6, **settings)
    assert not hasattr(search, "best_estimator_")
    sharing.clear()
    masks = [(np.arange(len(Y)) % 3 != fold, np.flatnonzero(np.arange(len(Y)) % 3 == fold)) for fold in range(3)]
    assert_same_as_alone(classifier(), DRAWN, X, NAMES, sharing, 9, cv=masks)
    sharing.clear()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    assert_same_as_alone(classifier(), DRAWN, X.tolist(), Y.tolist(), sharing, 9, fit={"sample_weight": weight})
    sharing.clear()
    labels = np.stack([Y == 0, Y == 1], axis=1).astype(int)
    assert_same_as_alone(classifier(), DRAWN, X, labels, sharing, 9, cv=KFold(3, shuffle=True, random_state=0))


class Counting(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A step that changes nothing and counts its fits."""

    fits = 0

    def fit(self, x: Any, y: Any = None) -> Counting:
        Counting.fits += 1
        self.n_features_in_ = x.shape[1]
        return self

    def transform(self, x: Any) -> Any:
        return x


def test_steps_of_a_pipeline_are_fitted_once_for_each_fold(sharing: list[Fit]) -> None:
    model = make_pipeline(MinMaxScaler(), Counting(), classifier())
    drawn = {f"mlpclassifier__{name}": values for name, values in DRAWN.items()}
    before = Counting.fits
    PackSearchCV(model, drawn, n_iter=3, cv=3, random_state=1).fit(X, NAMES)
    assert Counting.fits - before == 3 + 1  # the last for the best candidate
    sharing.clear()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(Y))
    fit = {"mlpclassifier__sample_weight": weight}
    assert_same_as_alone(model, drawn, X, NAMES, sharing, 9, fit=fit, return_train_score=True)


@pytest.mark.parametrize(
    ("model", "drawn", "y", "expected", "reason"),
    [
        (classifier(), {"solver": ["adam", "lbfgs"]}, Y, 3, r"3 of 6 fits .* solver='lbfgs' \(3 fits\)"),
        (classifier(), {"n_members": [1, 2]}, Y, 3, r"n_members=2 \(3 fits\)"),
        (classifier(), {"alpha": [0.1, 0.2]}, np.r_[Y[:-1], 3], 4, r"2 of 6 fits .* lack a class \(2 fits\)"),
        (
            Pipeline([("scale", MinMaxScaler()), ("mlp", classifier())]),
            {"scale__clip": [False, True]},
            Y,
            0,
            "the search changes 'scale__clip', a parameter of another step",
        ),
    ],
    ids=["solver", "members", "classes", "pipeline"],
)
@pytest.mark.filterwarnings(
    "ignore:The least populated class in y has only 1 member", "ignore:lbfgs failed to converge"
)
def test_fits_that_cannot_share_data_run_alone_and_say_so(
    model: Any, drawn: Any, y: np.ndarray, expected: list[int], reason: str, sharing: list[Fit]
) -> None:
    with pytest.warns(gf.SlowPathWarning, match=reason):
        assert_same_as_alone(model, drawn, X, y, sharing, expected, n_iter=2)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite", "ignore:the loss has exploded")
def test_a_fit_that_diverges_fails_alone(sharing: list[Fit]) -> None:
    drawn = {"learning_rate_init": [1e-3, 1e30]}
    search = PackSearchCV(classifier(solver="sgd"), drawn, n_iter=2, cv=3)
    with pytest.warns(FitFailedWarning, match=r"3 fits failed out of a total of 6(?s:.*)non-finite parameter weights"):
        search.fit(X, Y)
    assert len(sharing) == 6
    rates = search.cv_results_["param_learning_rate_init"]
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [rate > 1 for rate in rates]
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        PackSearchCV(classifier(solver="sgd"), drawn, n_iter=2, cv=3, error_score="raise").fit(X, Y)


@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_an_error_between_epochs_fails_one_fit() -> None:
    def score(model: Any, x: Any, y: Any) -> float:
        if model.alpha > 1:
            raise RuntimeError("this scorer does not like it")
        return 0.5

    model = classifier(early_stopping=True, scoring=score)
    search = PackSearchCV(model, {"alpha": [0.1, 2.0]}, n_iter=2, cv=2, scoring="accuracy", error_score=-1.0)
    with pytest.warns(FitFailedWarning, match=r"2 fits failed out of a total of 4(?s:.*)does not like it"):
        search.fit(X, Y)
    assert (search.cv_results_["mean_test_score"] < 0).tolist() == [a > 1 for a in search.cv_results_["param_alpha"]]


class InterruptOnce(gf.Callback):
    """Sends Ctrl-C to the process after the second epoch of the first fit that comes so far."""

    sent = False
    epochs = 0

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        InterruptOnce.epochs += 1
        if epoch == 2 and not InterruptOnce.sent:
            InterruptOnce.sent = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interrupting() -> InterruptOnce:
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        pytest.skip("signals reach the main thread, by os.kill")
    InterruptOnce.sent, InterruptOnce.epochs = False, 0
    return InterruptOnce()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("settings", [{}, {"n_members": 2}, {"early_stopping": True}], ids=str)
@pytest.mark.filterwarnings("ignore::gradflow.SlowPathWarning")
def test_ctrl_c_ends_all_fits(settings: dict[str, Any], threads: int, interrupting: InterruptOnce) -> None:
    model = classifier(callbacks=[interrupting], n_iter_no_change=100000, **settings).set_params(max_iter=100000)
    search = PackSearchCV(model, DRAWN, n_iter=3, cv=3, random_state=0, threads=threads)
    before = set(threading.enumerate())
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    assert set(threading.enumerate()) == before
    assert signal.getsignal(signal.SIGINT) is handler
    assert not hasattr(search, "cv_results_")
    assert not hasattr(search, "best_estimator_")
    done = InterruptOnce.epochs
    search.set_params(estimator__max_iter=2).fit(X, Y)
    assert search.cv_results_["rank_test_score"].shape == (3,)
    assert InterruptOnce.epochs > done


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_leaves_an_estimator_of_members_as_it_was(threads: int, interrupting: InterruptOnce) -> None:
    model = classifier(n_members=3, threads=threads).fit(X, Y)
    before = model.predict_proba(X)
    running = set(threading.enumerate())
    model.set_params(callbacks=[interrupting], max_iter=100000, n_iter_no_change=100000)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    assert set(threading.enumerate()) == running
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert len(model.ensemble_) == 3


def test_a_search_may_be_a_step_and_run_in_a_thread(sharing: list[Fit]) -> None:
    settings: dict[str, Any] = {"n_iter": 2, "cv": 2, "random_state": 0}
    pipeline = make_pipeline(StandardScaler(), PackSearchCV(classifier(), DRAWN, **settings))
    scores: list[float] = []
    thread = threading.Thread(target=lambda: scores.append(clone(pipeline).fit(X, Y).score(X, Y)))
    thread.start()
    thread.join()
    assert len(sharing) == 4
    assert scores == [pipeline.fit(X, Y).score(X, Y)]
    nested = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(nested.predict_proba(X), pipeline.predict_proba(X))
