"""Row and class weights, standardized targets, averaged weights: compared with plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import gradflow as gf
from gradflow.data.weights import RowWeights
from gradflow.losses import get_loss
from gradflow.random import shuffled_rows
from gradflow.training.data.feed import data_fingerprint
from gradflow.training.data.prepare import prepare_data
from gradflow.training.data.streaming import StreamedData

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
Y = X @ RNG.normal(size=(4, 2)) + 0.1 * RNG.normal(size=(70, 2))
LABELS = (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int)
WEIGHTS = RNG.integers(0, 4, 70).astype(float)

TARGETS: dict[str, tuple[str, Any, int]] = {
    "numbers": ("mean_squared_error", Y, 2),
    "labels": ("softmax_cross_entropy", LABELS, 2),
    "probabilities": ("softmax_cross_entropy", np.eye(2)[LABELS], 2),
    "binary": ("binary_cross_entropy", LABELS, 1),
    "multi-label": ("binary_cross_entropy", np.stack([LABELS, X[:, 2] > 0], axis=1), 2),
}


def fitted(
    y: Any, loss: str | gf.Loss, n_out: int, backend: str, x: np.ndarray = X, **arguments: Any
) -> tuple[Any, gf.History]:
    network = gf.Sequential([gf.Dense(4, 3), gf.Tanh(), gf.Dense(3, n_out)], dtype="float64", seed=2, backend=backend)
    trainer = gf.Trainer(network, loss, gf.SGD(0.1))
    return trainer, trainer.fit(x, y, **{"epochs": 3, "batch_size": None, **arguments})


@pytest.mark.parametrize("kind", TARGETS)
def test_a_weight_counts_as_that_many_rows(kind: str, backend_name: str) -> None:
    loss, y, n_out = TARGETS[kind]
    times = WEIGHTS.astype(int)
    weighted, history = fitted(y, loss, n_out, backend_name, sample_weight=5 * WEIGHTS)
    repeated, expected = fitted(np.repeat(y, times, axis=0), loss, n_out, backend_name, x=np.repeat(X, times, axis=0))
    for name, weight in repeated.network.get_weights().items():
        assert_allclose(weighted.network.get_weights()[name], weight, rtol=1e-9, atol=1e-12)
    for name in expected:
        assert_allclose(history[name], expected[name], rtol=1e-10)
    held_out = weighted.evaluate(X, y, sample_weight=WEIGHTS)
    assert_allclose(
        list(held_out.values()),
        list(repeated.evaluate(np.repeat(X, times, axis=0), np.repeat(y, times, axis=0)).values()),
        rtol=1e-9,
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_weights_follow_their_rows_into_the_batches(shuffle: bool, backend_name: str) -> None:
    history = fitted(Y, "mean_squared_error", 2, backend_name, batch_size=16, shuffle=shuffle, sample_weight=WEIGHTS)[1]
    # A row of the data with weight 0 and absurd numbers has no effect on anything.
    x, y, weights = X.copy(), Y.copy(), WEIGHTS.copy()
    x[WEIGHTS == 0], y[WEIGHTS == 0] = 7, 1000
    wild = fitted(y, "mean_squared_error", 2, backend_name, x=x, batch_size=16, shuffle=shuffle, sample_weight=weights)
    assert_allclose(wild[1]["loss"], history["loss"], rtol=1e-12)


@pytest.mark.parametrize("shuffle", [False, True])
def test_values_of_an_epoch_that_leaves_rows_out_are_means_over_the_others(shuffle: bool, backend_name: str) -> None:
    """The dropped rows differ from epoch to epoch, and so does the sum of the weights."""
    x, y = (np.tile(part, (2, 1)) for part in (X, Y))
    weights = np.concatenate([np.full(70, 1.0), np.full(70, 20.0)])
    arguments = {"batch_size": 64, "drop_last": True, "shuffle": shuffle, "sample_weight": weights}

    def run(data: tuple[Any, ...], **more: Any) -> gf.History:
        network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", seed=2, backend=backend_name)
        # Steps of zero length leave the weights unchanged.
        trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(1e-300), metrics=["mean_squared_error"])
        return trainer.fit(*data, epochs=4, **arguments | more)

    network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", seed=2, backend=backend_name)
    losses = ((network.predict(x) - y) ** 2).mean(axis=1)
    history = run((x, y))
    for epoch, loss in enumerate(history["loss"]):
        taken = (shuffled_rows(140, seed=2, epoch=epoch) if shuffle else np.arange(140))[:128]
        assert_allclose(loss, np.average(losses[taken], weights=weights[taken]), rtol=1e-10)
    assert_allclose(history["mean_squared_error"], history["loss"], rtol=1e-10)
    streamed = run((gf.data.Arrays(x, y, weights),), sample_weight=None)
    assert streamed["loss"] == history["loss"]


def test_steps_do_not_depend_on_the_rows_that_are_left_out(backend_name: str) -> None:
    """The one step of an epoch equals the first step of an epoch over all rows: weights have mean 1 over the same
    rows."""
    steps: list[np.ndarray] = []
    for drop_last in (False, True):
        trainer, _ = fitted(
            Y,
            "mean_squared_error",
            2,
            backend_name,
            batch_size=40,
            shuffle=False,
            epochs=1,
            drop_last=drop_last,
            sample_weight=np.concatenate([WEIGHTS[:40], np.zeros(30)]),
        )
        steps.append(trainer.network.get_weights()["0.weight"])
    assert_allclose(steps[1], steps[0], rtol=1e-12)


def test_an_epoch_without_any_weight_has_no_mean(backend_name: str) -> None:
    _, history = fitted(
        Y,
        "mean_squared_error",
        2,
        backend_name,
        batch_size=40,
        shuffle=False,
        drop_last=True,
        sample_weight=np.concatenate([np.zeros(40), np.ones(30)]),
    )
    assert np.isnan(history["loss"]).all()


@pytest.mark.parametrize("kind", ["labels", "probabilities", "binary"])
@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 3.0}, {1: 0.5}, "balanced"])
def test_class_weights_are_weights_of_their_rows(kind: str, class_weight: Any, backend_name: str) -> None:
    loss, y, n_out = TARGETS[kind]
    of_class = {0: 1.0, 1: 1.0, **class_weight} if class_weight != "balanced" else 70 / (2 * np.bincount(LABELS))
    weights = WEIGHTS * np.array([of_class[label] for label in LABELS])
    validation = {"validation_data": (X, y, WEIGHTS)}
    by_class, history = fitted(
        y, loss, n_out, backend_name, sample_weight=WEIGHTS, class_weight=class_weight, **validation
    )
    by_row, expected = fitted(y, loss, n_out, backend_name, sample_weight=weights, validation_data=(X, y, weights))
    assert history.last() == pytest.approx(expected.last(), rel=1e-12)
    assert by_class.evaluate(X, y, class_weight=class_weight, sample_weight=WEIGHTS) == pytest.approx(
        by_row.evaluate(X, y, sample_weight=weights), rel=1e-12
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "binary"])
def test_classes_keep_their_weights_where_labels_are_smoothed(kind: str, streamed: bool) -> None:
    name, y, n_out = TARGETS[kind]
    loss = type(get_loss(name))(label_smoothing=0.5, focal_gamma=1.0)
    network = gf.MLP([4, n_out], dtype="float64", backend="numpy")
    x, targets = (gf.data.Arrays(X, y), None) if streamed else (X, y)
    for class_weight, ratio in (({1: 10}, 10), ("balanced", (LABELS == 0).sum() / (LABELS == 1).sum())):
        data = prepare_data(network, loss, x, targets, class_weight=class_weight)
        if isinstance(data, StreamedData):
            [(_, _, weight)] = [block.converted(data._convert) for block in data._source.blocks()]
            assert_allclose(data.class_totals, np.bincount(LABELS), rtol=1e-14)
        else:
            weight = data.row_weight
        assert_allclose(weight[LABELS == 1] / weight[LABELS == 0][0], ratio, rtol=1e-14)


def test_soft_labels_share_the_weights_of_their_classes(backend_name: str) -> None:
    soft = np.where(np.eye(2)[LABELS] == 1, 0.75, 0.25)
    network = gf.MLP([4, 2], dtype="float64", backend=backend_name)
    data = prepare_data(network, gf.SoftmaxCrossEntropy(label_smoothing=0.3), X, soft, class_weight={0: 1, 1: 9})
    assert_allclose(data.row_weight[LABELS == 1] / data.row_weight[LABELS == 0][0], (0.25 + 0.75 * 9) / 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_hot_targets_with_class_weights_train_as_labels_do(smoothing: float, backend_name: str) -> None:
    def predicted(y: np.ndarray) -> np.ndarray:
        network = gf.Sequential([gf.Dense(4, 3), gf.Tanh(), gf.Dense(3, 2)], dtype="float64", backend=backend_name)
        loss = gf.SoftmaxCrossEntropy(label_smoothing=smoothing)
        gf.Trainer(network, loss, gf.Adam(0.01)).fit(X, y, epochs=5, class_weight={1: 10})
        return network.predict(X)

    assert_allclose(predicted(np.eye(2)[LABELS]), predicted(LABELS), rtol=1e-12)


@pytest.mark.parametrize("kind", ["probabilities", "binary", "multi-label"])
def test_the_fingerprint_is_that_of_smoothed_targets(kind: str) -> None:
    """Runs of earlier versions, which smoothed targets before training, can be resumed."""
    name, y, n_out = TARGETS[kind]
    loss = type(get_loss(name))(label_smoothing=0.1)
    network = gf.MLP([4, n_out], backend="numpy")
    targets = np.asarray(y, np.float32).reshape(70, n_out) * (1 - 0.1)
    targets += 0.1 / (2 if "binary" in name else n_out)
    expected = data_fingerprint(70, [[X.astype(np.float32), targets]])
    for data in (prepare_data(network, loss, X, y), prepare_data(network, loss, gf.data.Arrays(X, y), None)):
        assert data.fingerprint(network.backend, loss) == expected


def test_one_hot_and_label_targets_give_the_same_run(backend_name: str) -> None:
    runs = [fitted(*TARGETS[kind][1::-1], 2, backend_name)[1] for kind in ("labels", "probabilities")]
    assert_allclose(runs[0]["loss"], runs[1]["loss"], rtol=1e-12)


def test_standardized_targets_are_undone_at_prediction(backend_name: str, tmp_path: Path) -> None:
    y = np.stack([1e6 + 3000 * Y[:, 0], np.full(70, -7.0)], axis=1)
    network = gf.MLP([4, 16, 2], seed=1, backend=backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.02), standardize_targets=True)
    history = trainer.fit(X, y, epochs=60, validation_data=(X, y))
    assert network.output_scale is not None
    assert_allclose(network.output_scale.mean, y.mean(axis=0))
    assert_allclose(network.output_scale.std, [y[:, 0].std(), 1])
    predicted = network.predict(X)
    assert abs(predicted[:, 0] - y[:, 0]).mean() < 0.2 * y[:, 0].std()
    assert_allclose(predicted[:, 1], -7, atol=1)
    outputs = network.logits(X)
    assert_allclose(outputs * network.output_scale.std + network.output_scale.mean, predicted, rtol=1e-6)
    standardized = (y - network.output_scale.mean) / network.output_scale.std
    assert_allclose(history["val_loss"][-1], ((outputs - standardized) ** 2).mean(), rtol=1e-4)
    assert_allclose(trainer.evaluate(X, y)["loss"], history["val_loss"][-1], rtol=1e-6)

    gf.save(network, tmp_path / "scaled.safetensors")
    for same in (gf.load(tmp_path / "scaled.safetensors", backend=backend_name), network.copy()):
        assert same.output_scale == network.output_scale
        np.testing.assert_array_equal(same.predict(X), predicted)
    # Continued training keeps the scale that the weights were trained for.
    trainer.fit(X, 2 * y, epochs=1)
    assert_allclose(network.output_scale.mean, y.mean(axis=0))


@pytest.mark.parametrize("streamed", [False, True])
def test_rows_of_weight_0_do_not_affect_the_scale(streamed: bool, backend_name: str) -> None:
    """Their targets are often placeholders for missing values, such as 1e12."""
    weights = WEIGHTS.copy()
    weights[0] = 0
    y = np.where(weights[:, None] == 0, 1e12, Y)
    network = gf.MLP([4, 2], backend=backend_name)
    trainer = gf.Trainer(network, "mean_squared_error", gf.Adam(0.02), standardize_targets=True)
    if streamed:
        trainer.fit(gf.data.Arrays(X, y, weights), epochs=1)
    else:
        trainer.fit(X, y, sample_weight=weights, epochs=1)
    assert network.output_scale is not None
    assert_allclose(network.output_scale.mean, Y[weights > 0].mean(axis=0))
    assert_allclose(network.output_scale.std, Y[weights > 0].std(axis=0))


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("softmax_cross_entropy", LABELS),
        ("binary_cross_entropy", TARGETS["multi-label"][1]),
        ("poisson", abs(Y)),
        (gf.QuantileLoss([0.1, 0.9]), Y[:, 0]),
    ],
)
def test_a_scale_requires_regression(loss: Any, y: np.ndarray, backend_name: str) -> None:
    network = gf.MLP([4, 2], backend=backend_name)
    gf.Trainer(network, "mean_squared_error", "adam", standardize_targets=True).fit(X, Y, epochs=1)
    trainer = gf.Trainer(network, loss, "adam")
    for call in (lambda: trainer.fit(X, y, epochs=1), lambda: trainer.evaluate(X, y)):
        with pytest.raises(gf.DataError, match=r"the network has an output_scale.* set network\.output_scale = None"):
            call()
    network.output_scale = None
    trainer.fit(X, y, epochs=1)


@pytest.mark.parametrize("batch_size", [16, None])
def test_averaged_weights(batch_size: int | None, backend_name: str) -> None:
    class Noting(gf.Callback):
        """Keeps the network's weights after each epoch."""

        def __init__(self) -> None:
            self.weights: list[np.ndarray] = []

        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            self.weights.append(trainer.network.get_weights()["0.weight"])

    def run(average: float | None, epochs: int) -> tuple[gf.Sequential, Noting, gf.History]:
        network = gf.Sequential([gf.Dense(4, 2)], dtype="float64", seed=2, backend=backend_name)
        noting = Noting()
        trainer = gf.Trainer(network, "mean_squared_error", gf.SGD(0.05), average=average)
        history = trainer.fit(
            X, Y, epochs=epochs, batch_size=batch_size, shuffle=False, callbacks=[noting], validation_data=(X, Y)
        )
        return network, noting, history

    averaged, seen, history = run(0.7, epochs=4)
    _, each, plain_history = run(None, epochs=4)
    # Training itself continues with the current weights: the losses of the epochs are those without averaging.
    assert_allclose(history["loss"], plain_history["loss"], rtol=1e-12)
    if batch_size is None:
        expected = each.weights[0]
        for epoch, weight in enumerate(each.weights):
            expected = weight if epoch == 0 else 0.7 * expected + 0.3 * weight
            assert_allclose(seen.weights[epoch], expected, rtol=1e-12)
    assert_allclose(averaged.get_weights()["0.weight"], seen.weights[-1])
    assert_allclose(history["val_loss"][-1], ((averaged.predict(X) - Y) ** 2).mean(), rtol=1e-10)
    if batch_size is not None:
        assert history["val_loss"][0] != plain_history["val_loss"][0]


FACTORS = {
    "huge weights": (1e307, 1.0),
    "tiny weights": (1e-315, 1.0),
    "huge class weights": (1.0, 3e307),
    "tiny class weights": (1.0, 1e-315),
    "a huge product": (1e300, 1e300),
    "a tiny product": (1e-200, 1e-200),
    "a product of both": (1e-300, 1e300),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", FACTORS)
def test_only_ratios_of_weights_count(case: str, streamed: bool) -> None:
    """Sums and products of weights overflow or underflow, and the weights of rows stay as they are."""
    factor, of_classes = FACTORS[case]
    network, loss = gf.MLP([4, 2], dtype="float64", backend="numpy"), gf.SoftmaxCrossEntropy()
    weights, class_weight = factor * (1 + WEIGHTS), {0: of_classes, 1: 4 * of_classes}
    expected = (1 + WEIGHTS) * np.where(LABELS == 1, 4, 1)
    if streamed:
        # The second part has the largest weights.
        order = np.argsort(weights)
        parts = [(weights[rows], LABELS[rows]) for rows in (order[:30], order[30:])]
        of_rows = RowWeights.fit(iter(parts), class_weight, 2)
        found = of_rows.of(weights, LABELS)
    else:
        found = prepare_data(network, loss, X, LABELS, sample_weight=weights, class_weight=class_weight).row_weight
    assert_allclose(found, expected / expected.mean(), rtol=1e-6 if "tiny w" in case or "tiny c" in case else 1e-12)


def test_weights_whose_sum_is_infinite_train_as_others_do(backend_name: str) -> None:
    histories = [
        fitted(Y, "mean_squared_error", 2, backend_name, sample_weight=factor * WEIGHTS)[1] for factor in (1.0, 1e307)
    ]
    assert_allclose(histories[1]["loss"], histories[0]["loss"], rtol=1e-12)
    assert histories[1]["loss"][-1] < histories[1]["loss"][0]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrong length": ("labels", {"sample_weight": WEIGHTS[1:]}, r"sample_weight must have shape \(70,\).* got \(69,\)"),
    "negative": ("labels", {"sample_weight": WEIGHTS - 1}, "must hold finite numbers, at least 0, got -1 in row"),
    "NaN": ("labels", {"sample_weight": WEIGHTS * np.nan}, "at least 0, got nan in row 0"),
    "all zero": ("numbers", {"sample_weight": 0 * WEIGHTS}, "sample_weight is 0 in every row"),
    "text": ("numbers", {"sample_weight": ["heavy"] * 70}, "sample_weight must hold numbers"),
    "no classes": ("numbers", {"class_weight": {0: 2}}, "class_weight requires classes"),
    "multi-label": ("multi-label", {"class_weight": "balanced"}, "class_weight requires classes"),
    "unknown word": ("labels", {"class_weight": "even"}, "or \"balanced\", got 'even'"),
    "list": ("labels", {"class_weight": [1, 2]}, r'or "balanced", got \[1, 2\]'),
    "class as text": ("labels", {"class_weight": {"yes": 2}}, "must name classes by their numbers"),
    "class that is not there": ("labels", {"class_weight": {5: 2}}, "names class 5, but the classes are 0 to"),
    "negative class": ("labels", {"class_weight": {0: -2}}, "class_weight of class 0 must be a finite number"),
    "endless class": ("labels", {"class_weight": {0: 10**400}}, "class_weight of class 0 must be a finite number"),
    "too far apart": (
        "labels",
        {"sample_weight": np.where(LABELS == 1, 1e-320, 1), "class_weight": {0: 1e-300, 1: 1e20}},
        "the weights of the data differ too much",
    ),
    "classes all zero": ("labels", {"class_weight": {0: 0, 1: 0}}, "gives every row of the data weight 0"),
    "validation weights": (
        "labels",
        {"validation_data": (X, LABELS, WEIGHTS[:3])},
        r"validation sample_weight must have shape \(70,\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_first_step(case: str, backend_name: str) -> None:
    kind, arguments, message = REFUSED[case]
    loss, y, n_out = TARGETS[kind]
    with pytest.raises(gf.DataError, match=message):
        fitted(y, loss, n_out, backend_name, **arguments)


@pytest.mark.parametrize("kind", ["labels", "probabilities", "binary"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_that_training_never_saw_are_refused(kind: str, smoothing: float, backend_name: str) -> None:
    name, y, n_out = TARGETS[kind]
    loss = type(get_loss(name))(label_smoothing=smoothing)
    chosen = LABELS == 0
    with pytest.raises(gf.DataError, match="validation y has classes that do not occur in training: 1; split the data"):
        fitted(y[chosen], loss, n_out, backend_name, x=X[chosen], validation_data=(X, y))


def test_standardized_targets_require_regression(backend_name: str) -> None:
    network = gf.MLP([4, 2], backend=backend_name)
    trainer = gf.Trainer(network, "softmax_cross_entropy", "adam", standardize_targets=True)
    with pytest.raises(gf.DataError, match="require a regression loss, got 'softmax_cross_entropy'"):
        trainer.fit(X, LABELS, epochs=1)
    with pytest.raises(gf.DataError, match="average must be at least 0 and below 1, got 1"):
        gf.Trainer(network, "softmax_cross_entropy", "adam", average=1)
