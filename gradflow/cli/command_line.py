"""The arguments of a training command, saved in its run folder to resume the run or to repeat it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from gradflow.errors import DataError
from gradflow.files import read_json, write_atomically, write_json
from gradflow.json_shape import check_shape
from gradflow.training import Callback, Trainer

_NAME = "command.json"


class KeepsCommandLine(Callback):
    """Writes the arguments, and further files by name, into the run folder when training begins."""

    first_rank_only = True

    def __init__(self, folder: Path, words: Sequence[str], files: Mapping[str, bytes]) -> None:
        self._folder, self._words, self._files = folder, list(words), files

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        write_json(self._folder / _NAME, {"arguments": self._words})
        for name, content in self._files.items():
            write_atomically(self._folder / name, content)


def read_command_line(folder: Path) -> list[str]:
    """Return the arguments after ``gradflow train`` of the run in a folder.

    Raises:
        DataError: if there is no such run.
        FileFormatError: if the file with the arguments is damaged.
    """
    path = folder / _NAME
    try:
        content = read_json(path, "arguments")
    except OSError as error:
        raise DataError(
            f"{folder} contains no run of the gradflow command: {path}: {error.strerror}. To resume a run of your own "
            "program, call trainer.fit(..., resume=folder); to repeat it, gradflow.repeat(folder, x, y)"
        ) from error
    check_shape(content, {"arguments": [str]}, str(path))
    words: list[str] = content["arguments"]
    return words


def without(words: Sequence[str], option: str, *, n_values: int = 1) -> list[str]:
    """Remove an option and its values, such as "--epochs 5" or "--epochs=5"."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == option:
            list(itertools.islice(rest, n_values))
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept
