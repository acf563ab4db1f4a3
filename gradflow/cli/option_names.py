"""Translation of library messages for the command line: options instead of Python arguments."""

from __future__ import annotations

import re

_ARGUMENT = re.compile(
    r"(?<![\w.])(batch_size|clip_norm|early_stopping|layer_statistics|learning_rate|(?:epochs|threads)(?==))\b(=)?"
)
"""Matches an argument that has an option; if its name is also an English word, only together with its value."""


def in_options(message: str) -> str:
    """Replace "clip_norm=1.0" by "--clip-norm 1.0" in a message, and so on."""
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')}{' ' if found[2] else ''}", message)
