"""`OptimizerState`: what an optimizer has gathered over its steps, so that another training can continue with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradflow.backends.reference import ReferenceBackend
from gradflow.errors import DataError
from gradflow.ops import Array
from gradflow.training.step.training_step import TrainingStep


class OptimizerState:
    """The state vectors of an optimizer after some steps. Copies and pickles hold them as NumPy arrays.

    Args:
        backend: the backend of the vectors.
        vectors: velocities, moments and so on, by name.
        steps: the number of steps.
    """

    def __init__(self, backend: ReferenceBackend, vectors: dict[str, Array], steps: int) -> None:
        self._backend: ReferenceBackend | None = backend
        self._vectors = vectors
        self.steps = steps

    @classmethod
    def of(cls, step: TrainingStep) -> OptimizerState:
        """Return the state after the steps that have run."""
        status = step.status
        return cls(status.backend, step.update.optimizer_state, status.read().step - 1)

    def __getstate__(self) -> dict[str, Any]:
        return {"_backend": None, "_vectors": self.on_host(), "steps": self.steps}

    def on_host(self) -> dict[str, np.ndarray]:
        """Return copies of the vectors as NumPy arrays."""
        to_host = np.array if self._backend is None else self._backend.to_host
        return {name: to_host(vector) for name, vector in self._vectors.items()}

    def multiply(self, factor: float) -> None:
        """Multiply the vectors by a number, in the training that they belong to as well."""
        if self._backend is None:
            self._vectors = {name: factor * vector for name, vector in self._vectors.items()}
            return
        for vector in self._vectors.values():
            product = factor * self._backend.to_host(vector)
            self._backend.copy(self._backend.from_host(product.astype(vector.dtype)), vector)

    def restore(self, step: TrainingStep) -> None:
        """Let a training that has not begun continue from this state.

        Raises:
            DataError: if it is that of another optimizer or network.
        """
        backend, targets = step.status.backend, step.update.optimizer_state
        given, expected = ({name: vector.shape for name, vector in of.items()} for of in (self._vectors, targets))
        if given != expected:
            raise DataError(
                f"the optimizer state has the vectors {given}, but this optimizer and network have {expected}; set "
                "trainer.optimizer_state = None to begin with a fresh one"
            )
        for name, target in targets.items():
            vector = self._vectors[name].astype(target.dtype, copy=False)
            backend.copy(backend.from_host(vector) if isinstance(vector, np.ndarray) else vector, target)
        step.status.begin(epoch=step.status.read().epoch, step=self.steps + 1)
