"""Machine-readable progress: one JSON object per line."""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any, TextIO

from gradflow.errors import DataError, shown
from gradflow.training.progress.callbacks import Callback

if TYPE_CHECKING:
    from gradflow.training.progress.history import History


class JSONLines(Callback):
    """Writes a line when training begins, a line with the values after each epoch, and a line when training ends.

    Each line is a JSON object with "event": "begin", "epoch" or "end"; in a pack, "member" is the place of the member
    that it is of. NaN and infinity, which JSON cannot represent, become null.

    Args:
        file: an open text file, such as ``sys.stdout``; it is flushed after each line and not closed.

    Raises:
        DataError: if ``file`` is not an open text file.
    """

    first_rank_only = True

    def __init__(self, file: TextIO) -> None:
        if isinstance(file, type) or not hasattr(file, "write") or not hasattr(file, "flush"):
            raise DataError(f"file must be an open text file, such as sys.stdout, got {shown(file)}")
        self._file = file
        self._of: dict[str, int] = {}  # what every line says

    def _of_member(self, place: int) -> JSONLines:
        of_member = copy.copy(self)
        of_member._of = {"member": place}
        return of_member

    def _write(self, **values: Any) -> None:
        known = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in (values | self._of).items()
        }
        self._file.write(json.dumps(known) + "\n")
        self._file.flush()

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        self._write(event="begin", epochs=epochs, parameters=trainer.network.n_parameters)

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        self._write(event="epoch", epoch=epoch, **values)

    def on_fit_end(self, trainer: Any, history: History) -> None:
        self._write(
            event="end",
            epochs=history.epochs,
            seconds=history.seconds,
            stopped_by=history.stopped_by,
            best_epoch=history.best_epoch,
        )
