"""train.toml in a run folder: all settings of a run on one's own data, to read, to edit, and to train with again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gradflow.errors import DataError
from gradflow.version import __version__

CONFIG_FILE = "train.toml"


def settings_of(*options: Any) -> dict[str, Any]:
    """Return the values of dataclasses of options by their names on the command line, without those not given."""
    settings: dict[str, Any] = {}
    for group in options:
        for field in fields(group):
            value = getattr(group, field.name)
            if value is not None and value != [] and not (value is False and field.default is False):
                settings[field.name.replace("_", "-")] = str(value) if isinstance(value, Path) else value
    return settings


def toml_content(settings: dict[str, Any]) -> bytes:
    """Return the bytes of a config file."""
    lines = [f"# gradflow {__version__}. Train with these settings again: gradflow train --config {CONFIG_FILE}"]
    lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    return ("\n".join(lines) + "\n").encode()


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]" if len(value) < 2 else _lines_of(value)
    # JSON writes strings, numbers and booleans as TOML does, but for surrogates and the delete character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _lines_of(values: list[Any]) -> str:
    return "[\n" + "".join(f"    {_toml(value)},\n" for value in values) + "]"


def read_config(path: Path) -> dict[str, Any]:
    """Read a config file: names of options and their values.

    Raises:
        DataError: if there is no such file, or it is not TOML.
    """
    path = path / CONFIG_FILE if path.is_dir() else path
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; a run on a file of your own leaves it in its folder") from error
    except ValueError as error:
        raise DataError(f"{path} is not a config file of gradflow train: {error}") from error


def words_of(settings: dict[str, Any]) -> list[str]:
    """Return the arguments of the command line that have the same effect as the settings."""
    words = [str(settings["data"])] if "data" in settings else []
    for name, value in settings.items():
        if name == "data":
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            for item in value if isinstance(value, list) else [value]:
                words += [f"--{name}={item}"]
    return words


def expanded(words: Sequence[str]) -> list[str]:
    """Replace --config FILE by the settings in the file; options next to it have precedence.

    Raises:
        DataError: as `read_config`.
    """
    rest = list(words)
    place = next(place for place, word in enumerate(rest) if word == "--config" or word.startswith("--config="))
    _, is_joined, path = rest.pop(place).partition("=")
    if not is_joined:
        if place == len(rest):
            raise DataError("--config needs a file: that of a run is runs/NAME/train.toml")
        path = rest.pop(place)
    settings = read_config(Path(path))
    given = {word.partition("=")[0].removeprefix("--").removeprefix("no-") for word in rest if word.startswith("--")}
    data = rest[:1] if rest and not rest[0].startswith("-") else []
    if data:
        given |= {"data", "data-sha256"}
    if "validation" in given:
        given |= {"validation-fraction", "validation-sha256", "group", "time"}
    kept = {name: value for name, value in settings.items() if name not in given or name == "rule"}
    return [*data, *words_of(kept), *rest[len(data) :]]


def near(path: Path) -> Path:
    """Return a path without the working folder, if it is in it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
