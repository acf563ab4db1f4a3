"""What gradflow raises: each message says what was expected, what came, and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

__all__ = [
    "BackendError",
    "CheckpointWarning",
    "DataError",
    "DataWarning",
    "DeviceLostError",
    "DivergedError",
    "FileFormatError",
    "GradflowError",
    "PictureWarning",
    "SlowPathWarning",
    "TrainingWarning",
    "shown",
    "unknown_name",
    "warn",
]


class GradflowError(Exception):
    """The base of every error that gradflow raises on purpose."""


class BackendError(GradflowError):
    """A backend cannot be used here, or was given arrays that are not its own."""


class DeviceLostError(BackendError):
    """The GPU stopped at an error that loses all that this process had on it: the process must be restarted."""


class DataError(GradflowError, ValueError):
    """Data, or another argument, that cannot be trained on or predicted from."""


class DivergedError(GradflowError):
    """The loss became NaN or infinite; the network keeps the best weights seen before.

    Attributes:
        epoch: the epoch of the step, counted from 1.
        step: the step within that epoch, counted from 1.
    """

    def __init__(self, message: str, *, epoch: int, step: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step


class FileFormatError(GradflowError):
    """A file that is damaged, from a newer version, or not gradflow's."""


class DataWarning(UserWarning):
    """Data that can be trained on, but are probably not what is meant."""


class SlowPathWarning(UserWarning):
    """A faster way of computing cannot be used here: the results are right, but come more slowly."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written or is damaged: others serve, but more of a run may be lost."""


class PictureWarning(UserWarning):
    """The learning curves could not be drawn: a run folder is without them, and has all else."""


class TrainingWarning(UserWarning):
    """Training goes on, but probably in vain: its loss explodes, or has stalled."""


def warn(message: str, category: type[Warning]) -> None:
    """Warn as if from the line of the user's program that called gradflow."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN_PACKAGES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


_OWN_PACKAGES = ("gradflow", "contextlib")
"""The packages whose frames lie between a warning and the user's line; contextlib calls methods that it decorates."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> DataError:
    """The error for a name that is not among the valid ones; it suggests the one that is meant, or the nearest."""
    from gradflow.synonyms import meant_names  # only errors need it: it would slow the import of gradflow down

    names = sorted(valid)
    meant = " or ".join(map(repr, meant_names(kind, str(name), names)))
    suggestion = f" Did you mean {meant}?" if meant else ""
    return DataError(f"unknown {kind} {shown(name)}.{suggestion} Valid names: {', '.join(names)}")


def shown(value: object) -> str:
    """A value for a message, in one line; what is long ends in three points."""
    try:
        text = " ".join(repr(value).split()) if not isinstance(value, str) else repr(value)
    except Exception:  # what others write in their __repr__ may raise anything, as int's does for 5000 digits
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


_MOST_SHOWN = 200
