"""Values measured in each epoch of a training run."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, KeysView
from typing import TYPE_CHECKING, Any

from gradflow.checks import boolean, file_path, text
from gradflow.errors import DataError, GradflowError, shown
from gradflow.figures import learning_curves
from gradflow.files import write_atomically
from gradflow.installation import pip_install

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STOPPED_BY = ("epochs", "converged", "early stopping", "callback", "interrupted", "diverged", "error")
"""Reasons for which a run can end."""


class History:
    """Measured values by name: a list for each, with one value per epoch, averaged over rows.

    ``history["loss"]`` is the data loss, without penalties, averaged while the epoch ran; ``history["val_loss"]`` is
    the loss on the validation data at the end of the epoch. Classification adds "accuracy" and "val_accuracy".

    Attributes:
        seconds: duration of the whole run, in seconds.
        stopped_by: why the run ended: "epochs", "converged", "early stopping", "callback", "interrupted", "diverged"
            or, after any other error, "error".
        best_epoch: the epoch, counted from 1, whose weights early stopping or a divergence restored; None if no weights
            were restored, or those from before training.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self.seconds = 0.0
        self.stopped_by = "epochs"
        self.best_epoch: int | None = None

    def append(self, values: dict[str, float]) -> None:
        """Append the values of an epoch."""
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)

    def record(self) -> dict[str, Any]:
        """Return the history as a JSON-compatible dict."""
        return {
            "values": {name: list(values) for name, values in self._values.items()},
            "seconds": self.seconds,
            "stopped_by": self.stopped_by,
        }

    def restore(self, record: dict[str, Any]) -> None:
        """Restore the history from a `record`."""
        self._values = {name: list(values) for name, values in record["values"].items()}
        self.seconds = record["seconds"]
        self.stopped_by = record["stopped_by"]

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self._values.get("loss", ()))

    def __getitem__(self, name: str) -> list[float]:
        if not isinstance(name, str) or name not in self._values:
            given = ", ".join(self._values) or "no finished epoch"
            raise DataError(f"the history has no {shown(name)}; it has {given}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> KeysView[str]:
        """Return the names of the values; this makes ``dict(history)`` and ``pandas.DataFrame(history)`` work."""
        return self._values.keys()

    def plot(self, name: str = "loss", *, logarithmic: bool = False) -> Figure:
        """Plot the curve of a value, as `gradflow.inspect.plot_curves` does for several histories."""
        return learning_curves({"": self}, text("name", name), logarithmic=boolean("logarithmic", logarithmic))

    def last(self) -> dict[str, float]:
        """Return the values of the last epoch by name; empty before the first has finished."""
        return {name: values[-1] for name, values in self._values.items()}

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file with a row per epoch: its number, counted from 1, and its values."""
        write_atomically(file_path("path", path), self.csv_content(), through_links=True)

    def csv_content(self) -> bytes:
        """Return the bytes of the file that `to_csv` writes."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["epoch", *self._values])
        for epoch, row in enumerate(zip(*self._values.values(), strict=True), start=1):
            writer.writerow([epoch, *(repr(value) for value in row)])
        return text.getvalue().encode()

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write the same as a Parquet file: a column "epoch", and a column of 64-bit numbers for each value.

        Raises:
            GradflowError: if pyarrow is not installed.
        """
        target = file_path("path", path)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise GradflowError(
                f"Parquet files need pyarrow, which is not installed: {pip_install('arrow')}"
            ) from error
        table = pyarrow.table({"epoch": list(range(1, self.epochs + 1)), **self._values})
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink)
        write_atomically(target, sink.getvalue().to_pybytes(), through_links=True)

    def __repr__(self) -> str:
        last: Any = {name: round(value, 6) for name, value in self.last().items()}
        return f"History({self.epochs} epochs in {self.seconds:.2f} s, stopped by {self.stopped_by}, last: {last})"
