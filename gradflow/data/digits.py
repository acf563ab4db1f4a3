"""The embedded digits: 1,797 images of handwritten digits, 8 x 8 pixels, with a fixed split."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Digits(NamedTuple):
    """Inputs (rows, 64), float32 from 0 to 1 (pixels row by row, 1 is ink), and labels (rows,), int32 from 0 to 9."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}: {array.dtype} {array.shape}" for name, array in self._asdict().items())
        return f"Digits({shapes})"


def load_digits() -> Digits:
    """Load the optical digits of UCI (Alpaydin & Kaynak, 1998; CC BY 4.0): the 1,797 images that scikit-learn ships.

    A fifth of each class, 359 images in all, forms a fixed test set: see data/digits.md next to the file.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as arrays:
        x = arrays["pixels"].astype(np.float32) / np.float32(16)
        y = arrays["labels"].astype(np.int32)
        held_out = arrays["held_out"].astype(np.bool_)
    return Digits(x[~held_out], y[~held_out], x[held_out], y[held_out])
