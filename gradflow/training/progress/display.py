"""Progress display: a live line on a terminal, an updated line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from gradflow.errors import DataError, shown
from gradflow.training.progress.callbacks import Callback, Looker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradflow.training.progress.history import History

_LONG_EPOCH = 1.0
"""Steps are shown only if an epoch takes more seconds than this; in shorter ones they would just flicker."""
_BETWEEN_UPDATES = 0.5
"""Seconds between two updates of a notebook within an epoch."""
_NOTEBOOK_WIDTH = 120
_BAR_WIDTH = 8


def progress_callback(progress: bool | str, networks: int = 1) -> list[Callback]:
    """Return the callback, if any, for the ``progress`` argument of `Trainer.fit`.

    Args:
        progress: the argument.
        networks: the number of networks whose epochs are counted together.

    Raises:
        DataError: for anything but True, False and "auto".
    """
    if not isinstance(progress, bool | str) or progress not in (True, False, "auto"):
        raise DataError(f'progress must be True, False or "auto", got {shown(progress)}')
    # A program may have replaced sys.stderr by an object that can only write.
    is_open = sys.stderr is not None and not getattr(sys.stderr, "closed", False)
    on_terminal, in_notebook = is_open and getattr(sys.stderr, "isatty", bool)(), _in_notebook()
    if progress is False or not (is_open or in_notebook):
        return []
    if in_notebook:
        return [_Notebook(networks)]
    if on_terminal and importlib.util.find_spec("rich") is not None:
        return [_Bar(networks)]
    return [_Lines(networks)] if on_terminal or progress is True else []


def _count(epoch: int, epochs: int, networks: int) -> str:
    """Return how many epochs are done, as text."""
    return f"epoch {epoch}/{epochs}{f' of {networks} networks' if networks > 1 else ''}"


def _in_notebook() -> bool:
    """True if an IPython kernel runs this program; an imported IPython alone does not tell."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython is not None else False


def describe(values: dict[str, float]) -> str:
    """Format the values of an epoch as one line, short enough to leave room for a bar: "loss 0.3983 (val 0.2100)".

    Values of single layers, such as "dead/1", are left out.
    """
    return "  ".join(_words(values))


def _words(values: dict[str, float]) -> Iterator[str]:
    for name, value in values.items():
        if not name.startswith("val_") and "/" not in name:
            validation = f" (val {_short(values[f'val_{name}'])})" if f"val_{name}" in values else ""
            yield f"{name} {_short(value)}{validation}"


def _short(value: float) -> str:
    return f"{value:.2e}" if 0 < abs(value) < 0.001 else f"{value:.4f}"


def _clock(seconds: float) -> str:
    """Format seconds as "3:21" or "1:03:21"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Part(NamedTuple):
    """A part of the progress line; parts of lower rank get room first."""

    rank: int
    text: str


def fitting(parts: list[Part], width: int) -> list[str]:
    """Return the parts that fit in a line, two spaces apart; the part of lowest rank always stays."""
    chosen: set[int] = set()
    room = width + 2
    for place in sorted(range(len(parts)), key=lambda place: parts[place].rank):
        needed = len(parts[place].text) + 2
        if not chosen or needed <= room:
            chosen.add(place)
            room -= needed
    return [part.text for place, part in enumerate(parts) if place in chosen]


class Display(Looker):
    """Base class of displays that track the progress of training.

    Args:
        networks: the number of networks whose epochs are counted together.
    """

    first_rank_only = True

    def __init__(self, networks: int = 1) -> None:
        self._networks = networks

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self._epochs = epochs
        self._began = self._epoch_began = time.perf_counter()
        self._before: float | None = None  # epochs of a resumed run that had been done
        self._done, self._step, self._steps, self._rows = 0, 0, 1, 0
        self._last_epoch_took = 0.0
        self._values: dict[str, float] = {}
        self._is_over = False

    def look(self, epochs_done: int, step: int, steps: int, rows: int) -> None:
        if self._before is None:
            self._before = epochs_done + step / steps
        self._done, self._step, self._steps, self._rows = epochs_done, step, steps, rows

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if self._before is None:
            self._before = epoch - 1
        now = time.perf_counter()
        self._last_epoch_took, self._epoch_began = now - self._epoch_began, now
        self._done, self._step, self._values = epoch, 0, values

    def _epochs_at_once(self) -> int:
        return sys.maxsize

    def on_fit_end(self, trainer: Any, history: History) -> None:
        self._is_over = True

    def parts(self) -> list[Part]:
        """Return the parts of the line; spaces of its width stand for the bar."""
        now = time.perf_counter()
        elapsed = now - self._began
        done = self._done + self._step / self._steps - (self._before or 0)
        left = self._epochs - (self._before or 0) - done
        epoch = self._done if self._is_over else min(self._done + 1, self._epochs)
        parts = [Part(0, _count(epoch, self._epochs, self._networks)), Part(99, " " * _BAR_WIDTH)]
        is_long = max(self._last_epoch_took, now - self._epoch_began) > _LONG_EPOCH
        if is_long and self._step and not self._is_over:
            parts.append(Part(3, f"step {self._step}/{self._steps}"))
        parts.append(Part(98, _clock(elapsed)))
        if done > 0 and left > 0 and elapsed > 2 and not self._is_over:
            parts.append(Part(1, f"{_clock(elapsed / done * left)} left"))
        if is_long and done > 0 and self._rows:
            parts.append(Part(2, f"{round(done * self._rows / elapsed):,} rows/s"))
        return parts + [Part(rank, word) for rank, word in enumerate(_words(self._values), start=4)]

    def fraction(self) -> float:
        """Return the fraction of training that is done, from 0 to 1."""
        return (self._done + self._step / self._steps) / self._epochs


class _Lines(Callback):
    """Prints about ten lines over the whole run, on standard error."""

    first_rank_only = True

    def __init__(self, networks: int) -> None:
        self._networks = networks

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self._epochs = epochs
        self._every = max(1, epochs // 10)
        self._is_first = True  # of this call, which may resume a run

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        if self._is_first or epoch % self._every == 0:
            self._is_first = False
            count = _count(epoch, self._epochs, self._networks)
            print(f"{count}  {describe(values)}", file=sys.stderr, flush=True)

    def _epochs_at_once(self) -> int:
        return sys.maxsize


class _Notebook(Display):
    """Shows one line below a notebook cell, updated twice a second."""

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        from IPython import display

        show: Any = display.display  # which has no types
        super().on_fit_begin(trainer, epochs)
        self._updated = self._began
        self._handle: Any = show(self._bundle(), raw=True, display_id=True)

    def look(self, epochs_done: int, step: int, steps: int, rows: int) -> None:
        super().look(epochs_done, step, steps, rows)
        if time.perf_counter() - self._updated > _BETWEEN_UPDATES:
            self._update()

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        super().on_epoch_end(trainer, epoch, values)
        if time.perf_counter() - self._updated > _BETWEEN_UPDATES:  # a message to the browser takes longer than a step
            self._update()

    def on_fit_end(self, trainer: Any, history: History) -> None:
        super().on_fit_end(trainer, history)
        self._update()

    def _update(self) -> None:
        self._updated = time.perf_counter()
        if self._handle is not None:
            self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        parts = [part for part in self.parts() if part.text.strip()]
        return {"text/plain": "  ".join(fitting(parts, _NOTEBOOK_WIDTH))}


class _Bar(Display):
    """Shows a live line with a bar on standard error, drawn by a thread of rich so that training need not wait."""

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        from rich.console import Console
        from rich.live import Live

        super().on_fit_begin(trainer, epochs)
        self._live: Any = Live(self, console=Console(stderr=True), refresh_per_second=5)
        self._live.start()

    def on_fit_end(self, trainer: Any, history: History) -> None:
        super().on_fit_end(trainer, history)
        self._live.stop()

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        line = Table.grid(padding=(0, 2))
        line.add_row(
            *(
                Text(text, no_wrap=True) if text.strip() else ProgressBar(1.0, self.fraction(), width=len(text))
                for text in fitting(self.parts(), options.max_width)
            )
        )
        yield line
