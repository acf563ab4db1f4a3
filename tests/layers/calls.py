"""An executor that runs nothing and keeps the calls of ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradflow.backends import get_backend
from gradflow.executors import Clocked
from gradflow.ops import Op


class Calls(Clocked):
    """Keeps each call of an op: the op, and its arguments by name."""

    def __init__(self) -> None:
        super().__init__(get_backend("numpy"))
        self.calls: list[tuple[Op, dict[str, Any]]] = []

    def __call__(self, op: Op, /, *args: Any, **kwargs: Any) -> None:
        self.calls.append((op, op.arguments(*args, **kwargs)))

    def record(self, method: Callable[..., None], *args: Any, recorded: bool) -> None:
        method(self, *args)

    @property
    def written(self) -> list[Any]:
        """The arrays that the calls write."""
        arrays = [arguments[name] for op, arguments in self.calls for name in op.writes]
        return [array for array in arrays if array is not None]
