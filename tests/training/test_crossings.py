"""Every way in which a run folder can be left, and everything that can then be done with it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from tests.training.runs.test_recovery import files, on_a_full_disk, results
from tests.training.runs.test_resume import LABELS, BrokenOffError, Dies, X, fit, network, trainer

EPOCHS, LONGER = 4, 6
EARLY: dict[str, Any] = {"early_stopping": gf.EarlyStopping("loss", patience=1, min_delta=10.0)}


class Interrupts(gf.Callback):
    """Sends the signal of Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
        if epoch == self._epoch:
            signal.raise_signal(signal.SIGINT)


def diverging() -> gf.Trainer:
    return gf.Trainer(network("numpy", dropout=0.0), "softmax_cross_entropy", gf.GradientDescent(1e30))


def run(rule: str, folder: Path | None = None, **arguments: Any) -> None:
    """Train with a rule, or so that it diverges, into a folder, or continue the run in it."""
    if rule != "diverged":
        fit(trainer("numpy", rule), folder, **arguments)
        return
    with pytest.raises(gf.DivergedError):
        fit(diverging(), folder, **arguments)


def killed(rule: str, folder: Path, epoch: int = 3, **where: Any) -> None:
    where = where or {"folder": folder, "checkpoint": gf.Checkpoint(every_steps=3)}
    with pytest.raises(BrokenOffError):
        run(rule, callbacks=[Dies(epoch)], **where)


def interrupted(rule: str, folder: Path, epoch: int = 2, **where: Any) -> None:
    where = where or {"folder": folder, "checkpoint": gf.Checkpoint()}
    with pytest.raises(KeyboardInterrupt):
        run(rule, callbacks=[Interrupts(epoch)], **where)


def interrupted_twice(rule: str, folder: Path) -> None:
    interrupted(rule, folder, epoch=1)
    interrupted(rule, folder, epoch=3, resume=folder)


def interrupted_and_killed(rule: str, folder: Path) -> None:
    interrupted(rule, folder)
    killed(rule, folder, resume=folder)


def trained_longer(rule: str, folder: Path) -> None:
    run(rule, folder, checkpoint=gf.Checkpoint(), epochs=2)
    run(rule, resume=folder, epochs=EPOCHS)


def on_a_disk_that_fills(rule: str, folder: Path) -> None:
    assert "the results cannot be written" in on_a_full_disk("write", 2, folder, checkpoint=gf.Checkpoint())[1]


def replaced(rule: str, folder: Path) -> None:
    run("sgd with momentum", folder, checkpoint=gf.Checkpoint())
    run(rule, folder, checkpoint=gf.Checkpoint(), overwrite=True)


def of_another_program(rule: str, folder: Path) -> None:
    folder.mkdir()
    for name in ("model.safetensors", "config.json", "history.csv"):
        (folder / name).write_text("mine")


FINE = ""
"""The action succeeds; otherwise a pattern for the error message."""

FINISH = "was interrupted; finish it first"
NO_END = "there is no finished run in"
NO_CHECKPOINT = "there is no checkpoint in"
OTHERS = "not a gradflow model or is damaged"
OF_ITS_LENGTH = "settings.epochs was 4, but is 6"

State = Callable[[str, Path], None]
WAYS: dict[str, tuple[str, State, dict[str, str]]] = {
    "killed": ("adam", killed, {"resume": FINE, "longer": FINE, "repeat": NO_END, "load": FINE}),
    "killed, with a schedule": (
        "cosine",
        killed,
        {"resume": FINE, "longer": OF_ITS_LENGTH, "repeat": NO_END, "load": FINE},
    ),
    "interrupted": ("adam", interrupted, {"resume": FINE, "longer": FINE, "repeat": FINISH, "load": FINE}),
    "interrupted, with a schedule": (
        "plateau",
        interrupted,
        {"resume": FINE, "longer": OF_ITS_LENGTH, "repeat": FINISH, "load": FINE},
    ),
    "interrupted twice": ("adam", interrupted_twice, {"resume": FINE, "longer": FINE, "repeat": FINISH, "load": FINE}),
    "interrupted and killed": (
        "sgd with momentum",
        interrupted_and_killed,
        {"resume": FINE, "longer": FINE, "repeat": FINISH, "load": FINE},
    ),
    "on a disk that fills": (
        "adam",
        on_a_disk_that_fills,
        {"resume": FINE, "longer": FINE, "repeat": NO_END, "load": FINE},
    ),
    "finished": (
        "adam",
        lambda rule, folder: run(rule, folder, checkpoint=gf.Checkpoint()),
        {"resume": FINE, "longer": FINE, "repeat": FINE, "load": FINE},
    ),
    "trained longer": ("adam", trained_longer, {"resume": FINE, "longer": FINE, "repeat": FINE, "load": FINE}),
    "replaced": ("adam", replaced, {"resume": FINE, "longer": FINE, "repeat": FINE, "load": FINE}),
    "diverged": (
        "diverged",
        lambda rule, folder: run(rule, folder, checkpoint=gf.Checkpoint()),
        {"resume": FINE, "longer": FINE, "repeat": FINE, "load": FINE},
    ),
    "without checkpoints": (
        "adam",
        run,
        {"resume": NO_CHECKPOINT, "longer": NO_CHECKPOINT, "repeat": FINE, "load": FINE},
    ),
    "of another program": (
        "adam",
        of_another_program,
        {"resume": NO_CHECKPOINT, "longer": NO_CHECKPOINT, "repeat": "is damaged: it is not JSON", "load": OTHERS},
    ),
}
"""The ways in which run folders are left: the rule, the function that does it, and the result of each action."""

COMES_OF_ALL = {
    "other settings": "the run to resume is a different one|there is no checkpoint in",
    "new": "already contains",
}
COMES_OF_ALL |= {"overwrite": FINE}

ACTIONS: dict[str, Callable[[str, Path], Any]] = {
    "resume": lambda rule, folder: run(rule, resume=folder),
    "longer": lambda rule, folder: run(rule, resume=folder, epochs=LONGER),
    "other settings": lambda rule, folder: run(rule, resume=folder, batch_size=8),
    "new": lambda rule, folder: run(rule, folder, checkpoint=gf.Checkpoint()),
    "overwrite": lambda rule, folder: run(rule, folder, checkpoint=gf.Checkpoint(), overwrite=True),
    "repeat": lambda rule, folder: gf.repeat(folder, X, LABELS),
    "load": lambda rule, folder: gf.load(folder, "numpy"),
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Return the folder of an undisturbed run with a rule and the given number of epochs."""

    @cache
    def folder(rule: str, epochs: int) -> Path:
        made = tmp_path_factory.mktemp("alone")
        run(rule, made, epochs=epochs)
        return made

    return folder


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("way", WAYS)
def test_every_action_on_every_kind_of_run_folder(
    tmp_path: Path, alone: Callable[[str, int], Path], way: str, action: str
) -> None:
    rule, leave, comes_of = WAYS[way]
    message = (comes_of | COMES_OF_ALL)[action]
    folder = tmp_path / "run"
    leave(rule, folder)
    before = files(folder)
    if message:
        with pytest.raises((gf.DataError, gf.FileFormatError), match=message):
            ACTIONS[action](rule, folder)
        assert files(folder) == before
        return
    found = ACTIONS[action](rule, folder)
    if action in ("repeat", "load"):
        assert files(folder) == before
        assert action == "load" or found == gf.RunComparison([], [], [])
        return
    # It is one run, as if it had not been disturbed, and remains so after it is resumed again.
    epochs = LONGER if action == "longer" else EPOCHS
    assert results(folder) == results(alone(rule, epochs))
    run(rule, resume=folder, epochs=epochs)
    assert results(folder) == results(alone(rule, epochs))
    assert gf.repeat(folder, X, LABELS) == gf.RunComparison([], [], [])
    assert not gf.compare_runs(folder, alone(rule, epochs)).settings
    weights = gf.load(folder, "numpy").get_weights()
    for name, weight in gf.load(alone(rule, epochs), "numpy").get_weights().items():
        np.testing.assert_array_equal(weights[name], weight)


def test_a_run_that_stopped_early_stays_as_it_is(tmp_path: Path) -> None:
    fit(trainer("numpy"), tmp_path, checkpoint=gf.Checkpoint(), epochs=9, **EARLY)
    before = results(tmp_path)
    for epochs in (9, 12):
        history = fit(trainer("numpy"), resume=tmp_path, epochs=epochs, **EARLY)
        assert (history.stopped_by, history.epochs < 9) == ("early stopping", True)
        assert results(tmp_path) == before
        assert gf.repeat(tmp_path, X, LABELS).is_same
    with pytest.raises(gf.DataError, match=r"settings\.early_stopping was"):
        fit(trainer("numpy"), resume=tmp_path, epochs=9)
