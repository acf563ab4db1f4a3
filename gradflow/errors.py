"""Errors and warnings of gradflow: each message states the expected and the actual value, and what to do."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial


class GradflowError(Exception):
    """Base class of all errors that gradflow raises on purpose."""


class BackendError(GradflowError):
    """A backend cannot be used here, or was given arrays of another backend."""


class DeviceLostError(BackendError):
    """A GPU error that destroyed all device data of this process; the process must be restarted."""


class DataError(GradflowError, ValueError):
    """Data or other arguments that are unusable for training or prediction."""


class DivergedError(GradflowError):
    """The loss or a weight became NaN or infinite; the network keeps the best weights so far.

    Attributes:
        epoch: the epoch of the step, counted from 1.
        step: the step within that epoch, counted from 1.
    """

    def __init__(self, message: str, *, epoch: int, step: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step

    def __reduce__(self) -> tuple[Callable[..., DivergedError], tuple[str]]:
        return partial(DivergedError, epoch=self.epoch, step=self.step), (str(self),)


class RankError(GradflowError):
    """Another process of a training by several failed, was interrupted, or differs from this one; it is named."""


class FileFormatError(GradflowError):
    """A file that is damaged, from a newer version, or not written by gradflow."""


class DataWarning(UserWarning):
    """Usable data that is probably not what was intended."""


class SlowPathWarning(UserWarning):
    """A faster implementation cannot be used here: results are correct, but slower to compute."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged or could not be written: others can be used, but more of a run may be lost."""


class PictureWarning(UserWarning):
    """The learning curves could not be drawn: the run folder is complete except for them."""


class TrainingWarning(UserWarning):
    """Training continues, but probably in vain: the loss is exploding or has stalled."""


_COLLECTOR: ContextVar[Callable[[str, type[Warning]], None] | None] = ContextVar("_COLLECTOR", default=None)


@contextmanager
def collecting_warnings(collect: Callable[[str, type[Warning]], None]) -> Iterator[None]:
    """Context in which `warn` calls a function, in this thread: one without a line of the user's program to warn of."""
    token = _COLLECTOR.set(collect)
    try:
        yield
    finally:
        _COLLECTOR.reset(token)


def warn(message: str, category: type[Warning]) -> None:
    """Warn as if from the line of the user's program that called gradflow."""
    if (collect := _COLLECTOR.get()) is not None:
        collect(message, category)
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN_PACKAGES:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


_OWN_PACKAGES = ("gradflow", "contextlib")
"""Packages whose frames separate a warning from the user's line; contextlib calls the methods that it decorates."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> DataError:
    """Return the error for an invalid name; it suggests a synonym, or the most similar valid name."""
    from gradflow.synonyms import meant_names  # only errors need it, and it would slow down the import of gradflow

    names = sorted(valid)
    meant = " or ".join(map(repr, meant_names(kind, str(name), names)))
    suggestion = f" Did you mean {meant}?" if meant else ""
    return DataError(f"unknown {kind} {shown(name)}.{suggestion} Valid names: {', '.join(names)}")


def shown(value: object) -> str:
    """Return a value as one line for a message; a long one is cut off with an ellipsis."""
    try:
        text = " ".join(repr(value).split()) if not isinstance(value, str) else repr(value)
    except Exception:  # any __repr__ may raise, even that of an int with 5000 digits
        text = f"an object of {type(value).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


_MOST_SHOWN = 200
