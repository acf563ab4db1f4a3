"""Showing how training goes on: a live bar on a terminal, a renewed line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from gradflow.errors import DataError, shown
from gradflow.training.callbacks import Callback

if TYPE_CHECKING:
    from gradflow.training.history import History
    from gradflow.training.trainer import Trainer

__all__ = ["progress_callback"]


def progress_callback(progress: bool | str) -> list[Callback]:
    """The callback, if any, for the ``progress`` argument of `Trainer.fit`.

    Raises:
        DataError: for anything but True, False and "auto".
    """
    if not isinstance(progress, bool | str) or progress not in (True, False, "auto"):
        raise DataError(f'progress must be True, False or "auto", got {shown(progress)}')
    on_terminal, in_notebook = sys.stderr.isatty(), "ipykernel" in sys.modules
    if progress is False or (progress == "auto" and not (on_terminal or in_notebook)):
        return []
    if in_notebook:
        return [_Notebook()]
    if on_terminal and importlib.util.find_spec("rich") is not None:
        return [_Bar()]
    return [_Lines()]


def describe(values: dict[str, float]) -> str:
    """The values of an epoch in one line, short enough for a bar beside it: "loss 0.3983 (val 0.2100)".

    Those of single layers, such as "dead/1", are left out.
    """
    words = []
    for name, value in values.items():
        if not name.startswith("val_") and "/" not in name:
            validation = f" (val {_short(values[f'val_{name}'])})" if f"val_{name}" in values else ""
            words.append(f"{name} {_short(value)}{validation}")
    return "  ".join(words)


def _short(value: float) -> str:
    return f"{value:.2e}" if 0 < abs(value) < 0.001 else f"{value:.4f}"


class _Lines(Callback):
    """About ten lines over the whole run, on standard error."""

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        self._epochs = epochs
        self._every = max(1, epochs // 10)

    def on_epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        if epoch == 1 or epoch % self._every == 0:
            print(f"epoch {epoch}/{self._epochs}  {describe(values)}", file=sys.stderr, flush=True)


class _Notebook(Callback):
    """One line below the cell of a notebook, renewed after each epoch."""

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        from IPython.display import display

        self._epochs = epochs
        self._handle: Any = display(self._bundle(0, {}), raw=True, display_id=True)

    def on_epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        self._handle.update(self._bundle(epoch, values), raw=True)

    def _bundle(self, epoch: int, values: dict[str, float]) -> dict[str, str]:
        return {"text/plain": f"epoch {epoch}/{self._epochs}  {describe(values)}"}


class _Bar(Callback):
    """A progress bar with the values of the last epoch, on standard error."""

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._progress: Any = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[values]}"),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task("training", total=epochs, values="")
        self._progress.start()

    def on_epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        self._progress.update(self._task, completed=epoch, values=describe(values))

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        self._progress.stop()
