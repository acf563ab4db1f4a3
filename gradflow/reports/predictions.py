"""The quality of the predictions of a network on some rows, and the inputs that they depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from gradflow.data.table import Table, positions
from gradflow.ensemble import Ensemble, stand_in
from gradflow.losses import Loss
from gradflow.network import Sequential
from gradflow.reports.rows import SampledRows, class_numbers_of
from gradflow.training.step.objective import task_kind
from gradflow.training.trainer import Trainer

_BINS = 10
_WORST = 10
_REPEATS = 3
_IMPORTANCE_ROWS = 1000
_MOST_COLUMNS = 500


class Classified(NamedTuple):
    """Predictions of classes.

    Attributes:
        names: the names of the classes.
        confusion: the number of rows of each true class (first axis) by predicted class (second axis).
        confidence, accuracy, rows: for each bin of the probability of the predicted class: its mean, the fraction of
            correct predictions, and the number of rows.
        calibration_error: the mean difference between confidence and accuracy, weighted by rows (Naeini et al., 2015).
    """

    names: tuple[str, ...]
    confusion: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    rows: np.ndarray
    calibration_error: float


class Regressed(NamedTuple):
    """Predictions of numbers.

    Attributes:
        names: the names of the outputs.
        true, predicted: targets and predictions, (rows, n_out).
        r2: the fraction of the targets' variance that is explained, for each output; NaN for constant targets.
        error: the root mean squared error, for each output.
    """

    names: tuple[str, ...]
    true: np.ndarray
    predicted: np.ndarray
    r2: np.ndarray
    error: np.ndarray


class WorstRow(NamedTuple):
    """A row that is predicted badly.

    Attributes:
        number: its number, as in `SampledRows`.
        true, predicted: what it is, and what was predicted.
        measure: how bad that is: the probability of the true class, or the difference.
        values: its input columns by name.
    """

    number: int
    true: str
    predicted: str
    measure: str
    values: dict[str, str]


class Importance(NamedTuple):
    """The contribution of a column: by how much the loss rises if its values are shuffled (Breiman, 2001).

    Attributes:
        name: the name of the column.
        mean, std: mean and standard deviation of the rise over several shuffles.
    """

    name: str
    mean: float
    std: float


def judge(
    network: Sequential | Ensemble, loss: Loss, rows: SampledRows
) -> tuple[Classified | Regressed | None, list[WorstRow]]:
    """Return how good the predictions on some rows are, and the worst rows; None for a loss whose outputs are not
    predictions of the targets, or of several classes at once."""
    kind = task_kind(loss, network.n_out)
    if kind == "multi-label" or not loss.predicts_targets:
        return None, []
    predictions = np.asarray(network.predict(rows.x), np.float64)
    if kind == "numbers":
        return _regressed(predictions, rows)
    probabilities = np.hstack([1 - predictions, predictions]) if kind == "binary" else predictions
    return _classified(network, probabilities, rows)


def _classified(
    network: Sequential | Ensemble, probabilities: np.ndarray, rows: SampledRows
) -> tuple[Classified, list[WorstRow]]:
    n = probabilities.shape[1]
    names = tuple(map(str, range(n) if network.classes is None else network.classes))
    true, predicted = class_numbers_of(network, rows.y), probabilities.argmax(axis=1)
    confusion = np.zeros((n, n), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    confidence, is_right = probabilities.max(axis=1), true == predicted
    edges = np.linspace(0, 1, _BINS + 1)
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    used = counts > 0
    means = [np.bincount(bins, values, _BINS)[used] / counts[used] for values in (confidence, is_right)]
    error = float((abs(means[0] - means[1]) * counts[used]).sum() / len(true))
    of_true = probabilities[np.arange(len(true)), true]
    worst = [
        WorstRow(
            int(rows.numbers[row]), names[true[row]], names[predicted[row]], f"{of_true[row]:.2g}", _values(rows, row)
        )
        for row in np.argsort(of_true, kind="stable")[:_WORST].tolist()
    ]
    return Classified(names, confusion, means[0], means[1], counts[used], error), worst


def _regressed(predicted: np.ndarray, rows: SampledRows) -> tuple[Regressed, list[WorstRow]]:
    true = np.asarray(rows.y, np.float64).reshape(len(predicted), -1)
    if true.shape != predicted.shape:  # several quantiles of one target: the middle one is shown
        per_target = predicted.shape[1] // true.shape[1]
        predicted = predicted[:, per_target // 2 :: per_target]
    count = true.shape[1]
    unnamed = tuple(f"output {place}" for place in range(count))
    names = ("",) if count == 1 else rows.targets if len(rows.targets) == count else unnamed
    squares = ((true - predicted) ** 2).mean(axis=0)
    spread = true.var(axis=0)
    with np.errstate(all="ignore"):
        r2 = np.where(spread > 0, 1 - squares / spread, np.nan)
        far = (abs(true - predicted) / np.where(spread > 0, np.sqrt(spread), 1)).max(axis=1)
    worst = [
        WorstRow(
            int(rows.numbers[row]),
            _listed(true[row]),
            _listed(predicted[row]),
            _listed(predicted[row] - true[row]),
            _values(rows, row),
        )
        for row in np.argsort(-far, kind="stable")[:_WORST].tolist()
    ]
    return Regressed(names, true, predicted, r2, np.sqrt(squares)), worst


def _listed(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist())


def _values(rows: SampledRows, row: int) -> dict[str, str]:
    return {name: _shown(column[row]) for name, column in zip(rows.x.names, rows.x.columns, strict=True)}


def _shown(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "missing" if np.isnan(value) else f"{value:.6g}"
    return "missing" if value is None else str(value)


def importances(network: Sequential | Ensemble, loss: Loss, rows: SampledRows) -> list[Importance]:
    """Return the permutation importance of each column, the largest first, on up to 1000 rows; none if there are more
    than 500 columns."""
    if len(rows.x.names) > _MOST_COLUMNS:
        return []
    rows = rows.sample(_IMPORTANCE_ROWS)
    loss_on = _loss_of(network, loss)
    random = np.random.default_rng(0)
    before = loss_on(rows.x, rows.y)
    is_unnamed = rows.x.names == positions(len(rows.x.names))
    found = []
    for place, name in enumerate(rows.x.names):
        rises = []
        for _ in range(_REPEATS):
            columns = list(rows.x.columns)
            columns[place] = columns[place][random.permutation(len(rows.y))]
            shuffled = replace(rows.x, columns=tuple(columns))
            rises.append(loss_on(shuffled, rows.y) - before)
        shown = f"column {name}" if is_unnamed else name
        found.append(Importance(shown, float(np.mean(rises)), float(np.std(rises))))
    return sorted(found, key=lambda importance: -importance.mean)


def _loss_of(model: Sequential | Ensemble, loss: Loss) -> Callable[[Table, np.ndarray], float]:
    """Return a function that measures the loss of a model on inputs and targets."""
    if isinstance(model, Ensemble):

        def of_mean(x: Table, y: np.ndarray) -> float:
            instead = stand_in(model, x, y)
            return Trainer(instead.network, loss, "sgd").evaluate(instead.x, instead.y)["loss"]

        return of_mean
    trainer = Trainer(model.copy(), loss, "sgd")
    return lambda x, y: trainer.evaluate(x, y)["loss"]
