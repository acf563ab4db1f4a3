"""A function of one's own as a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradflow.errors import DataError, shown
from gradflow.executors import Executor
from gradflow.losses.base import RegressionLoss, record_losses
from gradflow.names import import_path
from gradflow.ops import Array

LossFunction = Callable[[Array, Array], tuple[Array, Array]]
"""Maps outputs and targets (batch, n_out) to losses and their derivatives by the outputs (`FunctionLoss`)."""


class FunctionLoss(RegressionLoss):
    """The loss that a function ``(outputs, targets) -> (losses, d_outputs)`` computes, called at every step.

    The function gets outputs and targets of shape (batch, n_out), NumPy arrays on the CPU and CuPy arrays on a GPU, and
    must not write into them. It returns one of these, with derivatives of shape (batch, n_out):

    - losses of shape (batch,), and the derivative of the loss of each row by its outputs. gradflow multiplies both by
      the weights of the rows, and takes the mean;
    - one number, and its derivative by all outputs. Such a loss takes no weights of rows.

    Args:
        function: the function.
    """

    def __init__(self, function: LossFunction) -> None:
        self.function = function
        vars(self)["name"] = import_path(function)  # not one that all objects of the class share

    def __repr__(self) -> str:
        return f"FunctionLoss({self.name})"

    def apply(
        self,
        ops: Executor,
        outputs: Array,
        targets: Array,
        row_weight: Array | None,
        d_outputs: Array,
        row_losses: Array,
        row_correct: Array,
        clock: Array,
    ) -> None:
        ops.record(self._compute, outputs, targets, row_weight, d_outputs, row_losses, clock, recorded=False)

    def _compute(
        self,
        ops: Executor,
        outputs: Array,
        targets: Array,
        row_weight: Array | None,
        d_outputs: Array,
        row_losses: Array,
        clock: Array,
    ) -> None:
        """Call the function on a batch, and write its results."""
        losses, derivatives = self._checked(outputs, self.function(_read_only(outputs), _read_only(targets)))
        rows = len(outputs)
        if losses.ndim:
            factor = 1 / rows if row_weight is None else (row_weight / rows)[:, None]
            losses = losses if row_weight is None else row_weight * losses
            derivatives = factor * derivatives
        elif row_weight is not None:
            raise DataError(
                f"the rows have weights, but the loss function {self.name} returns one loss for all rows; return the "
                "losses of the rows, of shape (batch,), or omit sample_weight and class_weight"
            )
        else:
            losses = np.zeros_like(derivatives[:, 0]) + losses[()]
        with np.errstate(over="ignore", under="ignore"):
            d_outputs[...] = derivatives
            record_losses(losses.astype(row_losses.dtype), row_losses, clock)

    def _checked(self, outputs: Array, returned: Any) -> tuple[Array, Array]:
        """Return the losses, of shape (batch,) or (), and the derivatives that the function returned.

        Raises:
            DataError: if they are anything else.
        """
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise DataError(
                f"the loss function {self.name} must return a pair (losses, d_outputs): the loss of each row, and its "
                f"derivative by the outputs; got {shown(returned)}"
            )
        losses, derivatives = returned
        if not hasattr(losses, "shape"):
            losses = np.float64(losses) if isinstance(losses, float) else np.asarray(losses)
        kind = type(outputs)
        for name, array, shapes in (
            ("losses", losses, [(len(outputs),), ()]),
            ("d_outputs", derivatives, [outputs.shape]),
        ):
            is_array = isinstance(array, kind) or (name == "losses" and getattr(array, "shape", None) == ())
            if not is_array or array.dtype.kind != "f" or array.shape not in shapes:
                got = f"{array.dtype} of shape {array.shape}" if isinstance(array, kind) else shown(array)
                raise DataError(
                    f"the loss function {self.name} must return {name} as a {kind.__module__.partition('.')[0]} array "
                    f"of floating-point numbers of shape {' or '.join(map(str, shapes))}, like the outputs of shape "
                    f"{outputs.shape}; got {got}"
                )
        return losses, derivatives


def _read_only(array: Array) -> Array:
    """Return a view that cannot be written to, if arrays of this kind have such views: CuPy's have none."""
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array
