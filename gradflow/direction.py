"""Which values of a history are better when larger."""

from __future__ import annotations

__all__ = ["LARGER_IS_BETTER", "larger_is_better"]

LARGER_IS_BETTER: dict[str, bool] = {}
"""Whether a metric is better when larger, by its name in the history; metrics enter themselves."""


def larger_is_better(name: str) -> bool:
    """Whether a value of this name, of the training or of the validation data, is better when larger."""
    return LARGER_IS_BETTER.get(name.removeprefix("val_"), name.endswith("accuracy"))
