"""An exponential moving average of the weights (Polyak & Juditsky, 1992; Tarvainen & Valpola, 2017)."""

from __future__ import annotations

from gradflow.ops import STEP, Array, has_diverged, op


@op(shapes="parameters, average: n; clock: 4", writes=("average",))
def average_weights(parameters: Array, average: Array, clock: Array, decay: float) -> None:
    """a = w after the first step; afterwards a = decay a + (1 - decay) w"""
    if has_diverged(clock):
        return
    if clock[STEP] == 1:
        average[...] = parameters
    else:
        average[...] = average.dtype.type(decay) * average + average.dtype.type(1 - decay) * parameters
