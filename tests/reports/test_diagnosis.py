"""The diagnosis in words: each fault of a run is named with what to try, and a sound run with none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import gradflow as gf
from gradflow.reports.diagnosis import diagnose
from gradflow.reports.predictions import Classified
from gradflow.reports.rows import rows_of
from gradflow.training.progress.history import History

NETWORK = gf.MLP([3, 4, 4, 2], backend="numpy")
FALLEN = [2.0, 1.0, 0.5, 0.3, 0.2, 0.15, 0.12, 0.11, 0.105, 0.104]
GOOD = {"gradient_norm/0": 0.2, "gradient_norm/2": 0.3, "update_ratio/0": 1e-3, "dead/1": 0.1}


def history(loss: Sequence[float], val_loss: Sequence[float] | None = None, **last: float) -> History:
    made = History()
    for epoch, value in enumerate(loss):
        values = {"loss": value} | ({} if val_loss is None else {"val_loss": val_loss[epoch]})
        made.append(values | {**GOOD, **{name.replace("__", "/"): number for name, number in last.items()}})
    return made


def words(found: History, judged: Classified | None = None) -> str:
    return " ".join(f"{text} {advice}" for text, advice in diagnose(NETWORK, None, found, None, judged))


def classified(confusion: list[list[int]], confidence: float, accuracy: float) -> Classified:
    gap = abs(confidence - accuracy)
    arrays = np.array([confidence]), np.array([accuracy]), np.array([100])
    return Classified(("a", "b"), np.array(confusion), *arrays, gap)


def test_a_sound_run_has_nothing_to_try() -> None:
    found = diagnose(NETWORK, None, history([*FALLEN, 0.1035], [*FALLEN, 0.1035]), None, None)
    assert not any(finding.advice for finding in found)
    assert "Nothing else stands out" in found[-1].text


@pytest.mark.parametrize(
    ("loss", "val_loss", "last", "expected"),
    [
        (FALLEN, [*FALLEN[:4], 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], {}, "lowest in epoch 4 (0.3) and has risen to 0.9"),
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], None, {}, "still falling: by 17% during the last 1 of 6 epochs"),
        (FALLEN, None, {"dead__1": 0.75}, "75% of the units of layer 1, ReLU(), are dead"),
        (FALLEN, None, {"saturated__3": 0.97}, "97% of the outputs of layer 3, ReLU(), are near a limit"),
        (FALLEN, None, {"gradient_norm__0": 1e-6}, "The gradient of layer 0, Dense("),
        (FALLEN, None, {"update_ratio__0": 0.5}, "The steps are large for the weights of layer 0"),
        (FALLEN, None, {"update_ratio__0": 1e-7}, "The steps are small for the weights of layer 0"),
        ([1.0, float("nan")], None, {}, "The run diverged"),
    ],
)
def test_a_fault_is_named(
    loss: list[float], val_loss: list[float] | None, last: dict[str, float], expected: str
) -> None:
    assert expected.replace(", are", " are") in words(history(loss, val_loss, **last))


def test_classes_that_are_not_found_and_probabilities_that_are_wrong_are_named() -> None:
    found = history([*FALLEN, 0.1035])
    assert "Class b is found in 25% of its rows only; most others are taken for a." in words(
        found, classified([[60, 0], [30, 10]], 0.7, 0.7)
    )
    assert "too high: on average by 0.20" in words(found, classified([[50, 0], [0, 50]], 0.9, 0.7))
    assert "too low: on average by 0.20" in words(found, classified([[50, 0], [0, 50]], 0.7, 0.9))
    assert "Class" not in words(found, classified([[100, 0], [10, 5]], 0.7, 0.7))


def test_the_batch_is_examined_where_nothing_was_learned() -> None:
    random = np.random.default_rng(0)
    x, y = 1000 * random.normal(size=(100, 3)), random.integers(0, 2, 100)
    network = gf.MLP([3, 4, 2], backend="numpy")
    trainer = gf.Trainer(network, "softmax_cross_entropy", gf.SGD(1e-9))
    rows = rows_of(network, "data", (x, y))
    found = diagnose(network, trainer.objective, history([0.7, 0.7, 0.7]), rows, None)
    texts = " ".join(f"{text} {advice}" for text, advice in found)
    assert "Little was learned: the training loss is 0.7" in texts
    assert "fit_preprocessing" in texts
