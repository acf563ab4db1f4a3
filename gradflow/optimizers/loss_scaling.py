"""Dynamic loss scaling for float16 (Micikevicius et al., 2018, "Mixed precision training", section 3.2).

Gradients below 6e-8 underflow to zero in float16. Therefore dL/doutputs is multiplied by a power of two before the
backward pass, and the gradient of the parameters, in float32, is divided by it. The scale doubles after `GROWTH_STEPS`
steps without overflow. A step with a non-finite gradient is skipped and halves the scale.
"""

from __future__ import annotations

import math

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import FileFormatError
from gradflow.executors import Executor
from gradflow.ops import CLOCK_ENTRIES, FIRST_BAD_STEP, STEP, Array, has_diverged, op

_INITIAL_SCALE = 2.0**16
_MOST_SCALE = 2.0**24
GROWTH_STEPS = 2000
_NEVER = np.iinfo(np.int64).max
_SCALE, _GOOD_STEPS, _OVERFLOWED = range(3)


@op(shapes="x, y: *shape; scaling: 3", writes=("y",))
def scaled_copy(x: Array, scaling: Array, y: Array) -> None:
    """y = scale x"""
    y[...] = scaling[_SCALE] * x


@op(shapes="gradients: n; scaling: 3", writes=("gradients", "scaling"))
def unscale(gradients: Array, scaling: Array) -> None:
    """g /= scale; overflowed = 1 if an element of g is not finite"""
    gradients /= scaling[_SCALE]
    if not np.isfinite(gradients).all():
        scaling[_OVERFLOWED] = 1


@op(
    shapes="scaling: 3; clock, update_clock: 4",
    writes=("scaling", "clock", "update_clock"),
    sizes=lambda arguments: {},
)
def adapt_scaling(scaling: Array, clock: Array, update_clock: Array, growth_steps: int, most_scale: float) -> None:
    """scale / 2 if the step overflowed (below 1 training has diverged), 2 scale after growth_steps without overflow;
    the optimizer's clock counts the steps that are not skipped, and its first_bad_step marks a skipped step"""
    overflowed = scaling[_OVERFLOWED] != 0
    if overflowed:
        scaling[:2] = scaling[_SCALE] / 2, 0
        if scaling[_SCALE] < 1:
            clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP])
    else:
        scaling[_GOOD_STEPS] += 1
        if scaling[_GOOD_STEPS] == growth_steps:
            scaling[:2] = min(2 * scaling[_SCALE], most_scale), 0
    scaling[_OVERFLOWED] = 0
    left_out = overflowed or has_diverged(clock)
    step = update_clock[STEP] + (not left_out)
    update_clock[...] = step, *clock[1:FIRST_BAD_STEP], 0 if left_out else _NEVER


@op(shapes="update_clock, clock: 4", writes=("clock",), sizes=lambda arguments: {})
def record_scaled_update(update_clock: Array, clock: Array) -> None:
    """If the optimizer's clock says that a weight is not finite, the clock of the run says so, too"""
    if 0 < update_clock[FIRST_BAD_STEP] < _NEVER:
        clock[FIRST_BAD_STEP] = min(clock[FIRST_BAD_STEP], clock[STEP] + 1)


def check_scaling(scaling: np.ndarray, update_clock: np.ndarray, step: int) -> None:
    """Check that a loaded state is possible at this step; a scale of NaN, for example, would skip every step.

    Raises:
        FileFormatError: if it is not; the message says what is wrong.
    """
    scale, good_steps, overflowed = scaling.tolist()
    is_power = scale > 0 and math.frexp(scale)[0] == 0.5
    if not (is_power and scale <= _MOST_SCALE and good_steps in range(GROWTH_STEPS) and overflowed == 0):
        raise FileFormatError(f"the checkpoint is damaged: no loss is scaled by {scaling.tolist()}")
    own_step, _, _, first_bad_step = update_clock.tolist()
    if not (0 <= own_step <= step and first_bad_step in (0, own_step + 1, _NEVER)):
        raise FileFormatError(
            f"the checkpoint is damaged: at step {step}, the update's clock is {update_clock.tolist()}"
        )


class LossScaling:
    """The loss scale on the device, and the clock that the optimizer sees.

    Attributes:
        scaling: float32 (3,): the scale, the number of steps since it last changed, and 1 if this step overflowed.
        update_clock: int64 (4,): like the clock of the run, but without the skipped steps.
    """

    def __init__(self, backend: ReferenceBackend) -> None:
        self.scaling = backend.from_host(np.array([_INITIAL_SCALE, 0, 0], np.float32))
        self.update_clock = backend.zeros(len(CLOCK_ENTRIES), np.int64)

    def record(self, ops: Executor, gradients: Array, clock: Array) -> None:
        """Record the ops that divide the gradient by the scale, check that it is finite, and adapt the scale."""
        ops(unscale, gradients, self.scaling)
        ops(adapt_scaling, self.scaling, clock, self.update_clock, GROWTH_STEPS, _MOST_SCALE)

    def record_update(self, ops: Executor, clock: Array) -> None:
        """Record the op that tells the run of weights that are not finite."""
        ops(record_scaled_update, self.update_clock, clock)
