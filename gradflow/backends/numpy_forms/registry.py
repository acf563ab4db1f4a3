"""What the numpy backend binds instead of an op's definition."""

from __future__ import annotations

from collections.abc import Callable

from gradflow.backends.reference import BoundCall

__all__ = ["IMPLEMENTATIONS", "implements"]

IMPLEMENTATIONS: dict[str, Callable[..., BoundCall]] = {}
"""The NumPy forms by the name of their op: each takes the op's arguments and returns the bound call."""


def implements(name: str) -> Callable[[Callable[..., BoundCall]], Callable[..., BoundCall]]:
    """Make a function the NumPy form of the op of that name."""

    def register(bind: Callable[..., BoundCall]) -> Callable[..., BoundCall]:
        IMPLEMENTATIONS[name] = bind
        return bind

    return register
