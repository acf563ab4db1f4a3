"""What the forms of all losses end with."""

from __future__ import annotations

import numpy as np

from gradflow.ops import FIRST_BAD_STEP, POSITION, STEP, Array

__all__ = ["record", "weigh"]


def record(losses: Array, row_losses: Array, clock: Array) -> None:
    """Put the losses of a batch at its place in the epoch, and note on the clock if one is not finite."""
    position = clock[POSITION]
    row_losses[position : position + len(losses)] = losses
    if not np.isfinite(losses).all():
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP])


def weigh(row_weight: Array | None, losses: Array, d_outputs: Array) -> None:
    """Multiply what belongs to a row by its weight, if there are weights."""
    if row_weight is not None:
        np.multiply(losses, row_weight, out=losses)
        np.multiply(d_outputs, row_weight[:, None], out=d_outputs)
