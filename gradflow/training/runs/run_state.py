"""The complete state of a training run: saved as a snapshot between two steps, and restored."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gradflow.distributed import World
from gradflow.errors import FileFormatError
from gradflow.metrics.regression import moments_of_sums
from gradflow.network import Sequential
from gradflow.ops import CLOCK_ENTRIES, NEVER, STEP, Array
from gradflow.storage import describe
from gradflow.training.progress.early_stopping import BestValue
from gradflow.training.progress.history import STOPPED_BY, History
from gradflow.training.runs.snapshots import Snapshot
from gradflow.training.step.training_step import TrainingStep


class RunState(NamedTuple):
    """The state of a run on device and host. Random numbers need no entry: they follow from seed and clock.

    Attributes:
        network: holds the weights and buffers.
        step: holds the clock, the optimizer state, the average, and the results of the epoch so far.
        best_state: the best weights and buffers.
        measured_state: the weights and buffers that the current epoch's value belongs to; may be the network's own.
        history: the history.
        best, convergence: the values that decide when training ends.
        names: names of the values in the history, without those of callbacks.
        is_minimized: True if an epoch is a run of a minimizer.
        world: the ranks that share each batch. The results of the epoch so far differ between them, nothing else does.
    """

    network: Sequential
    step: TrainingStep
    best_state: Array
    measured_state: Array
    history: History
    best: BestValue
    convergence: BestValue | None
    names: list[str]
    is_minimized: bool
    world: World = World()

    def steps(self, batches_done: int) -> int:
        """Return the number of steps of the run after ``batches_done`` batches of the current epoch."""
        return self.history.epochs * self.step.epoch.batches + batches_done

    def take(self, batches_done: int) -> Snapshot:
        """Return a snapshot after ``batches_done`` batches of the current epoch: the same on all ranks."""
        backend = self.network.backend
        self.step.update.collect()
        vectors = {name: backend.to_host(vector) for name, vector in self._vectors(batches_done).items()}
        if batches_done and self.world.size > 1:
            vectors |= _named_by_rank(self.world.gathered({name: vectors[name] for name in _of_epoch(vectors)}))
        progress = {
            "batches_done": batches_done,
            "clock": backend.to_host(self.step.status.clock).tolist(),
            "history": self.history.record(),
        }
        return Snapshot(vectors, {"network": describe(self.network), "progress": progress})

    def restore(self, snapshot: Snapshot) -> int:
        """Restore a snapshot; return how many batches of the current epoch are done.

        The clock is validated, since kernels use it unchecked as a memory offset, and the file may be untrusted.

        Raises:
            FileFormatError: if the snapshot does not match this run; nothing has been changed.
        """
        backend, progress = self.network.backend, snapshot.record["progress"]
        batches_done: int = progress["batches_done"]
        if not 0 <= batches_done < self.step.epoch.batches:
            raise _unlike("batches_done", batches_done, f"at least 0 and below {self.step.epoch.batches}")
        history = self._history(progress["history"])
        clock = self._clock(progress["clock"], snapshot.record["run"]["initial_state"], history.epochs, batches_done)
        targets, vectors = self._vectors(batches_done), self._of_rank(_as_kept_now(snapshot.vectors))
        saved, current = (
            {name: (vector.shape, vector.dtype) for name, vector in of.items()} for of in (vectors, targets)
        )
        if saved != current:
            raise FileFormatError(f"the checkpoint has the vectors {saved}, but this run has {current}")
        if (precision := self.step.update.precision) is not None:
            of_update = {name.removeprefix("update."): vector for name, vector in vectors.items()}
            precision.check_vectors(of_update, step=int(clock[STEP]))
        self.step.epoch.clear()
        for name, target in targets.items():
            backend.copy(backend.from_host(vectors[name]), target)
        backend.copy(backend.from_host(clock), self.step.status.clock)
        self.history.restore(progress["history"])
        # Best value and convergence follow from the history.
        for epoch in range(history.epochs):
            values = {name: history[name][epoch] for name in history}
            self.best.update(values)
            if self.convergence is not None:
                self.convergence.update(values)
        return batches_done

    def _of_rank(self, vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the vectors of this rank. With another number of ranks than the saved ones, each takes the results of
        the epoch of none, one or several of them."""
        own = {name: vector for name, vector in vectors.items() if not _OF_RANK.match(name)}
        saved: list[dict[str, np.ndarray]] = [{name: own[name] for name in _of_epoch(own)}]
        for name in sorted(vectors.keys() - own.keys()):
            rank, _, rest = name.removeprefix("rank.").partition(".")
            while len(saved) <= int(rank):
                saved.append({})
            saved[int(rank)][rest] = vectors[name]
        if any(part.keys() != saved[0].keys() for part in saved):
            raise _unlike("vectors", sorted(vectors), "the same of each rank")
        if not saved[0] or len(saved) == self.world.size == 1:
            return own
        parts = saved[self.world.rank :: self.world.size]
        if not parts:
            return own | {name: np.zeros_like(vector) for name, vector in saved[0].items()}
        names = [name.removeprefix(_EPOCH) for name in saved[0]]
        merged = self.step.epoch.merged([{name: part[_EPOCH + name] for name in names} for part in parts])
        return own | {_EPOCH + name: vector for name, vector in merged.items()}

    def _history(self, record: dict[str, Any]) -> History:
        """Return the history in a record, after checking that it can belong to this run."""
        history = History()
        history.restore(record)
        names, lengths = list(history), {len(history[name]) for name in history}
        if history.epochs and names[: len(self.names)] != self.names:  # then come the values of callbacks
            raise _unlike("history", names, self.names)
        if len(lengths) > 1 or (names and not history.epochs):
            raise _unlike("history", f"values of {sorted(lengths)} epochs", "as many of each name")
        if not 0 <= history.seconds < math.inf:
            raise _unlike("history.seconds", history.seconds, "a finite number, at least 0")
        if history.stopped_by not in STOPPED_BY:
            raise _unlike("history.stopped_by", history.stopped_by, f"one of {', '.join(STOPPED_BY)}")
        return history

    def _clock(self, saved: list[int], initial_state: str, epochs: int, batches_done: int) -> np.ndarray:
        """Return the clock in a record, after checking that it matches this position in the run."""
        began = re.fullmatch(r"epoch (\d{1,18}), sha256 [0-9a-f]{64}", initial_state)
        if began is None:
            raise _unlike("initial_state", initial_state, "an epoch and a checksum")
        if len(saved) != len(CLOCK_ENTRIES):
            raise _unlike("clock", saved, f"{len(CLOCK_ENTRIES)} integers")
        step, epoch, position, first_bad_step = saved
        expected = epochs * self.step.epoch.batches + batches_done + 1, int(began[1]) + epochs
        if self.is_minimized and epochs:  # each evaluation is an epoch of one step
            expected = self.step.epoch.batches + 1, max(epoch, expected[1])
        expected_position = self.step.epoch.position(batches_done)
        if ((step, epoch), position) != (expected, expected_position) or not step < 2**62 > epoch:
            raise _unlike("clock", saved[:3], [*expected, expected_position])
        if not (step - batches_done <= first_bad_step <= step or first_bad_step == NEVER):
            raise _unlike("clock", f"the first bad step {first_bad_step}", "none, or one of the current epoch")
        return np.array(saved, np.int64)

    def _vectors(self, batches_done: int) -> dict[str, Array]:
        vectors: dict[str, Any] = {
            "network": self.network.state,
            "best": self.best_state,
            **{f"update.{name}": vector for name, vector in self.step.update.vectors.items()},
            **{_EPOCH + name: vector for name, vector in self.step.epoch.results_of(batches_done).items()},
        }
        if self.step.epoch.statistics is not None:
            vectors["statistics"] = self.step.epoch.statistics.values
        if self.measured_state is not self.network.state:
            vectors["measured"] = self.measured_state
        return vectors


_EPOCH = "epoch."
_OF_RANK = re.compile(r"rank\.\d{1,6}\.")


def _of_epoch(vectors: Mapping[str, Any]) -> list[str]:
    return [name for name in vectors if name.startswith(_EPOCH)]


def _named_by_rank(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the vectors of all ranks by names such as "rank.1.epoch.losses"; those of rank 0 have none of these."""
    return {
        name if rank == 0 else f"rank.{rank}.{name}": vector
        for rank, part in enumerate(parts)
        for name, vector in part.items()
    }


def _as_kept_now(vectors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the vectors of a checkpoint in the current format: regression metrics once kept five plain sums."""
    kept = {}
    for name, vector in vectors.items():
        if name.startswith("epoch.metrics.") and name.endswith(".sums") and vector.ndim == 2 and len(vector) == 5:
            name, vector = f"{name.removesuffix('sums')}moments", moments_of_sums(vector)
        kept[name] = vector
    return kept


def _unlike(name: str, found: object, expected: object) -> FileFormatError:
    return FileFormatError(
        f"the checkpoint is damaged or of another run: its {name} is {found!r}, expected: {expected}"
    )
