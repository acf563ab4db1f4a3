"""L-BFGS, by SciPy, for small problems whose data are one batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from gradflow.arguments import integer, positive, positive_integer
from gradflow.errors import DataError
from gradflow.installation import pip_install
from gradflow.ops import Array, Executor
from gradflow.optimizers.base import Optimizer

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu & Nocedal, 1989), by SciPy's L-BFGS-B: for small networks and data of one batch.

    It models the curvature from the last gradients and searches along each direction for a step that suffices, so that
    there is no learning rate. An epoch of ``Trainer.fit(..., batch_size=None)`` is one run of up to ``max_iterations``
    iterations, each of which passes over the data once or a few times; further epochs begin with an empty memory. The
    loss of an epoch is that of the weights at its end. A run also ends where no entry of the gradient is above
    ``gradient_tolerance``, or the objective falls by less than 2e-9 of itself.

    The flat vectors are copied to the host and back at each evaluation. In float32 the search ends early, where
    differences of the objective drown in rounding; ``dtype="float64"`` is the better choice here. Dropout, batches, L1,
    clipping and averages do not go with it, and are refused.

    Args:
        max_iterations: iterations of an epoch, at least 1.
        memory: how many pairs of steps and gradient differences are kept, from 1 to 10,000; each takes as much memory
            as two networks.
        gradient_tolerance: the largest entry of the gradient at which it is done, above 0.

    Raises:
        DataError: for arguments out of range, or without SciPy, which the extra ``scipy`` brings.
    """

    name = "lbfgs"

    def __init__(self, max_iterations: int = 200, memory: int = 10, gradient_tolerance: float = 1e-5) -> None:
        super().__init__(1.0)  # the step that each search tries first
        self.max_iterations = positive_integer("max_iterations", max_iterations)
        self.memory = integer("memory", memory, least=1, most=10_000)
        self.gradient_tolerance = positive("gradient_tolerance", gradient_tolerance)
        if importlib.util.find_spec("scipy") is None:
            raise DataError(f"L-BFGS needs SciPy, which is not installed: {pip_install('scipy')}")

    def config(self) -> dict[str, Any]:
        return {
            "max_iterations": self.max_iterations,
            "memory": self.memory,
            "gradient_tolerance": self.gradient_tolerance,
        }

    def step(self, ops: Executor, parameters: Array, gradients: Array, *arguments: Any, **settings: Any) -> None:
        """Record nothing: `minimize` changes the parameters, between evaluations."""

    def minimize(self, evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
        """Where the search ends that begins at ``start``, float64 (n,).

        Args:
            evaluate: from a point, the objective and its gradient there.
            start: where to begin.
        """
        from scipy.optimize import minimize

        options = {"maxiter": self.max_iterations, "maxcor": self.memory, "gtol": self.gradient_tolerance}
        # A search takes at most 20 evaluations; SciPy's own limit on their sum would end long runs.
        options["maxfun"] = 21 * self.max_iterations + 1
        end: np.ndarray = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options).x
        return end
