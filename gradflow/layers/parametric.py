"""An activation of learned strength (Holzmüller, Grinsztajn & Steinwart, 2024)."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.checks import known_name, positive_integer
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.layers.base import ACTIVATIONS, Activation, Layer, ParameterSpec
from gradflow.layers.softmax import Softmax
from gradflow.ops import Array, op


@op(shapes="x, f, y: rows columns; alpha: columns", writes=("y",))
def blend(x: Array, f: Array, alpha: Array, y: Array) -> None:
    """y_ij = (1 - alpha_j) x_ij + alpha_j f_ij"""
    y[...] = (1 - alpha) * x + alpha * f


@op(shapes="x, f, d_y: rows columns; d_alpha: columns", writes=("d_alpha",))
def blend_gradient(x: Array, f: Array, d_y: Array, d_alpha: Array) -> None:
    """dL/dalpha_j = Σ_i (f_ij - x_ij) dL/dy_ij"""
    d_alpha[...] = ((f - x) * d_y.astype(np.float64)).sum(axis=0)


class Parametric(Layer):
    """y_ij = x_ij + alpha_j (f(x_ij) - x_ij), for x and y of shape (batch, n_in), and an activation f.

    Each unit learns how far it follows the activation: it is the identity at alpha = 0, and f at alpha = 1, where it
    begins. RealMLP (Holzmüller, Grinsztajn & Steinwart, 2024, arXiv:2407.04491) has it with SELU for classes and with
    Mish for numbers.

    Args:
        n_in: the number of inputs and outputs.
        activation: the name of an activation, such as "selu"; it has its default settings. Softmax is refused, since it
            is not a function of each element.

    Parameters: ``alpha`` (n_in,), initially 1; weight decay and penalties apply to it, as in RealMLP.

    Raises:
        DataError: for an unknown activation, or softmax.
    """

    recorded = True
    backward_reads = ("x",)
    set_by_forward = ("_activated",)
    preferred_initializer = "he_normal"

    alpha: Array
    d_alpha: Array

    def __init__(self, n_in: int, activation: str) -> None:
        self.n_in = positive_integer("n_in", n_in)
        self.activation = known_name("activation", activation, ACTIVATIONS)
        layer = ACTIVATIONS[self.activation]()
        if not isinstance(layer, Activation) or isinstance(layer, Softmax):
            raise DataError(f"Parametric needs a function of each element, such as 'selu', got {activation!r}")
        self._function = layer
        self._activated: Array | None = None

    def config(self) -> dict[str, Any]:
        return {"n_in": self.n_in, "activation": self.activation}

    def parameters(self) -> dict[str, ParameterSpec]:
        return {"alpha": ParameterSpec((self.n_in,), decayed=True, initializer=1.0)}

    def forward(self, ops: Executor, x: Array, y: Array) -> None:
        self._activated = ops.backend.empty(x.shape, x.dtype)
        self._blend(ops, x, self._activated, y)

    def infer(self, ops: Executor, x: Array, y: Array) -> None:
        self._blend(ops, x, ops.backend.empty(x.shape, x.dtype), y)

    def _blend(self, ops: Executor, x: Array, activated: Array, y: Array) -> None:
        self._function.forward(ops, x, activated)
        ops(blend, x, activated, self.alpha, y)

    def backward(self, ops: Executor, x: Array, y: Array, d_y: Array, d_x: Array | None) -> None:
        assert self._activated is not None
        ops(blend_gradient, x, self._activated, d_y, self.d_alpha)
        if d_x is not None:
            d_activated = ops.backend.empty(x.shape, x.dtype)
            self._function.backward(ops, x, self._activated, d_y, d_activated)
            ops(blend, d_y, d_activated, self.alpha, d_x)
