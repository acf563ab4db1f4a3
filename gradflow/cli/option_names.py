"""Translation of library messages for the command line: options instead of Python arguments."""

from __future__ import annotations

import re

_OPTIONS = {"na_values": "missing", "factors": "factor", "decay_factors": "decay-factor"}
"""Options that have another name than the argument."""
_NAMES = "batch_size|clip_norm|factors|decay_factors|early_stopping|layer_statistics|learning_rate"
_WITH_VALUES = "epochs|threads|delimiter|decimal|thousands|encoding|na_values|overwrite"
_ARGUMENT = re.compile(rf"(?<![\w.])({_NAMES}|(?:{_WITH_VALUES})(?==))\b(=)?(True\b)?")
"""Matches an argument that has an option; if its name is also an English word, only together with its value."""
_RULE = "or add the column to text="

_IMPORT = "import the module that defines it before loading"


def in_options(message: str) -> str:
    """Replace "clip_norm=1.0" by "--clip-norm 1.0" in a message, and so on."""
    message = message.replace(_IMPORT, "name the module that defines it: gradflow --import MODULE ...")
    message = message.replace(_RULE, "or make it a category: --rule COLUMN=category")
    return _ARGUMENT.sub(_option, message)


def _option(found: re.Match[str]) -> str:
    name = _OPTIONS.get(found[1], found[1]).replace("_", "-")
    has_value = found[2] and not found[3] and not found.string[found.end() :].startswith((",", ";", ".", " "))
    return f"--{name}{' ' if has_value else ''}"
