"""Executors: the objects through which layers, losses and optimizers call ops.

`Eager` runs each call immediately; `gradflow.program.Recorder` keeps them for replay. Both run the same bound calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gradflow.backends.reference import ReferenceBackend
from gradflow.ops import Op

__all__ = ["Eager", "Executor"]


class Executor(Protocol):
    """The object through which layers, losses and optimizers call ops.

    A layer that contains layers calls their methods with ``record(method, *args, recorded=layer.recorded)``.
    """

    backend: ReferenceBackend

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None: ...

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None: ...


class Eager:
    """Executor that runs each call immediately, for debugging and for layers that are not recorded."""

    def __init__(self, backend: ReferenceBackend) -> None:
        self.backend = backend

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        with self.backend.running():
            self.backend.bind(op, op.arguments(*args, **kwargs))()

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        """Run a layer's method immediately; there is no program to record it in."""
        method(self, *args)
