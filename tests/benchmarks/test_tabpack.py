"""The benchmark of ensembles that are chosen while a pack trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tabpack
from tests.benchmarks.test_contention import MACHINE

pd = pytest.importorskip("pandas")


def read(of_table: tabpack.Table, rows: int, seed: int) -> tuple[Any, np.ndarray]:
    """Return a small table with a gap, and targets that depend on it."""
    random = np.random.default_rng(seed)
    number, text = random.normal(size=rows), random.choice(["a", "b"], rows)
    score = number + (text == "a")
    frame = pd.DataFrame({"number": number, "text": text})
    frame.loc[3, "number"] = np.nan
    return frame, score if of_table.is_values else np.where(score > 0.5, "good", "bad")


def test_scores_are_measured_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabpack.Table, "read", read)
    monkeypatch.setattr(tabpack, "machine", lambda: MACHINE)
    sizes = ["--members", "3", "--seeds", "2", "--epochs", "8", "--rows", "400"]
    tabpack.main(["--data-sets", "diamonds", "wa_churn", *sizes, "--output", str(tmp_path)])
    result = json.loads((tmp_path / "tabpack.json").read_text())
    for entry, guess in zip(result["data_sets"], (1.0, np.log(2)), strict=True):
        assert len(entry["seeds"]) == 2
        for seed in entry["seeds"]:
            assert 0 < seed["ensemble"] < guess  # of a constant prediction
    assert "| wa_churn |" in (tmp_path / "tabpack.md").read_text()


def test_the_loss_of_classes_finds_the_column_of_each_name() -> None:
    class Model:
        classes = ("bad", "good")

        def predict(self, x: Any) -> np.ndarray:
            return np.array([[0.25, 0.75], [0.5, 0.5]])

    found = tabpack.loss(tabpack.TABLES["wa_churn"], Model(), (None, np.array(["good", "bad"])))
    assert found == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2)
