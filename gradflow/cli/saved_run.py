"""A run folder or a model file, as `gradflow predict`, `evaluate` and `show` take it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gradflow.cli.fitting import resuming
from gradflow.cli.member_folders import member_folders
from gradflow.cli.run_config import CONFIG_FILE, read_config
from gradflow.data import CSV
from gradflow.data.any_file import column_names, existing, kind_of, open_file
from gradflow.data.columns import CategoryColumn, EmbeddingColumn
from gradflow.data.dates import DateColumn
from gradflow.data.numpy_file import NumPyFile, columns_of_targets, target_file
from gradflow.data.streams import Stream
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError
from gradflow.network import Sequential
from gradflow.training.runs.comparison import read_config as read_run
from gradflow.training.runs.loading import load

Delimiter = Annotated[
    str | None, typer.Option(help="Character between the fields of a CSV file.", show_default="as in training")
]
Encoding = Annotated[str | None, typer.Option(help="Encoding of a CSV file.", show_default="as in training")]
Missing = Annotated[
    list[str] | None,
    typer.Option(help="Text that marks a missing value.", metavar="TEXT", show_default="as in training"),
]
BackendName = Annotated[str, typer.Option(help="Backend: auto, numpy or cupy.")]


_MOST_LISTED = 30


@dataclass(frozen=True)
class SavedRun:
    """A saved network, and what its run folder says about it.

    Attributes:
        path: the run folder, or the file of the model.
        home: the folder with the settings: the same, or for a member of an ensemble the one above.
        network: the network, or several that predict together.
        settings: the settings of a run on one's own data, by the names of the options; empty for other runs.
    """

    path: Path
    home: Path
    network: Sequential | Ensemble
    settings: dict[str, Any]

    @property
    def networks(self) -> list[Sequential]:
        """The network, or the members of the ensemble."""
        return list(self.network) if isinstance(self.network, Ensemble) else [self.network]

    @property
    def results(self) -> list[dict[str, Any]]:
        """The config.json of the finished run, or that of each member; none if there is none."""
        folders = member_folders(self.path) if isinstance(self.network, Ensemble) else [self.path]
        return [read_run(folder) for folder in folders if (folder / "config.json").is_file()]

    @property
    def target_names(self) -> list[str]:
        """The names of the targets, those from a file of their own without its folder; empty if they are unknown."""
        names: list[str] = self.settings.get("target", [])
        return [Path(name).name if target_file(name) else name for name in names]

    def opened(self, path: Path, reading: dict[str, Any], *, target: list[str] | None = None) -> Stream:
        """Open a file with the columns of the network, read as the file of its training was.

        Args:
            path: the file.
            reading: delimiter, encoding and na_values of a CSV file; None takes those of the training.
            target: the columns with targets; None if they are not needed.

        Raises:
            FileNotFoundError: if there is no such file.
            DataError: if columns are missing, or the network does not know the names of its columns.
        """
        names = {
            "delimiter": "delimiter",
            "decimal": "decimal",
            "thousands": "thousands",
            "encoding": "encoding",
            "na_values": "missing",
        }
        of_training = {name: self.settings.get(option) for name, option in names.items()}
        if kind_of(path) is not CSV:
            of_training = dict.fromkeys(names)
        elif kinds_differ(path, self.settings.get("data")):
            of_training["delimiter"] = None
        read = {name: reading.get(name) or of_training[name] for name in names}
        of_header = {name: value for name, value in read.items() if value and name in ("delimiter", "encoding")}
        available = column_names(path, **of_header)
        features = self._features(path, available, target or [])
        weight = self.settings.get("sample-weight") if target else None
        return open_file(path, target=target, features=features, sample_weight=weight, text=self._text(), **read)

    def targets(self, path: Path, given: list[str] | None) -> list[str]:
        """Return the names of the columns of a file with the targets.

        Args:
            path: the file.
            given: what the user named; None means the target of the training.

        Raises:
            DataError: if the training did not name it, or it was a file of its own, with the rows of the training.
        """
        if given:
            return columns_of_targets(existing(path), given)
        names: list[str] = self.settings.get("target", [])
        if not names:
            raise DataError(f"the run in {self.path} does not name its target; pass --target COLUMN")
        if kind_of(existing(self.settings["data"])) is NumPyFile and any(map(target_file, names)):
            raise DataError(
                f"the targets of the training were a file of their own; name that for the rows of {path}: --target "
                "y.npy, or a column"
            )
        return names

    def _features(self, path: Path, available: list[str], target: list[str]) -> list[str]:
        """Return the names of the columns of the network, after checking that the file has them."""
        network = self.networks[0]
        names, width = network.feature_names, network.n_in
        if names is None and network.preprocessing is not None:
            names = network.preprocessing.names  # "0", "1", ..., which columns of an array have
        if names is None and kind_of(path) is NumPyFile:
            names = tuple(name for name in available if name not in target)
            if len(names) != width:
                raise DataError(
                    f"{path} has {len(names)} columns of inputs, but the network takes {width}, which it "
                    "knows by their places only"
                )
        if names is None:
            raise DataError(
                f"{self.path}: the network does not know the names of its {width} columns, since it "
                "was trained on an array; save the rows as an array too, with numpy.save, or predict in Python"
            )
        if missing := [name for name in names if name not in available]:
            meant = difflib.get_close_matches(missing[0], [name for name in available if name not in names], 1, 0.7)
            nearest = f". Is {missing[0]!r} called {meant[0]!r} there? Then rename it" if meant else ""
            listed = listed_shortly(list(map(repr, missing)))
            raise DataError(
                f"{path} lacks {'the column' if len(missing) == 1 else 'the columns'} {listed}, from which the network "
                f"predicts; it has {listed_shortly(available)}{nearest}"
            )
        return list(names)

    def _text(self) -> list[str]:
        """Return the names of the columns to read as text."""
        return [
            name
            for preprocessing in (network.preprocessing for network in self.networks)
            if preprocessing is not None
            for name, column in zip(preprocessing.names, preprocessing.columns, strict=True)
            if isinstance(column, DateColumn)
            or (isinstance(column, CategoryColumn | EmbeddingColumn) and column.is_text)
        ]


def listed_shortly(names: Sequence[str]) -> str:
    """Return names separated by commas, without those in the middle if there are many."""
    shown = names if len(names) <= _MOST_LISTED else [*names[:_MOST_LISTED], "...", names[-1]]
    return ", ".join(shown)


def kinds_differ(path: Path, data: Any) -> bool:
    """True if two files have different suffixes, and therefore perhaps different delimiters."""
    return data is None or Path(str(data)).suffix != path.suffix


def saved_run(path: Path, backend: str = "auto") -> SavedRun:
    """Load a run folder or a model file.

    Raises:
        FileNotFoundError: if there is no such file.
        DataError, FileFormatError: if there is no run in the folder, or the file is damaged.
    """
    path = existing(path)
    if member_folders(path) and not (path / "model.safetensors").is_file():
        raise DataError(
            f"the run in {path} of several networks has not ended; finish it first: {resuming(path)}; or pass the "
            f"folder of a single one, such as {member_folders(path)[0]}"
        )
    network = load(path, backend)
    home = path.parent if path in member_folders(path.parent) else path
    is_own = home.is_dir() and (home / CONFIG_FILE).is_file()
    return SavedRun(path, home, network, read_config(home) if is_own else {})
