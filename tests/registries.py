"""The library's registries, restored after a test that defines something by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from gradflow.layers import ACTIVATIONS, LAYERS
from gradflow.losses import LOSSES
from gradflow.metrics import METRICS
from gradflow.metrics.base import LARGER_IS_BETTER
from gradflow.ops import OPS
from gradflow.optimizers import OPTIMIZERS
from gradflow.recipes import RECIPES
from gradflow.schedules import SCHEDULES

REGISTRIES: tuple[dict[str, Any], ...] = (
    ACTIVATIONS,
    LAYERS,
    LARGER_IS_BETTER,
    LOSSES,
    METRICS,
    OPS,
    OPTIMIZERS,
    RECIPES,
    SCHEDULES,
)


@contextmanager
def forgotten() -> Iterator[None]:
    """Restore the registries when the context ends."""
    with ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(patch.dict(registry))
        yield
