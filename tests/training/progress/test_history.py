"""The history as a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradflow as gf

RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 4))
Y = X @ RNG.normal(size=(4, 2))


def test_history_as_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    history = gf.Trainer(gf.MLP([4, 2], backend="numpy"), "mean_squared_error", "adam").fit(X, Y, epochs=3)
    history.to_parquet(tmp_path / "history.parquet")
    assert parquet.read_table(tmp_path / "history.parquet").to_pydict() == {"epoch": [1, 2, 3], "loss": history["loss"]}
