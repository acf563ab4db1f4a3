"""The members of a pack on a GPU: an epoch of many small ones is one launch, and larger ones share their launches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from weakref import WeakKeyDictionary, ref

from gradflow.backends.reference import BlockPrograms, ReferenceBackend, Replay
from gradflow.pack.members import Member
from gradflow.program import Program
from gradflow.training.signals import Interruption
from gradflow.training.step.epoch import Pass


def train_side_by_side(
    members: Sequence[Member],
    backend: ReferenceBackend,
    interruption: Interruption,
    after_round: Callable[[bool], bool] | None = None,
) -> None:
    """Train all members epoch by epoch, with their passes side by side where the backend can do that and it pays.

    As many train at a time as half of the free memory holds; the others wait until some have ended.

    Args:
        members: the members, in the order in which they begin.
        backend: the backend of all.
        interruption: the requests to all members to end; an error of one of them requests it of the others.
        after_round: called after each epoch of all members, none of which waits then, with True if one of them goes on;
            it returns True if one does on any rank.
    """
    plan = backend.memory_plan()
    room = math.inf if plan is None or after_round is not None else plan.free / 2
    passes = _Passes(backend, members)
    waiting, training = list(members), list[Member]()
    is_going_on = bool(waiting) or after_round is not None
    while is_going_on:
        while waiting and (not training or sum(member.n_bytes for member in [*training, waiting[0]]) <= room):
            training.append(waiting.pop(0))
        try:
            _train_for_an_epoch(training, passes)
        except Exception:
            interruption.requested = True
            for member in training:
                member.finish()
            raise
        training = [member for member in training if not member.is_done]
        is_going_on = bool(waiting or training)
        if after_round is not None:
            is_going_on = after_round(is_going_on)


def _train_for_an_epoch(members: Sequence[Member], passes: _Passes) -> None:
    left = members
    while left:
        handed_out: list[tuple[Member, Pass]] = []
        try:
            handed_out.extend((member, member.advance()) for member in left)
        finally:  # after an error too, since members count on it
            handed_out = [(member, each) for member, each in handed_out if each]
            passes.run(handed_out)
        left = [member for member, _ in handed_out]


class _Passes:
    """Runs passes of several members: side by side those of small networks, op by op those of larger ones with the same
    shapes, the others in turn.

    Which it is depends on the whole pack alone, so that the bits of a member do not depend on which others are still
    training.

    Args:
        backend: the backend of their programs.
        members: the members, at the beginning.
    """

    def __init__(self, backend: ReferenceBackend, members: Sequence[Member]) -> None:
        self._backend, self._members = backend, len(members)
        self._alike = Counter(map(_shapes, members))
        self._ways: WeakKeyDictionary[Program, str] = WeakKeyDictionary()
        self._together: dict[str, _Together] = {}
        self._merged = _Merged(backend)

    def run(self, passes: Sequence[tuple[Member, Pass]]) -> None:
        """Run the programs of each pass, in order."""
        small: dict[str, list[Pass]] = {}
        merged: list[Pass] = []
        for member, programs in passes:
            ways = {self._way(member, program) for program, _ in programs}
            if ways == {"block"}:
                small.setdefault(member.trainer.network.dtype.name, []).append(programs)
            elif ways == {"merged"}:
                merged.append(programs)
            else:
                for program, times in programs:
                    program.run(times)
        for dtype, of_dtype in small.items():
            if dtype not in self._together:
                self._together[dtype] = _Together(self._backend)
            self._together[dtype].run(of_dtype)
        self._merged.run(merged)

    def _way(self, member: Member, program: Program) -> str:
        if program not in self._ways:
            alike = self._alike[_shapes(member)]
            self._ways[program] = self._backend.fastest_way(program.ops or (), self._members, alike)
        return self._ways[program]


def _shapes(member: Member) -> Hashable:
    """Return what members have in common whose programs probably have the same shapes."""
    network, plan = member.trainer.network, member.fit.plan
    return network.dtype.name, tuple(network.parameter_ranges.items()), plan.rows, plan.batch_size


class _Merged:
    """Passes of networks of the same shapes, whose programs are merged into one.

    Args:
        backend: the backend.
    """

    def __init__(self, backend: ReferenceBackend) -> None:
        self._backend = backend
        self._shapes: WeakKeyDictionary[Program, Hashable] = WeakKeyDictionary()
        self._prepared: WeakKeyDictionary[Program, tuple[list[ref[Program]], Replay]] = WeakKeyDictionary()

    def run(self, passes: Sequence[Pass]) -> None:
        """Run the programs of each pass, in order, those of alike passes at the same time."""
        alike: dict[Hashable, list[Pass]] = {}
        for programs in passes:
            key = tuple((self._shape(program), program.steps_per_launch, times) for program, times in programs)
            alike.setdefault(key, []).append(programs)
        for of_shape in alike.values():
            for parts in zip(*of_shape, strict=True):
                self._replay([program for program, _ in parts])(parts[0][1])

    def _shape(self, program: Program) -> Hashable:
        if program not in self._shapes:
            self._shapes[program] = self._backend.shape_of(program.ops or ())
        return self._shapes[program]

    def _replay(self, programs: list[Program]) -> Replay:
        """Return the merged program, prepared again if there are others than in the last epoch."""
        known, replay = self._prepared.get(programs[0], ([], None))
        if replay is None or [program() for program in known] != programs:
            replay = self._backend.merged([program.ops or () for program in programs], programs[0].steps_per_launch)
            self._prepared[programs[0]] = [ref(program) for program in programs], replay
        return replay


class _Together:
    """Programs of networks of one dtype, side by side.

    Args:
        backend: the backend.
    """

    def __init__(self, backend: ReferenceBackend) -> None:
        self._backend = backend
        self._prepared: BlockPrograms | None = None
        self._places: WeakKeyDictionary[Program, int] = WeakKeyDictionary()  # without those of members that have ended

    def run(self, passes: Sequence[Pass]) -> None:
        """Run the programs of each pass, in order, in a block."""
        if self._prepared is None or any(program not in self._places for each in passes for program, _ in each):
            programs = list(dict.fromkeys([*self._places, *(program for each in passes for program, _ in each)]))
            self._prepared = self._backend.block_programs([program.ops or () for program in programs])
            self._places = WeakKeyDictionary({program: place for place, program in enumerate(programs)})
        self._prepared.run([[(self._places[program], times) for program, times in each] for each in passes])
