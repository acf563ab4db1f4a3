"""`Pack`: many networks trained side by side on the same data."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gradflow.checks import file_path, instance, instances, integer, positive_integer, sequence
from gradflow.data.sources import Source
from gradflow.data.weights import ClassWeight
from gradflow.distributed import World, world
from gradflow.ensemble import Ensemble
from gradflow.errors import DataError, DivergedError, TrainingWarning, warn
from gradflow.network import Sequential
from gradflow.pack.each import Each, of_each
from gradflow.pack.members import (
    Crew,
    Member,
    OfMember,
    named,
    of_all_or_none,
    train_in_rounds,
    train_to_the_end,
    warn_together,
)
from gradflow.pack.memory import check_memory
from gradflow.pack.ranks import check_same_pack, exchange
from gradflow.pack.selection import EnsembleSelection, OnlineSelection
from gradflow.pack.shared_data import SharedData
from gradflow.pack.side_by_side import train_side_by_side
from gradflow.pack.threads import one_thread_each
from gradflow.pack.turns import Turns
from gradflow.training.progress.callbacks import Callback
from gradflow.training.progress.early_stopping import EarlyStopping
from gradflow.training.progress.history import History
from gradflow.training.runs.checkpoints import Checkpoint, checkpoint_files, last_good_checkpoint
from gradflow.training.runs.ranks import one_voice
from gradflow.training.signals import Interruption
from gradflow.training.trainer import PreparedFit, Trainer


class Pack:
    """Networks that are trained side by side on the same data: an ensemble, the folds of a cross-validation, the
    candidates of a search, a model for each group of rows.

    Each member is an ordinary `Trainer`. Networks, optimizers, penalties and all other settings may differ, the kind of
    loss, the backend and the input columns may not. On a CPU the members are shared out over threads, and each member
    gets the same bits as alone, with ``Trainer(..., threads=1)``.

    ``len(pack)`` is the number of members, ``pack[3]`` is the network of one, and a loop over a pack yields them all.

    Args:
        trainers: the members.

    Attributes:
        trainers: the members, a tuple.
        errors: the errors of the members that diverged in the last `fit`, by their place in the pack.
        ensemble: the ensemble that the last `fit` has chosen, if ``ensemble`` was passed.
        groups: the groups of rows that the members belong to, in their order, if `fit_many` trained one for each.
        may_lack_classes: True if the rows of a member may lack classes that occur in y.

    Raises:
        DataError: if there are no members, two of them have the same network, or they do not match.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = tuple(instances("trainers", trainers, Trainer, "gradflow Trainers"))
        self.errors: dict[int, DivergedError] = {}
        self.ensemble: Ensemble | None = None
        self.groups: tuple[Any, ...] = ()
        self.may_lack_classes = False
        if not self.trainers:
            raise DataError("a pack needs at least one member, got an empty list of trainers")
        places: dict[int, int] = {}
        for place, trainer in enumerate(self.trainers):
            first = places.setdefault(id(trainer.network), place)
            if first != place:
                raise DataError(
                    f"members {first} and {place} have the same network, which only one of them can train; give each "
                    "its own: network.copy(), or one with another seed"
                )
            _check_match(self.trainers[0], trainer, place)

    def __len__(self) -> int:
        return len(self.trainers)

    def __getitem__(self, place: int) -> Sequential:
        return self.trainers[integer("the place of a member", place, least=-len(self), most=len(self) - 1)].network

    def __iter__(self) -> Iterator[Sequential]:
        return (trainer.network for trainer in self.trainers)

    def __repr__(self) -> str:
        return f"Pack of {len(self)}: [{self.trainers[0]!r}{', ...' if len(self) > 1 else ''}]"

    @property
    def networks(self) -> tuple[Sequential, ...]:
        """The networks of all members."""
        return tuple(self)

    @property
    def by_group(self) -> dict[Any, Sequential]:
        """The networks by the groups of rows that they belong to."""
        return dict(zip(self.groups, self, strict=False))

    @property
    def histories(self) -> list[History | None]:
        """The histories of the last `fit`; None for a member that was interrupted before it began."""
        return [trainer.history for trainer in self.trainers]

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int | Each,
        rows: Sequence[Any] | None = None,
        validation_rows: Sequence[Any] | None = None,
        threads: int | None = None,
        ensemble: EnsembleSelection | None = None,
        batch_size: int | Each | None = 32,
        sample_weight: Any = None,
        class_weight: ClassWeight | Each | None = None,
        validation_data: tuple[Any, ...] | Source | Each | None = None,
        validation_fraction: float | Each | None = None,
        shuffle: bool | Each = True,
        drop_last: bool | Each = False,
        accumulate: int | Each = 1,
        early_stopping: EarlyStopping | Each | None = None,
        tolerance: float | Each | None = None,
        callbacks: Sequence[Callback] | Each = (),
        progress: bool | str = "auto",
        output: str | os.PathLike[str] | Each | None = None,
        checkpoint: Checkpoint | Each | None = None,
        resume: str | os.PathLike[str] | Each | None = None,
        overwrite: bool = False,
    ) -> list[History | None]:
        """Train all members; return their histories.

        The arguments are those of `Trainer.fit`, with one value for all members, or ``gf.Each([...])`` with a value
        for each. Additional and different are these:

        Args:
            x, y: the data of all members; they are validated and converted once.
            rows: the rows that each member trains on: a list with indices or a mask for each member, or None for all
                rows. The rows are not copied. A row may occur several times, as in a bootstrap sample.
            validation_rows: rows of x that each member is measured on after each epoch, as with ``rows``, in place of
                ``validation_data`` or ``validation_fraction``. Their sample weights apply.
            threads: number of members that are trained at the same time, on a CPU; None for one for each processor that
                gradflow may use. The results do not depend on it. Each member runs on one thread, whatever its
                trainer's ``threads``, and the BLAS is held to one in the whole process.
            ensemble: choose an ensemble after each epoch of all members, on validation data that all share, and stop
                when it no longer improves; `ensemble` of the pack then holds it. Such a pack cannot be resumed.
            callbacks: they are called for every member, one call at a time, in the threads that train.
            output: a folder; member 3 has its run folder in ``output``/member-003.
            resume: the folder of an interrupted pack with checkpoints: each member resumes after its last one, and
                those that had not begun begin.

        A member that diverges ends alone: it keeps its best weights, its error is in `errors`, and a `TrainingWarning`
        at the end names it. Ctrl-C ends all members after their current step and keeps their work, as in
        `Trainer.fit`; any other error of a member, such as one of a callback, does the same, and is raised then.

        Raises:
            DataError: if data or arguments are invalid, rows lack a class that occurs in y, or two members would write
                to one folder; nothing has been changed.
            DivergedError: if all members diverged.
            GradflowError: if one of the networks is already being trained.
        """
        data = SharedData(x, y)
        settings: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "class_weight": class_weight,
            "shuffle": shuffle,
            "drop_last": drop_last,
            "accumulate": accumulate,
            "early_stopping": early_stopping,
            "tolerance": tolerance,
            "checkpoint": checkpoint,
            "overwrite": overwrite,
        }
        chosen = {
            "rows": self._rows(data, "rows", rows),
            "validation_rows": self._rows(data, "validation_rows", validation_rows),
            "sample_weight": of_each("sample_weight", sample_weight, len(self)),
            "validation_data": of_each("validation_data", validation_data, len(self)),
            "validation_fraction": of_each("validation_fraction", validation_fraction, len(self)),
        }
        of_members = {name: of_each(name, value, len(self)) for name, value in settings.items()}
        of_members |= self._folders(output, resume)
        if resume is not None and checkpoint is None:
            of_members["checkpoint"] = [_settings_in(of_members["resume"])] * len(self)
        if ensemble is not None:
            instance("ensemble", ensemble, EnsembleSelection, "a gradflow.EnsembleSelection")
            if resume is not None or checkpoint is not None:
                raise DataError("a pack that chooses an ensemble cannot be resumed; omit checkpoint= and resume=")
        ranks = world()
        calls = Turns(of_each("callbacks", callbacks, len(self)), progress if ranks.rank == 0 else False)
        with ExitStack() as stack:
            stack.enter_context(ranks.together())
            stack.enter_context(one_voice(ranks))
            for trainer in self.trainers:
                stack.enter_context(trainer.network.access.training())
            fits = [
                self._prepared(place, data, calls.of_member(place), chosen, of_members) for place in range(len(self))
            ]
            online = None
            if ensemble is not None:
                online = OnlineSelection(ensemble, self.trainers, fits, data.held_out_targets(chosen), ranks)
                fits = [online.watched(place, fit) for place, fit in enumerate(fits)]
            check_same_pack(ranks, self.trainers, fits)
            calls.begin(sum(fit.plan.epochs for fit in fits[ranks.rank :: ranks.size]))
            stack.callback(calls.end)
            self._train(ranks, fits, None if threads is None else positive_integer("threads", threads), online)
        return self.histories

    def _rows(self, data: SharedData, name: str, rows: Any) -> list[np.ndarray | None]:
        """Return the rows of each member; equal objects are checked once, and stay one object."""
        if rows is None:
            return [None] * len(self)
        given = sequence(name, rows, "a list with the rows of each member")
        if len(given) != len(self):
            raise DataError(f"{name} must list the rows of each of the {len(self)} members, got {len(given)}")
        checked = {
            id(each): data.check_rows(each, f"{name}[{place}]") for place, each in enumerate(given) if each is not None
        }
        return [None if each is None else checked[id(each)] for each in given]

    def _folders(self, output: Any, resume: Any) -> dict[str, list[Any]]:
        """Return the arguments output and resume of each member.

        Raises:
            DataError: if two members would write to one folder, or there is nothing to resume.
        """
        folders = {}
        for name, value in (("output", output), ("resume", resume)):
            if isinstance(value, Each) or value is None:
                given = of_each(name, value, len(self))
                folders[name] = [None if folder is None else file_path(name, folder) for folder in given]
            else:
                parent = file_path(name, value)
                folders[name] = [parent / f"member-{place:03}" for place in range(len(self))]
        if resume is not None:
            begun = [bool(folder and checkpoint_files(folder / "checkpoints")) for folder in folders["resume"]]
            if not any(begun):
                raise DataError(f"there is no pack to resume in {resume}: none of its members has a checkpoint")
            folders["output"] = folders["resume"]
            folders["resume"] = [
                path if has_begun else None for path, has_begun in zip(folders["resume"], begun, strict=True)
            ]
        places: dict[str, int] = {}
        for place, folder in enumerate(folders["output"]):
            if folder is not None and (first := places.setdefault(os.path.realpath(folder), place)) != place:
                raise DataError(f"members {first} and {place} would both write to {folder}; give each its own folder")
        return folders

    def _prepared(
        self,
        place: int,
        data: SharedData,
        callbacks: Sequence[Callback],
        chosen: dict[str, list[Any]],
        of_members: dict[str, list[Any]],
    ) -> PreparedFit:
        """Validate the arguments of a member, and return its fit."""
        trainer = self.trainers[place]
        settings = {name: values[place] for name, values in of_members.items()}
        try:
            with trainer.network.backend.current():
                if trainer.loss.output_activation != "identity":
                    self._check_seen(data.missing_classes(chosen["rows"][place]))
                fit_data = data.of_member(
                    trainer,
                    class_weight=settings["class_weight"],
                    **{name: values[place] for name, values in chosen.items()},
                )
                settings["validation_fraction"] = chosen["validation_fraction"][place]
                return trainer._prepared(fit_data, callbacks=callbacks, progress=False, **settings)
        except DataError as error:
            raise DataError(f"member {place}: {error}") from error

    def _check_seen(self, missing: Sequence[Any]) -> None:
        if missing and not self.may_lack_classes:
            raise DataError(
                f"its rows lack {'class' if len(missing) == 1 else 'classes'} {', '.join(map(str, missing[:8]))}, "
                "which occur in y, so that it could not learn them; choose rows that contain each class, such as "
                "stratified folds, or set pack.may_lack_classes = True"
            )

    def _train(
        self, ranks: World, fits: Sequence[PreparedFit], threads: int | None, online: OnlineSelection | None
    ) -> None:
        """Train the members of this rank, and exchange results with the others."""
        backend = self.trainers[0].network.backend
        self.errors, self.ensemble = {}, None
        for trainer in self.trainers:
            trainer.history = None
        is_on_gpu = backend.name == "cupy"
        with Interruption() as interruption, one_thread_each(backend, threads or ranks.threads) as most:
            members = [
                Member(place, trainer, fit, interruption, hands_out=is_on_gpu)
                for place, (trainer, fit) in enumerate(zip(self.trainers, fits, strict=True))
                if place % ranks.size == ranks.rank
            ]
            interruption.wakers = [lambda: _wake(members)]
            after_round = None if online is None else partial(online.round_ended, interruption)
            try:
                if is_on_gpu:
                    train_side_by_side(members, backend, interruption, after_round)
                else:
                    sizes = sorted((member.n_bytes for member in members), reverse=True)
                    largest = sizes[: most if online is None else None]
                    check_memory(largest, f"{len(largest)} members trained at the same time")
                    if after_round is None:
                        train_to_the_end(members, Crew(most, interruption))
                    else:
                        train_in_rounds(members, Crew(most, interruption), after_round)
            finally:
                for member in members:
                    member.close()
                if ranks.size == 1:
                    self.ensemble = None if online is None else online.ensemble()
                self.errors = {member.index: member.error for member in members if member.error is not None}
            warnings = [(member.index, warning) for member in members for warning in member.warnings]
            if ranks.size > 1:
                self.errors, warnings = exchange(ranks, self.trainers, self.errors, warnings)
                self.ensemble = None if online is None else online.ensemble()
        self._report(warnings if online is None else of_all_or_none(warnings, TrainingWarning, len(self)))

    def _report(self, warnings: Sequence[OfMember]) -> None:
        """Warn of what happened to the members; raise if all have diverged."""
        warn_together(warnings)
        if len(self.errors) == len(self):
            raise self.errors[0]
        if self.errors:
            first = next(iter(self.errors))
            warn(
                f"{named(list(self.errors))} of {len(self)} diverged; networks that diverge keep their best weights, "
                f"and pack.errors has the errors. Member {first}: {self.errors[first]}",
                TrainingWarning,
            )


def _check_match(first: Trainer, other: Trainer, place: int) -> None:
    """Raise if a member cannot share loss, backend or data with the first one.

    Raises:
        DataError: naming the difference.
    """

    def columns(trainer: Trainer) -> tuple[int, Sequence[str] | None]:
        network = trainer.network
        preprocessing = network.preprocessing
        width = network.n_in if preprocessing is None else len(preprocessing.names)
        return width, network.feature_names

    if type(first.loss) is not type(other.loss):
        raise DataError(
            f"all members must have the same kind of loss, but member 0 has {first.loss.name!r} and member {place} "
            f"{other.loss.name!r}; make a pack for each"
        )
    (width, names), (others_width, others_names) = columns(first), columns(other)
    if width != others_width:
        raise DataError(
            f"all members must take the same columns, but member 0 takes {width} and member {place} {others_width}; "
            "make a pack for each choice of columns"
        )
    if names != others_names and None not in (names, others_names):
        raise DataError(
            f"all members must take the same columns, but those of member 0 and member {place} differ by name"
        )
    backends = first.network.backend, other.network.backend
    if (backends[0].name, backends[0].place) != (backends[1].name, backends[1].place):
        raise DataError(
            f"all members must be on the same backend, but member 0 is on {backends[0].name!r}, {backends[0].place!r}, "
            f"and member {place} on {backends[1].name!r}, {backends[1].place!r}"
        )


def _settings_in(resumed: Sequence[Path | None]) -> Checkpoint:
    """Return when the resumed members save, for those that had not begun."""
    folder = next(folder for folder in resumed if folder is not None)
    return Checkpoint(**last_good_checkpoint(folder / "checkpoints")[1].record["checkpoint"])


def _wake(members: Sequence[Member]) -> None:
    for member in members:
        for wake in member.requests.wakers:
            wake()
