"""A warning, once, if other work on the processors holds training back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.backends.cpu.backend import NumpyBackend
from gradflow.training.watch.other_work import OtherWork

X, Y = np.ones((64, 3), np.float32), np.zeros(64, int)


@pytest.fixture(autouse=True)
def not_yet_warned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OtherWork, "_has_warned", False)


def warnings_of_a_fit(monkeypatch: pytest.MonkeyPatch, delays: Iterator[tuple[float, float]]) -> list[str]:
    """Return the warnings of a fit of two epochs, during which programs were held back like this."""
    monkeypatch.setattr(NumpyBackend, "delays", lambda backend: next(delays))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = gf.MLP([3, 2], backend="numpy")
        gf.Trainer(network, "softmax_cross_entropy", "sgd").fit(X, Y, epochs=2, progress=False)
    for warning in caught:
        assert warning.category is gf.SlowPathWarning
        assert Path(warning.filename) == Path(__file__)
    return [str(warning.message) for warning in caught]


def test_it_tells_how_long_training_was_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = warnings_of_a_fit(monkeypatch, iter([(5.0, 3.0), (5.5, 3.2), (7.5, 4.0)]))
    assert message.startswith("other work on the processors held training back for 1.0 of 2.5 s")
    assert warnings_of_a_fit(monkeypatch, iter([(8.0, 4.0), (10.0, 6.0)])) == []


@pytest.mark.parametrize(("run", "held_back"), [(10.0, 1.9), (0.9, 0.9)], ids=["a small part", "a short time"])
def test_little_time_is_not_worth_a_warning(monkeypatch: pytest.MonkeyPatch, run: float, held_back: float) -> None:
    assert warnings_of_a_fit(monkeypatch, iter([(0.0, 0.0), (run, held_back), (run, held_back)])) == []


def test_other_backends_measure_nothing() -> None:
    assert gf.MLP([3, 2], backend="reference").backend.delays() == (0.0, 0.0)
