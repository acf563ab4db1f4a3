"""`Each`: a setting that differs between the members of a pack."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gradflow.errors import DataError, shown


class Each:
    """One value for each member of a pack, in their order, in place of one value for all: ``epochs=Each([10, 20])``.

    Args:
        values: the values.

    Raises:
        DataError: if they are not a list or another iterable.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        if (
            isinstance(values, str | bytes | Mapping)
            or not isinstance(values, Iterable)
            or getattr(values, "ndim", 1) == 0
        ):
            raise DataError(f"Each takes a list with one value for each member, got {shown(values)}")
        self.values = tuple(values)

    def __repr__(self) -> str:
        return f"Each({list(self.values)!r})"


def of_each(name: str, value: Any, members: int) -> list[Any]:
    """Return the value of a setting for each member.

    Raises:
        DataError: if an `Each` has another number of values.
    """
    if not isinstance(value, Each):
        return [value] * members
    if len(value.values) != members:
        raise DataError(
            f"{name}=Each(...) must have one value for each of the {members} members, got {len(value.values)}"
        )
    return list(value.values)
