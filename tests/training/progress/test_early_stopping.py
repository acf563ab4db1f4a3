"""Early stopping: the epoch that counts as best."""

from __future__ import annotations

from pathlib import Path

import pytest

import gradflow as gf
from gradflow.training.progress.early_stopping import BestValue
from tests.training.runs.test_resume import LABELS, X, bits, fit, trainer


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


# -- values of callbacks -----------------------------------------------------------------------------------------------

VALUES = [3.0, 1.0, 2.0, 2.5, 0.5, 0.25]


class Measures(gf.Callback):
    """Returns a value that was decided on, and keeps the weights that it stands for."""

    def __init__(self, values: list[float] = VALUES) -> None:
        self.values, self.weights = values, list[bytes]()

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> dict[str, float]:
        self.weights.append(trainer.network.backend.to_host(trainer.network.parameters).tobytes())
        return {"cost": self.values[epoch - 1]}


@pytest.mark.parametrize(("larger", "best", "epochs"), [(None, 2, 4), (False, 2, 4), (True, 1, 3)])
def test_the_value_of_a_callback_may_be_watched(
    larger: bool | None, best: int, epochs: int, backend_name: str, tmp_path: Path
) -> None:
    measures, of = Measures(), trainer(backend_name)
    stopping = gf.EarlyStopping("cost", patience=2, larger_is_better=larger)
    history = fit(of, tmp_path, epochs=6, early_stopping=stopping, callbacks=[measures], checkpoint=gf.Checkpoint())
    assert (history.stopped_by, history.epochs, history.best_epoch) == ("early stopping", epochs, best)
    assert of.network.backend.to_host(of.network.parameters).tobytes() == measures.weights[best - 1]
    again = trainer(backend_name)
    assert fit(again, epochs=6, early_stopping=stopping, callbacks=[measures], resume=tmp_path).best_epoch == best
    assert bits(again, history) == bits(of, history)


def test_members_of_a_pack_watch_their_own_values() -> None:
    callbacks = [Measures(VALUES[start:] + VALUES) for start in (0, 1, 4)]
    pack = gf.Pack([trainer("numpy") for _ in callbacks])
    stopping = gf.EarlyStopping("cost", patience=2)
    pack.fit(
        X, LABELS, epochs=6, early_stopping=stopping, callbacks=gf.Each([[each] for each in callbacks]), progress=False
    )
    assert [history and history.best_epoch for history in pack.histories] == [2, 1, 2]


def test_a_value_that_no_callback_returns_is_named() -> None:
    for monitor in ("val_cost", "cost/1", ""):
        with pytest.raises(gf.DataError, match=r"cannot monitor .*; valid names: loss, accuracy; "):
            fit(trainer("numpy"), early_stopping=gf.EarlyStopping(monitor), callbacks=[Measures()])
    with pytest.raises(
        gf.DataError, match=r"cannot monitor 'costs', which no callback returned .*: loss, accuracy, cost"
    ):
        fit(trainer("numpy"), early_stopping=gf.EarlyStopping("costs"), callbacks=[Measures()])
    with pytest.raises(gf.DataError, match="larger_is_better must be True or False"):
        gf.EarlyStopping(larger_is_better="yes")  # type: ignore[arg-type]


def test_the_direction_is_described_where_it_is_given() -> None:
    stopping = gf.EarlyStopping("cost", larger_is_better=False)
    assert stopping.config()["larger_is_better"] is False
    assert gf.EarlyStopping(**stopping.config()).config() == stopping.config()
