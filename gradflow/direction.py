"""Registry of the history values for which larger is better."""

from __future__ import annotations

__all__ = ["LARGER_IS_BETTER", "larger_is_better"]

LARGER_IS_BETTER: dict[str, bool] = {}
"""True if larger values of a metric are better, by its name in the history; metrics register themselves."""


def larger_is_better(name: str) -> bool:
    """True if larger is better for a value of this name, of the training or the validation data."""
    return LARGER_IS_BETTER.get(name.removeprefix("val_"), name.endswith("accuracy"))
