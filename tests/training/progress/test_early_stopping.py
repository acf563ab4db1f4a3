"""Early stopping: the epoch that counts as best."""

from __future__ import annotations

import pytest

import gradflow as gf
from gradflow.training.progress.early_stopping import BestValue


@pytest.mark.parametrize(("ties", "epoch", "since"), [("first", 2, 3), ("last", 4, 1)])
def test_the_first_or_the_last_of_equal_epochs_is_best(ties: str, epoch: int, since: int) -> None:
    best = BestValue("val_accuracy", ties=ties)
    for value in (0.5, 0.75, 0.5, 0.75, 0.625):
        best.update({"val_accuracy": value})
    assert (best.epoch, best.epochs_since) == (epoch, since)


def test_ties_are_described_where_they_matter() -> None:
    assert "ties" not in gf.EarlyStopping().config()
    stopping = gf.EarlyStopping("val_accuracy", 5, ties="last")
    assert gf.EarlyStopping(**stopping.config()).config() == stopping.config()
    with pytest.raises(gf.DataError, match="ties"):
        gf.EarlyStopping(ties="both")
