"""Which values of a history are better when larger."""

from __future__ import annotations

__all__ = ["LARGER_IS_BETTER", "larger_is_better"]

LARGER_IS_BETTER: set[str] = set()
"""The names of metrics that are better when larger, besides those that end in "accuracy"; metrics enter themselves."""


def larger_is_better(name: str) -> bool:
    """Whether a value of this name, of the training or of the validation data, is better when larger."""
    return name.endswith("accuracy") or name.removeprefix("val_") in LARGER_IS_BETTER
