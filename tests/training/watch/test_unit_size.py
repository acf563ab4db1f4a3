"""Inputs and targets far from unit size come first in the advice of a failing fit, and only if it applies."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
LARGE_X = X * [1, 1, 300] + [0, 0, 700]
CLASSES = np.digitize(X[:, 0] + X[:, 1], [-0.5, 0.5])
NUMBERS = X @ np.array([[0.5], [-0.7], [0.4]]) + 0.3 * RNG.normal(size=(200, 1))
LARGE_NUMBERS = 152 + 77 * NUMBERS
CE, MSE = "softmax_cross_entropy", "mean_squared_error"
INPUTS = (
    r"Inputs are far from unit size: column 2 is up to 1\d{3}\. "
    r"Scale them first: network.preprocessing = gradflow.data.fit_preprocessing\(x\)"
)
TARGETS = (
    r"Targets are far from unit size: they have mean 1\d\d and standard deviation [\d.]+\. "
    "Pass standardize_targets=True to the trainer"
)


def made(n_out: int, *before: Any, backend: str = "numpy") -> gf.Sequential:
    return gf.Sequential([*before, gf.Dense(3, 16), gf.ReLU(), gf.Dense(16, n_out)], seed=1, backend=backend)


def messages(trainer: gf.Trainer, x: Any, y: Any, **fit: Any) -> list[str]:
    """Return the warnings of a fit; they point to the line that called it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(x, y, **{"epochs": 12, **fit})
    assert {Path(warning.filename) for warning in caught} <= {Path(__file__)}
    return [str(warning.message) for warning in caught]


# -- the message -------------------------------------------------------------------------------------------------------


def test_a_slow_fit_on_large_inputs(backend_name: str) -> None:
    [message] = messages(gf.Trainer(made(3, backend=backend_name), CE, gf.Adam(1e-4)), LARGE_X, CLASSES)
    assert re.fullmatch(f"after 12 epochs the loss is still .*, while a constant prediction has 1.*{INPUTS}", message)


def test_a_slow_fit_on_large_targets(backend_name: str) -> None:
    [message] = messages(gf.Trainer(made(1, backend=backend_name), MSE, gf.Adam()), X, LARGE_NUMBERS)
    assert re.fullmatch(f"after 12 epochs the loss is still .*, while a constant prediction has .*{TARGETS}", message)


def test_a_slow_fit_on_a_stream() -> None:
    [message] = messages(gf.Trainer(made(1), MSE, gf.Adam()), gf.data.Batches([(X, LARGE_NUMBERS)]), None)
    assert re.search(TARGETS, message)


def test_a_stalled_loss(backend_name: str) -> None:
    network = made(3, backend=backend_name)
    network.set_weights(network.get_weights() | {"0.bias": np.full(16, -1e5)})
    [message] = messages(gf.Trainer(network, CE, gf.Adam()), LARGE_X, CLASSES)
    then = "Then, if it still stalls: It began in layer 1, ReLU"
    assert re.match(f"the loss has stalled: .*, while a constant prediction has .*{INPUTS}. {then}", message)


def test_an_exploding_loss(backend_name: str) -> None:
    trainer = gf.Trainer(made(1, backend=backend_name), MSE, gf.Adam(100.0))
    [message] = messages(trainer, LARGE_X, 0.1 * NUMBERS)
    assert re.match(f"the loss has exploded: .*, from .*{INPUTS}. Try a learning rate below 100, or clip_norm", message)


@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 1e30}, {"clip_value": 1e30}])
def test_a_loss_that_is_not_finite(clipping: dict[str, float], backend_name: str) -> None:
    trainer = gf.Trainer(made(1, backend=backend_name), MSE, gf.SGD(0.1), **clipping)
    remedy = "Try a learning rate below 0.1" + ("$" if clipping else ", or clip_norm=1.0$")
    with pytest.raises(gf.DivergedError, match=f"Cause: .*{INPUTS}. {TARGETS}. {remedy}"):
        trainer.fit(LARGE_X, LARGE_NUMBERS, epochs=100)


def test_columns_have_their_names() -> None:
    table = {"age": X[:, 0], "size": X[:, 1], "income": LARGE_X[:, 2]}
    [message] = messages(gf.Trainer(made(3), CE, gf.Adam(1e-4)), table, CLASSES)
    assert "Inputs are far from unit size: column 'income' is up to" in message


def test_targets_have_their_places() -> None:
    [message] = messages(gf.Trainer(made(2), MSE, gf.Adam()), X, np.hstack([NUMBERS, LARGE_NUMBERS]))
    assert "Targets are far from unit size: column 1 has mean 1" in message


def test_tiny_inputs() -> None:
    [message] = messages(gf.Trainer(made(3), CE, gf.Adam()), 1e-4 * X, CLASSES)
    assert "Inputs are far from unit size: none is above 0.0003" in message


# -- no message --------------------------------------------------------------------------------------------------------


def advice(trainer: gf.Trainer, x: Any, y: Any, **fit: Any) -> list[str]:
    """Return the warnings of a fit that mention unit size, possibly among other things."""
    return [message for message in messages(trainer, x, y, **fit) if "unit size" in message]


def test_no_message_if_already_scaled() -> None:
    preprocessed = made(1)
    preprocessed.preprocessing = gf.data.fit_preprocessing(LARGE_X)
    for network, x in ((preprocessed, LARGE_X), (made(1, gf.BatchNorm(3)), LARGE_X), (made(1, gf.Dropout(0.1)), X)):
        assert advice(gf.Trainer(network, MSE, gf.Adam(1e-5), standardize_targets=True), x, LARGE_NUMBERS) == []
    with pytest.raises(gf.DivergedError, match=r"finite.*\. Try a learning rate below 1e\+06, or clip_norm=1.0$"):
        gf.Trainer(preprocessed.copy(), MSE, gf.SGD(1e6)).fit(LARGE_X, LARGE_NUMBERS, epochs=12)


def test_no_message_for_counts_and_classes() -> None:
    assert advice(gf.Trainer(made(1), "poisson", gf.Adam(1e-5)), X, RNG.poisson(200, 200)) == []
    assert advice(gf.Trainer(made(3), CE, gf.Adam(1e-5)), X, CLASSES) == []


def test_no_message_if_a_fit_succeeds_or_has_just_begun() -> None:
    assert messages(gf.Trainer(made(1), MSE, gf.Adam(0.03)), X, LARGE_NUMBERS, epochs=150) == []
    assert messages(gf.Trainer(made(1), MSE, gf.Adam()), X, LARGE_NUMBERS, epochs=9) == []
    assert messages(gf.Trainer(made(1), MSE, gf.Adam(0.03)), X, np.full(200, 1000.0), epochs=40) == []


def test_rows_without_weight_do_not_count() -> None:
    weight = (np.arange(200) > 0).astype(float)
    x, y = (np.where(weight[:, None] == 0, 1e4, part) for part in (X, NUMBERS))
    assert advice(gf.Trainer(made(1), MSE, gf.Adam(1e-5)), x, y, sample_weight=weight) == []
