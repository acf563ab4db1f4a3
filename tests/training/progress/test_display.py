"""The display during training: the epoch always, values if there is room, and nothing that breaks `fit`."""

from __future__ import annotations

import io
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gradflow as gf
from gradflow.training.progress import display as progress
from gradflow.training.progress.display import Display, Part, fitting, progress_callback
from gradflow.training.step import epoch as passes

X, Y = np.linspace(0, 1, 80).reshape(40, 2), np.linspace(0, 1, 40).reshape(40, 1)
VALUES = {"loss": 0.045, "val_loss": 0.0634, "accuracy": 0.991, "val_accuracy": 0.9805, "f1": 0.07, "dead/1": 0.0}


def trainer() -> gf.Trainer:
    return gf.Trainer(gf.MLP([2, 3, 1], backend="numpy"), "mean_squared_error", "sgd")


def display_at(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, epochs: int = 50, step: int = 0, values: Any = VALUES
) -> Display:
    """Return a display in epoch 12, the given number of seconds after the start."""
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    display = progress._Bar()
    Display.on_fit_begin(display, trainer(), epochs)
    display.look(0, 0, 300, 9600)
    for epoch in range(1, 12):
        now = 100.0 + seconds * epoch / (11 + step / 300)
        display.on_epoch_end(trainer(), epoch, values)
    display.look(11, step, 300, 9600)
    now = 100.0 + seconds
    return display


def shown(display: Display, width: int) -> str:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=width, color_system=None)
    console.print(display)
    return console.file.getvalue().rstrip()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (20, "epoch 12/50  1:55"),
        (25, "epoch 12/50  6:25 left"),
        (40, "epoch 12/50  1:55  6:25 left  960 rows/s"),
        (60, "epoch 12/50  step 150/300  6:25 left  960 rows/s  f1 0.0700"),
        (80, "epoch 12/50  step 150/300  1:55  6:25 left  960 rows/s  loss 0.0450 (val 0.0634)"),
        (
            160,
            "epoch 12/50  ........  step 150/300  1:55  6:25 left  960 rows/s  "
            "loss 0.0450 (val 0.0634)  accuracy 0.9910 (val 0.9805)  f1 0.0700",
        ),
    ],
)
def test_the_epoch_never_goes_and_values_go_first(width: int, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bar_of_any_kind = re.escape(line).replace(re.escape("........"), ".{8}")
    assert re.fullmatch(bar_of_any_kind, shown(display_at(monkeypatch, 115, step=150), width))


def test_short_epochs_show_no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would flicker; and the demo's line fits a terminal of 80 columns."""
    values = {name: value for name, value in VALUES.items() if name != "f1"}
    line = shown(display_at(monkeypatch, 3, step=150, values=values), 80)
    assert line == "epoch 12/50  0:10 left  loss 0.0450 (val 0.0634)  accuracy 0.9910 (val 0.9805)"


def test_the_most_important_value_is_shown_even_without_room() -> None:
    parts = [Part(1, "bbb"), Part(0, "aaaa"), Part(2, "c")]
    lines = [fitting(parts, width) for width in (1, 6, 7, 9, 12)]
    assert lines == [["aaaa"], ["aaaa"], ["aaaa", "c"], ["bbb", "aaaa"], ["bbb", "aaaa", "c"]]


def test_a_resumed_run_estimates_time_from_its_own_start(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    display = Display()
    display.on_fit_begin(trainer(), 20)
    display.look(10, 0, 4, 128)
    now = 30.0
    display.look(10, 2, 4, 128)
    assert "9:30 left" in [part.text for part in display.parts()]  # half an epoch in 30 s, 9.5 to go


def test_the_display_hears_of_steps_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    class Listener(Display):
        def look(self, epochs_done: int, step: int, steps: int, rows: int) -> None:
            heard.append((epochs_done, step, steps, rows))

    monkeypatch.setattr(passes, "_SECONDS_BETWEEN_LOOKS", 0.0)
    trainer().fit(X, Y, epochs=2, batch_size=10, progress=False, callbacks=[Listener()])
    assert heard == [(epoch, step, 4, 40) for epoch in (0, 1) for step in range(3)]  # the last two steps run together


def test_progress_does_without_standard_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """As under pythonw, in a daemon, or after 2>&- in a shell."""
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        for wish in ("auto", True, False):
            assert trainer().fit(X, Y, epochs=1, progress=wish).epochs == 1
    assert capsys.readouterr().out == ""


def test_standard_error_may_be_an_object_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=written.append, flush=lambda: None))
    for wish in ("auto", False):
        trainer().fit(X, Y, epochs=1, progress=wish)
    assert written == []
    trainer().fit(X, Y, epochs=1, progress=True)
    assert "".join(written).startswith("epoch 1/1  loss ")


class Handle:
    """Collects the output that a notebook cell would show."""

    def __init__(self, bundle: dict[str, str]) -> None:
        self.lines = [bundle["text/plain"]]

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        self.lines.append(bundle["text/plain"])


def ipython(monkeypatch: pytest.MonkeyPatch, shell: object) -> list[Handle]:
    """Pretend that IPython has been imported and this is its shell."""
    handles: list[Handle] = []

    def display(bundle: dict[str, str], **options: object) -> Handle:
        handles.append(Handle(bundle))
        return handles[-1]

    package, displays = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    displays.display = display  # type: ignore[attr-defined]
    package.display = displays  # type: ignore[attr-defined]
    for name, module in {"IPython": package, "IPython.display": displays, "ipykernel": ModuleType("ipykernel")}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return handles


def test_the_rows_of_a_resumed_run_are_those_since_it_was_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    display = Display()
    display.on_fit_begin(trainer(), 20)
    display.look(10, 2, 4, 100_000)  # in the middle of an epoch
    now = 5.0
    display.look(10, 3, 4, 100_000)
    assert {"5,000 rows/s", "3:05 left"} <= {part.text for part in display.parts()}


def test_short_epochs_do_not_update_a_notebook_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each update is a message to the browser, which takes longer than many steps."""
    now = 0.0

    class AtAnEighthOfASecond(gf.Callback):
        def on_epoch_end(self, trainer: gf.Trainer, epoch: int, values: dict[str, float]) -> None:
            nonlocal now
            now += 0.125

    handles = ipython(monkeypatch, SimpleNamespace(kernel=object()))
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    trainer().fit(X, Y, epochs=20, callbacks=[AtAnEighthOfASecond()])
    assert [line.split("  ")[0] for line in handles[0].lines] == [
        f"epoch {epoch}/20" for epoch in (1, 6, 11, 16, 20, 20)
    ]


def test_a_notebook_shows_one_updated_line(monkeypatch: pytest.MonkeyPatch) -> None:
    handles = ipython(monkeypatch, SimpleNamespace(kernel=object()))
    trainer().fit(X, Y, epochs=3)
    (handle,) = handles
    assert handle.lines[0].startswith("epoch 1/3")
    assert [line.split("  ")[0] for line in handle.lines[-2:]] == ["epoch 1/3", "epoch 3/3"]
    assert "loss 0." in handle.lines[-1]
    trainer().fit(X, Y, epochs=1, progress=False)
    assert len(handles) == 1


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["a script", "a shell on a terminal"])
def test_an_imported_kernel_that_does_not_run_is_no_notebook(shell: object, monkeypatch: pytest.MonkeyPatch) -> None:
    handles = ipython(monkeypatch, shell)
    assert trainer().fit(X, Y, epochs=2).epochs == 2
    assert (handles, progress_callback("auto")) == ([], [])
