"""Comparison of two run folders: results bit for bit, environment and settings."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gradflow.checks import file_path
from gradflow.errors import DataError, FileFormatError
from gradflow.files import read_json, read_regular_file
from gradflow.json_shape import check_shape
from gradflow.storage import load_network
from gradflow.training.runs.checkpoints import differences

_SURROUNDINGS = (
    "versions",
    "platform",
    "backend",
    "device",
    "kernels",
    "blas",
    "data",
    "validation_data",
    "initial_state",
)
_NO_SETTINGS = (*_SURROUNDINGS, "network", "result")

Difference = tuple[str, Any, Any]
"""Name of what differs, and its value in the first and in the second run."""


class RunComparison(NamedTuple):
    """Differences between two runs; each entry is a name, and its values in the first and in the second run.

    Attributes:
        results: weights, and values of the history.
        surroundings: versions, backend, device, the instructions of the kernels, BLAS and its threads, data, and
            initial weights.
        settings: the arguments of the trainer and of `fit`.
    """

    results: list[Difference]
    surroundings: list[Difference]
    settings: list[Difference]

    @property
    def is_same(self) -> bool:
        """True if the results are the same, bit for bit."""
        return not self.results


def compare_runs(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> RunComparison:
    """Compare two run folders: weights and history bit for bit, environment and settings.

    Raises:
        DataError: if one of them holds no finished run.
        FileFormatError: if a file is damaged.
    """
    folders = file_path("first", first), file_path("second", second)
    one, other = (read_config(folder) for folder in folders)

    def differing(names: Sequence[str]) -> list[Difference]:
        return differences({name: one.get(name) for name in names}, {name: other.get(name) for name in names})

    settings = differing([name for name in {**one, **other} if name not in _NO_SETTINGS])
    try:
        results = _differing_results(*folders)
    except OSError as error:
        raise DataError(f"{error.filename}, which a finished run has, cannot be read: {error.strerror}") from error
    return RunComparison(results, differing(_SURROUNDINGS), settings)


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config.json of a finished run.

    Raises:
        DataError: if there is none.
        FileFormatError: if it is damaged or was edited.
    """
    path = folder / "config.json"
    try:
        config = read_json(path, "result")
    except OSError as error:
        raise DataError(f"there is no finished run in {folder}: {path}: {error.strerror}") from error
    check_shape(config, {"result": {"stopped_by": str}}, str(path))
    return config


def _differing_results(first: Path, second: Path) -> list[Difference]:
    """Return the weights that differ, with the largest difference, and the first epoch whose values differ."""
    found: list[Difference] = []
    weights, others = (load_network(folder / "model.safetensors", "numpy").get_weights() for folder in (first, second))
    for name in {**weights, **others}:
        shape, other = (arrays[name].shape if name in arrays else None for arrays in (weights, others))
        if shape != other:
            found.append((f"shape of weight {name}", shape, other))
        elif weights[name].tobytes() != others[name].tobytes():
            found.append((f"weight {name}", "", f"apart by {np.abs(weights[name] - others[name]).max():.3g} at most"))
    rows, other_rows = (read_history(folder) for folder in (first, second))
    if len(rows) != len(other_rows):
        found.append(("epochs", len(rows), len(other_rows)))
    for epoch, pair in enumerate(zip(rows, other_rows, strict=False), start=1):
        if parted := differences(*pair):
            return [*found, *((f"epoch {epoch}, {name}", *values) for name, *values in parted)]
    return found


def read_history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the history.csv of a run: the epoch and its values by name, as text.

    Raises:
        FileFormatError: if it is damaged.
        OSError: if it cannot be read.
    """
    path = folder / "history.csv"
    try:
        text = read_regular_file(path).decode("utf-8")
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (csv.Error, ValueError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
