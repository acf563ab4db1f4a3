"""All that a training run changes: taken as a snapshot between two steps, and brought back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gradflow.errors import FileFormatError
from gradflow.metrics.regression import moments_of_sums
from gradflow.network import Sequential
from gradflow.ops import Array
from gradflow.training.early_stopping import BestValue
from gradflow.training.history import History
from gradflow.training.passes import DataPass
from gradflow.training.snapshots import Snapshot
from gradflow.training.update import Update

__all__ = ["RunState"]


class RunState(NamedTuple):
    """What a run has on the device and on the host. Random numbers need no entry: they follow from seed and clock.

    Attributes:
        network: with its weights, buffers and clock.
        update: with the state of the optimizer, and the average.
        training: the pass, with the losses of the epoch so far.
        best_state: the best weights and buffers.
        measured_state: those that the present epoch's value belongs to; it may be the network's own.
        history: what was measured.
        best, convergence: the values that decide when training ends.
    """

    network: Sequential
    update: Update
    training: DataPass
    best_state: Array
    measured_state: Array
    history: History
    best: BestValue
    convergence: BestValue | None

    def step(self, batches_done: int) -> int:
        """How many steps the run has made behind so many batches of the present epoch."""
        return self.history.epochs * self.training.batches + batches_done

    def take(self, batches_done: int) -> Snapshot:
        """The run behind so many batches of the present epoch."""
        backend, status = self.network.backend, self.network.status
        vectors = {name: backend.to_host(vector) for name, vector in self._vectors(batches_done).items()}
        progress = {
            "batches_done": batches_done,
            "clock": backend.to_host(status.clock).tolist(),
            "history": self.history.record(),
            "best": self.best.record(),
            "convergence": self.convergence and self.convergence.record(),
        }
        return Snapshot(vectors, {"progress": progress})

    def restore(self, snapshot: Snapshot) -> int:
        """Bring a snapshot back; how many batches of the present epoch have been done.

        Raises:
            FileFormatError: if it is not one of such a run; nothing has been changed.
        """
        backend, progress = self.network.backend, snapshot.record["progress"]
        batches_done: int = progress["batches_done"]
        targets, vectors = self._vectors(batches_done), _as_kept_now(snapshot.vectors)
        saved, present = (
            {name: (vector.shape, vector.dtype) for name, vector in of.items()} for of in (vectors, targets)
        )
        if saved != present:
            raise FileFormatError(f"the checkpoint has the vectors {saved}, but this run has {present}")
        for name, target in targets.items():
            backend.copy(backend.from_host(vectors[name]), target)
        backend.copy(backend.from_host(np.array(progress["clock"], np.int64)), self.network.status.clock)
        self.history.restore(progress["history"])
        self.best.restore(progress["best"])
        if self.convergence is not None:
            self.convergence.restore(progress["convergence"])
        return batches_done

    def _vectors(self, batches_done: int) -> dict[str, Array]:
        vectors: dict[str, Any] = {
            "network": self.network.state,
            "best": self.best_state,
            **{f"update.{name}": vector for name, vector in self.update.vectors.items()},
            **{f"epoch.{name}": vector for name, vector in self.training.results_of(batches_done).items()},
        }
        if self.training.statistics is not None:
            vectors["statistics"] = self.training.statistics.values
        if self.measured_state is not self.network.state:
            vectors["measured"] = self.measured_state
        return vectors


def _as_kept_now(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The vectors of a checkpoint, where metrics of regression kept five plain sums in earlier versions."""
    kept = {}
    for name, vector in vectors.items():
        if name.startswith("epoch.metrics.") and name.endswith(".sums") and vector.ndim == 2 and len(vector) == 5:
            name, vector = f"{name.removesuffix('sums')}moments", moments_of_sums(vector)
        kept[name] = vector
    return kept
