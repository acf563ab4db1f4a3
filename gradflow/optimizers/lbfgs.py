"""L-BFGS, implemented by SciPy, for small problems whose data fits in one batch.

References:
    D. C. Liu & J. Nocedal, "On the limited memory BFGS method for large scale optimization", *Mathematical Programming*
        45 (1989).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gradflow.checks import integer, non_negative, positive_integer
from gradflow.errors import DataError
from gradflow.executors import Executor
from gradflow.installation import pip_install
from gradflow.ops import Array
from gradflow.optimizers.base import Optimizer


class Minimum(NamedTuple):
    """The end of a search.

    Attributes:
        point: float64 (n,), the end point.
        value: the objective there.
        iterations: the number of iterations.
        problem: why the search ended before it had converged; None if it converged.
    """

    point: np.ndarray
    value: float
    iterations: int
    problem: str | None


class LBFGS(Optimizer):
    """w moves along -H g, with H estimated from recent gradients, by a distance from a line search.

    Limited-memory BFGS (Liu & Nocedal, 1989), by SciPy's L-BFGS-B, for small networks and data that fits in one batch.
    The line search leaves no learning rate to choose. An epoch of ``Trainer.fit(..., batch_size=None)`` is one run of
    up to ``max_iterations`` iterations, each of which evaluates the data once or a few times; every epoch begins with
    an empty memory. The loss of an epoch is that of the weights at its end. A run also ends if no entry of the gradient
    exceeds ``gradient_tolerance``, or the objective decreases by less than 2e-9 of its value.

    The flat vectors are copied to the host and back at each evaluation. In float32 the search ends early, when
    differences of the objective become smaller than rounding errors; ``dtype="float64"`` is the better choice here.
    Dropout, batches, L1, clipping and weight averaging are not supported, and raise an error.

    Args:
        max_iterations: maximum number of iterations per epoch, at least 1.
        memory: number of pairs of steps and gradient differences to keep, from 1 to 10,000; each pair takes as much
            memory as two networks.
        gradient_tolerance: the search ends when no entry of the gradient exceeds this, at least 0.
        max_evaluations: maximum number of evaluations of the data per epoch, at least 1; None for as many as the
            iterations need.

    Raises:
        DataError: if arguments are out of range, or SciPy is missing, which the extra ``scipy`` installs.
    """

    name = "lbfgs"

    def __init__(
        self,
        max_iterations: int = 200,
        memory: int = 10,
        gradient_tolerance: float = 1e-5,
        max_evaluations: int | None = None,
    ) -> None:
        super().__init__(1.0)  # the first step that each line search tries
        self.max_iterations = positive_integer("max_iterations", max_iterations)
        self.memory = integer("memory", memory, least=1, most=10_000)
        self.gradient_tolerance = non_negative("gradient_tolerance", gradient_tolerance)
        self.max_evaluations = None if max_evaluations is None else positive_integer("max_evaluations", max_evaluations)
        if importlib.util.find_spec("scipy") is None:
            raise DataError(f"L-BFGS needs SciPy, which is not installed: {pip_install('scipy')}")

    def config(self) -> dict[str, Any]:
        limit = {} if self.max_evaluations is None else {"max_evaluations": self.max_evaluations}
        return limit | {
            "max_iterations": self.max_iterations,
            "memory": self.memory,
            "gradient_tolerance": self.gradient_tolerance,
        }

    def step(self, ops: Executor, parameters: Array, gradients: Array, *arguments: Any, **settings: Any) -> None:
        """Record nothing: `minimize` changes the parameters, between evaluations."""

    def minimize(self, evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> Minimum:
        """Return the end of the search that begins at ``start``.

        Args:
            evaluate: returns the objective and its gradient at a point.
            start: the starting point.
        """
        from scipy.optimize import minimize

        options = {"maxiter": self.max_iterations, "maxcor": self.memory, "gtol": self.gradient_tolerance}
        # A line search takes at most 20 evaluations; SciPy's default limit on their total would end long runs.
        options["maxfun"] = self.max_evaluations or 21 * self.max_iterations + 1
        end = minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
        return Minimum(end.x, float(end.fun), end.nit, None if end.success else end.message)
