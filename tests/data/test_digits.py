"""The embedded digits."""

from __future__ import annotations

import numpy as np

import gradflow as gf


def test_each_image_is_in_one_part_with_its_label() -> None:
    digits = gf.data.load_digits()
    assert digits.x_train.shape == (1438, 64)
    assert digits.x_test.shape == (359, 64)
    assert len(digits.y_train) + len(digits.y_test) == 1797
    assert 0 <= digits.x_train.min() < digits.x_train.max() == 1
    assert set(digits.y_train) == set(digits.y_test) == set(range(10))
    assert np.bincount(digits.y_test).min() >= 34  # a fifth of each class


def test_they_print_on_one_line() -> None:
    assert repr(gf.data.load_digits()) == (
        "Digits(x_train: float32 (1438, 64), y_train: int32 (1438,), x_test: float32 (359, 64), y_test: int32 (359,))"
    )
