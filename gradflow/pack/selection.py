"""`EnsembleSelection`: chooses an ensemble while a pack is trained, after each epoch of its members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradflow.checks import positive_integer
from gradflow.distributed import World
from gradflow.ensemble import Ensemble
from gradflow.ensemble.score import Score, Scorer, checked_metric
from gradflow.ensemble.selection import select
from gradflow.errors import DataError
from gradflow.metrics import Metric
from gradflow.network import Sequential
from gradflow.training.data.feed import DataSet
from gradflow.training.progress.callbacks import Callback
from gradflow.training.signals import Interruption
from gradflow.training.trainer import PreparedFit, Trainer

_ROWS = 4096


class EnsembleSelection:
    """Settings of the ensemble that `Pack.fit` chooses on its validation data, as TabPack does (arXiv 2607.05380).

    After each epoch of all members, a greedy selection (`Ensemble.selected`) adds members, each with its best weights
    so far, and those of the ensemble as it is, with the weights that they have there. A better one replaces it, so it
    never has more than ``size`` networks. The pack ends when ``patience`` epochs have not improved it.

    Args:
        metric: what to improve, as for `Ensemble.selected`.
        size: number of additions in each selection, at least 1.
        patience: number of epochs without improvement after which all members stop, at least 1.
    """

    def __init__(self, metric: str | Metric | Scorer = "loss", size: int = 32, patience: int = 32) -> None:
        self.metric = checked_metric(metric)
        self.size = positive_integer("size", size)
        self.patience = positive_integer("patience", patience)

    def __repr__(self) -> str:
        return f"EnsembleSelection({self.metric!r}, size={self.size}, patience={self.patience})"


class _Snapshot(NamedTuple):
    """A member after its best epoch so far."""

    place: int
    state: np.ndarray
    predictions: np.ndarray


class OnlineSelection:
    """Selects an ensemble from the members of a pack, epoch by epoch.

    Args:
        settings: the settings.
        trainers: the members.
        fits: their fits, all with the same rows of validation data.
        y: the targets of these rows, as the user passed them.
        ranks: the ranks that share out the members; all choose the same ensemble.

    Raises:
        DataError: if there are no validation data in memory.
    """

    def __init__(
        self,
        settings: EnsembleSelection,
        trainers: Sequence[Trainer],
        fits: Sequence[PreparedFit],
        y: Any,
        ranks: World,
    ) -> None:
        self._settings, self._trainers, self._ranks = settings, trainers, ranks
        self._held_out: list[DataSet] = []
        for fit in fits:
            if not isinstance(fit.plan.validation, DataSet):
                raise DataError("ensemble= needs validation data in memory: pass validation_data or validation_rows")
            self._held_out.append(fit.plan.validation)
        self._inputs = {id(data): data.inputs for data in self._held_out}
        first = trainers[0]
        activation, classes = first.loss.output_activation, fits[0].plan.data.classes
        self._score = Score(activation, first.network.n_out, classes, y, settings.metric)
        self._best: list[tuple[float, _Snapshot] | None] = [None] * len(trainers)
        self._known = list(self._best)  # to all ranks
        self._chosen: list[tuple[_Snapshot, float]] = []  # members of the ensemble with their weights
        self._chosen_score, self._epochs_since = -np.inf, 0

    def watched(self, place: int, fit: PreparedFit) -> PreparedFit:
        """Return the fit of a member with a callback that measures it."""
        return fit._replace(callbacks=[*fit.callbacks, _Watcher(self, place)])

    def measure(self, place: int) -> None:
        """Measure a member with its current weights, in the thread that trains it."""
        network, data = self._trainers[place].network, self._held_out[place]
        predictions = _predictions(network, self._inputs[id(data)])
        score = self._score(predictions)
        best = self._best[place]
        if best is None or score > best[0]:
            self._best[place] = score, _Snapshot(place, network.backend.to_host(network.state), predictions)

    def round_ended(self, interruption: Interruption, is_alive: bool) -> bool:
        """Select, after an epoch of all members; return True if a member of any rank goes on.

        Args:
            interruption: the requests to the members of this rank to end, which one to those of another rank ends too.
            is_alive: True if a member of this rank goes on.
        """
        new = {place: best for place, best in enumerate(self._best) if best is not self._known[place]}
        with self._ranks.patient():  # epochs of the members of other ranks may take much longer
            told = self._ranks.gathered((is_alive, interruption.requested, new))
            for place, best in (item for *_, of_rank in told for item in of_rank.items()):
                self._best[place] = best
            self._known = list(self._best)
            self._select()
        if any(requested for _, requested, _ in told):
            interruption.requested = True
        return any(alive for alive, *_ in told)

    def _select(self) -> None:
        """Select from the best weights of all members so far, and from those in the ensemble as it is; stop all members
        once the patience is used up."""
        members = [best[1] for best in self._best if best is not None]
        if not members:
            return
        known = {id(member) for member in members}
        candidates = [*members, *(snapshot for snapshot, _ in self._chosen if id(snapshot) not in known)]
        found = None
        if self._ranks.rank == 0:  # another processor might round differently
            found = select([each.predictions for each in candidates], self._score, self._settings.size)
        found = self._ranks.gathered(found)[0]
        assert found is not None
        self._epochs_since += 1
        if found.score > self._chosen_score:
            self._chosen = [(candidates[place], float(found.counts[place])) for place in np.flatnonzero(found.counts)]
            self._chosen_score, self._epochs_since = found.score, 0
        if self._epochs_since >= self._settings.patience:
            for trainer in self._trainers:
                trainer.stop()

    def ensemble(self) -> Ensemble | None:
        """Return the ensemble so far, of copies of the networks; None before the first epoch."""
        if not self._chosen:
            return None
        networks = []
        for snapshot, _ in self._chosen:
            network = self._trainers[snapshot.place].network.copy()
            network.backend.copy(network.backend.from_host(snapshot.state), network.state)
            networks.append(network)
        return Ensemble(networks, [weight for _, weight in self._chosen])


class _Watcher(Callback):
    """Measures a member after each epoch."""

    def __init__(self, selection: OnlineSelection, place: int) -> None:
        self._selection, self._place = selection, place

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        self._selection.measure(self._place)


def _predictions(network: Sequential, inputs: np.ndarray) -> np.ndarray:
    """Return the predictions for inputs that have been preprocessed, in float64."""
    if (precision := network._inference_precision()) is not None:
        precision.refresh()
    output = np.empty((len(inputs), network.n_out), network.dtype)
    for start in range(0, len(inputs), _ROWS):
        rows = slice(start, start + _ROWS)
        network._infer_block(inputs[rows], True, output[rows])
    return output.astype(np.float64)
