"""Messages of the library in the words of the command: options in the place of Python's arguments."""

from __future__ import annotations

import re

__all__ = ["in_options"]

_ARGUMENT = re.compile(
    r"(?<![\w.])(batch_size|clip_norm|early_stopping|layer_statistics|learning_rate|(?:epochs|threads)(?==))\b(=)?"
)
"""An argument that has an option; where the name is a word of English too, only with its value."""


def in_options(message: str) -> str:
    """The message with "--clip-norm 1.0" for "clip_norm=1.0", and so on."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] else ''}", message)
