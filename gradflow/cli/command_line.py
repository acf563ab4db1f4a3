"""The words of a command that trains, kept in its run folder: to go on with the run, and to run it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from gradflow.errors import DataError, FileFormatError
from gradflow.files import write_atomically
from gradflow.training import Callback, Trainer

__all__ = ["KeepsCommandLine", "read_command_line"]

_NAME = "command.json"


class KeepsCommandLine(Callback):
    """Writes the words into the folder once training begins there."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self._folder, self._words = folder, list(words)

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        text = json.dumps({"arguments": self._words}, indent=2)
        write_atomically(self._folder / _NAME, (text + "\n").encode())


def read_command_line(folder: Path) -> list[str]:
    """The words behind ``gradflow train`` of the run in a folder.

    Raises:
        DataError: if there is no such run.
        FileFormatError: if the file that says so is damaged.
    """
    path = folder / _NAME
    try:
        words = json.loads(path.read_bytes())["arguments"]
    except OSError as error:
        raise DataError(
            f"there is no run of the gradflow command in {folder}: {path}: {error.strerror}. A run of a program of "
            "your own goes on with trainer.fit(..., resume=folder)"
        ) from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise FileFormatError(f"{path} is damaged: expected a list of words")
    return words
