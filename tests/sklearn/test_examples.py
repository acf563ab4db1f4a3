"""The steps of scikit-learn's examples of its multi-layer perceptrons, with the import changed.

Each program runs with both libraries: what it computes and draws exists, and is as good.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
from matplotlib import pyplot as plt
from sklearn import neural_network as theirs
from sklearn.datasets import load_digits, load_iris, make_circles, make_classification, make_friedman1, make_moons
from sklearn.inspection import DecisionBoundaryDisplay, PartialDependenceDisplay, permutation_importance
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler

from gradflow import sklearn as ours

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore::gradflow.TrainingWarning", "ignore::sklearn.exceptions.ConvergenceWarning"),
]


def noisy_line() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_classification(n_features=2, n_redundant=0, random_state=0, n_clusters_per_class=1)
    return x + 2 * np.random.RandomState(2).uniform(size=x.shape), y


PLANES = {
    "moons": lambda: make_moons(noise=0.3, random_state=0),
    "circles": lambda: make_circles(noise=0.2, factor=0.5, random_state=1),
    "line": noisy_line,
}


@pytest.fixture
def axes() -> Any:
    plt.switch_backend("agg")
    figure, drawn = plt.subplots()
    yield drawn
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize("plane", PLANES)
def test_regularization_by_alpha(plane: str, axes: Any) -> None:
    """plot_mlp_alpha: boundaries become smoother as alpha grows."""
    x, y = PLANES[plane]()
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.4, random_state=42)
    scores = []
    for library in (ours, theirs):
        of_alphas = []
        for alpha in np.logspace(-1, 1, 3):
            network = library.MLPClassifier(
                solver="lbfgs", alpha=alpha, random_state=1, max_iter=2000, early_stopping=True,
                hidden_layer_sizes=[10, 10],
            )  # fmt: skip
            model = make_pipeline(StandardScaler(), network).fit(x_train, y_train)
            grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 20)] * 2), axis=-1).reshape(-1, 2)
            assert model.predict_proba(grid)[:, 1].reshape(20, 20).max() <= 1
            of_alphas.append(model.score(x_test, y_test))
        scores.append(of_alphas)
    DecisionBoundaryDisplay.from_estimator(model, x, ax=axes, eps=0.5, grid_resolution=20)
    # L-BFGS begins with the same weights and takes the same path, until rounding leads it to another minimum.
    np.testing.assert_allclose(scores[0], scores[1], atol=0.08)


STRATEGIES: list[dict[str, Any]] = [
    {"solver": "sgd", "learning_rate": "constant", "momentum": 0, "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": False,
     "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": True,
     "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0, "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": False,
     "learning_rate_init": 0.2},
    {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": True,
     "learning_rate_init": 0.2},
    {"solver": "adam", "learning_rate_init": 0.01},
]  # fmt: skip
DATA = {
    "iris": (lambda: load_iris(return_X_y=True), 400),
    "digits": (lambda: load_digits(return_X_y=True), 15),
    "circles": (PLANES["circles"], 400),
    "moons": (PLANES["moons"], 400),
}


@pytest.mark.parametrize("data", DATA)
def test_training_curves(data: str, axes: Any) -> None:
    """plot_mlp_training_curves: the losses of several strategies."""
    load, epochs = DATA[data]
    x, y = load()
    x = MinMaxScaler().fit_transform(x)
    for settings in STRATEGIES:
        mine, other = (
            library.MLPClassifier(random_state=0, max_iter=epochs, **settings).fit(x, y) for library in (ours, theirs)
        )
        axes.plot(mine.loss_curve_)
        assert mine.loss_curve_[-1] == mine.loss_
        assert len(mine.loss_curve_) == mine.n_iter_
        assert mine.loss_curve_[0] == pytest.approx(other.loss_curve_[0], rel=0.2)
        assert mine.score(x, y) > other.score(x, y) - 0.1
        assert mine.loss_ < 1.3 * other.loss_ + 0.05


def test_pictures_of_weights(capsys: pytest.CaptureFixture[str], axes: Any) -> None:
    """plot_mnist_filters, on the small digits: the first weights as pictures, and a report of each epoch."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16.0, y, random_state=0, test_size=0.3)
    reports, scores = [], []
    for library in (ours, theirs):
        model = library.MLPClassifier(
            hidden_layer_sizes=(40,), max_iter=8, alpha=1e-4, solver="sgd", verbose=10, random_state=1,
            learning_rate_init=0.2,
        ).fit(x_train, y_train)  # fmt: skip
        reports.append([line.split(" = ")[0] for line in capsys.readouterr().out.splitlines()])
        scores.append((model.score(x_train, y_train), model.score(x_test, y_test)))
        low, high = model.coefs_[0].min(), model.coefs_[0].max()
        for weights in model.coefs_[0].T:
            axes.matshow(weights.reshape(8, 8), vmin=0.5 * low, vmax=0.5 * high)
    assert reports[0] == reports[1]
    np.testing.assert_allclose(scores[0], scores[1], atol=0.05)


def test_partial_dependence(axes: Any) -> None:
    """plot_partial_dependence: a regressor in a pipeline, its curves and what it depends on."""
    x, y = make_friedman1(800, noise=0.5, random_state=0)
    y = y - y.mean()
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    found = []
    for library in (ours, theirs):
        network = library.MLPRegressor(
            hidden_layer_sizes=(30, 15), learning_rate_init=0.01, early_stopping=True, random_state=0
        )
        model = make_pipeline(QuantileTransformer(n_quantiles=100), network).fit(x_train, y_train)
        important = permutation_importance(model, x_test, y_test, n_repeats=3, random_state=0).importances_mean
        found.append((model.score(x_test, y_test), set(np.argsort(important)[-5:])))
        display = PartialDependenceDisplay.from_estimator(
            model, x_train, [3, (0, 1)], grid_resolution=8, subsample=50, kind=["both", "average"], random_state=0
        )
        plt.close(display.figure_)
        rise = display.pd_results[0]["average"][0]
        assert rise[-1] - rise[0] > 5  # 10 x_3 in the function that was sampled
    assert found[0][0] > found[1][0] - 0.1
    assert found[0][1] == {0, 1, 2, 3, 4}


def test_comparison_of_classifiers(axes: Any) -> None:
    """plot_classifier_comparison: a strongly regularized network on three planes."""
    for load in PLANES.values():
        x_train, x_test, y_train, y_test = train_test_split(*load(), test_size=0.4, random_state=42)
        scores = []
        for library in (ours, theirs):
            network = library.MLPClassifier(alpha=1, max_iter=1000, random_state=42)
            model = make_pipeline(StandardScaler(), network).fit(x_train, y_train)
            scores.append(model.score(x_test, y_test))
        DecisionBoundaryDisplay.from_estimator(model, x_test, ax=axes, eps=0.5, grid_resolution=20)
        assert scores[0] > scores[1] - 0.08
