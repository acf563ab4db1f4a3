"""Confusion, calibration, worst rows and importance: the numbers that scikit-learn and definitions give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.metrics import confusion_matrix, r2_score

import gradflow as gf
from gradflow.reports.predictions import Classified, Regressed, importances, judge
from gradflow.reports.rows import MOST_ROWS, rows_of

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(300, 3)).astype(np.float32)


def classifier(n_out: int = 3, classes: list[str] | None = None) -> tuple[gf.Sequential, gf.Loss]:
    network = gf.MLP([3, 8, n_out], seed=2, backend="numpy")
    loss: gf.Loss = gf.BinaryCrossEntropy() if n_out == 1 else gf.SoftmaxCrossEntropy()
    network.output_activation, network.classes = loss.output_activation, classes
    return network, loss


def test_confusion_and_calibration_of_named_classes() -> None:
    network, loss = classifier(classes=["a", "b", "c"])
    names = np.array(["a", "b", "c"])[RANDOM.integers(0, 3, 300)]
    judged, worst = judge(network, loss, rows_of(network, "data", (X, names)))
    assert isinstance(judged, Classified)
    assert judged.names == ("a", "b", "c")
    probabilities = network.predict(X).astype(np.float64)
    predicted = network.predict_classes(X)
    assert (judged.confusion == confusion_matrix(names, predicted, labels=["a", "b", "c"])).all()
    confidence, right = probabilities.max(axis=1), predicted == names
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).sum() for b in set(bins)]
    assert judged.calibration_error == pytest.approx(sum(gaps) / 300)
    assert judged.rows.sum() == 300
    of_true = probabilities[np.arange(300), [list("abc").index(name) for name in names]]
    assert [row.number for row in worst] == np.argsort(of_true, kind="stable")[:10].tolist()
    assert worst[0].true == names[worst[0].number]
    assert worst[0].values.keys() == {"0", "1", "2"}


@pytest.mark.parametrize("as_one_hot", [False, True])
def test_targets_may_be_numbers_or_one_hot(as_one_hot: bool) -> None:
    network, loss = classifier()
    numbers = RANDOM.integers(0, 3, 300)
    judged, _ = judge(network, loss, rows_of(network, "data", (X, np.eye(3)[numbers] if as_one_hot else numbers)))
    assert isinstance(judged, Classified)
    assert (judged.confusion == confusion_matrix(numbers, network.predict_classes(X))).all()


def test_one_output_has_two_classes() -> None:
    network, loss = classifier(1, ["no", "yes"])
    names = np.where(X[:, 0] > 0, "yes", "no")
    judged, _ = judge(network, loss, rows_of(network, "data", (X, names)))
    assert isinstance(judged, Classified)
    assert (judged.confusion == confusion_matrix(names, network.predict_classes(X))).all()


@pytest.mark.parametrize("loss", [gf.MeanSquaredError(), gf.QuantileLoss([0.1, 0.5, 0.9])])
def test_numbers_and_quantiles(loss: gf.Loss) -> None:
    network = gf.MLP([3, 4, 3 if isinstance(loss, gf.QuantileLoss) else 1], backend="numpy")
    y = X.sum(axis=1).astype(np.float64)
    judged, worst = judge(network, loss, rows_of(network, "data", (X, y)))
    if not loss.predicts_targets:
        assert judged is None
        return
    assert isinstance(judged, Regressed)
    predicted = network.predict(X)[:, 0]
    assert judged.r2[0] == pytest.approx(r2_score(y, predicted), rel=1e-5)
    assert judged.error[0] == pytest.approx(np.sqrt(((y - predicted) ** 2).mean()), rel=1e-5)
    assert worst[0].number == np.argmax(abs(y - predicted))


def test_importance_finds_the_column_that_decides() -> None:
    table = pandas.DataFrame({"noise": X[:, 0], "decides": X[:, 1], "kind": np.where(X[:, 2] > 0, "a", "b")})
    preprocessing = gf.data.fit_preprocessing(table)
    network = gf.MLP([preprocessing.n_out, 8, 2], preprocessing=preprocessing, seed=0, backend="numpy")
    y = (X[:, 1] > 0).astype(np.int64)
    gf.Trainer(network, "softmax_cross_entropy", gf.Adam(0.02)).fit(table, y, epochs=20)
    before = network.state.tobytes()
    found = importances(network, gf.SoftmaxCrossEntropy(), rows_of(network, "data", (table, y)))
    assert found[0].name == "decides"
    assert found[0].mean > 10 * max(abs(other.mean) for other in found[1:])
    assert network.state.tobytes() == before


def test_many_rows_are_sampled_and_keep_their_numbers() -> None:
    network = gf.MLP([1, 1], backend="numpy")
    x = np.arange(5 * MOST_ROWS, dtype=np.float32)[:, None]
    for data in ((x, x), gf.data.Arrays(x, x)):
        rows = rows_of(network, "data", data)
        assert rows.total == 5 * MOST_ROWS
        assert len(rows.y) == len(set(rows.numbers)) == MOST_ROWS
        assert (rows.x.columns[0] == rows.numbers).all()
        assert (rows.y[:, 0] == rows.numbers).all()
        assert (np.diff(rows.numbers) > 0).all()
        assert abs(rows.numbers.mean() / len(x) - 0.5) < 0.02


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "must be a pair"),
        ((X, X, X), "must be a pair"),
        ((X, np.zeros(7)), "as many targets as rows"),
        ((X[:, :2], np.zeros(300)), "3"),
    ],
)
def test_wrong_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(gf.DataError, match=message):
        rows_of(classifier()[0], "data", data)
