"""The members of a pack on a GPU: an epoch of many of them is one launch, if they are small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

from gradflow.backends.reference import BlockPrograms, ReferenceBackend
from gradflow.pack.members import Member
from gradflow.program import Program
from gradflow.training.signals import Interruption
from gradflow.training.step.epoch import Pass


def train_side_by_side(
    members: Sequence[Member],
    backend: ReferenceBackend,
    interruption: Interruption,
    after_round: Callable[[], None] | None = None,
) -> None:
    """Train all members epoch by epoch, with their passes side by side where the backend can do that and it pays.

    As many train at a time as half of the free memory holds; the others wait until some have ended.

    Args:
        members: the members, in the order in which they begin.
        backend: the backend of all.
        interruption: the requests to all members to end; an error of one of them requests it of the others.
        after_round: called after each epoch of all members, none of which waits then.
    """
    plan = backend.memory_plan()
    room = math.inf if plan is None or after_round is not None else plan.free / 2
    passes = _Passes(backend, len(members))
    waiting, training = list(members), list[Member]()
    while waiting or training:
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
        if after_round is not None:
            after_round()


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
    """Runs passes of several members: side by side those of small networks, which are the same in each epoch.

    So the bits of a member do not depend on which others are still training.

    Args:
        backend: the backend of their programs.
        members: their number, at the beginning.
    """

    def __init__(self, backend: ReferenceBackend, members: int) -> None:
        self._backend, self._members = backend, members
        self._fits: WeakKeyDictionary[Program, bool] = WeakKeyDictionary()
        self._together: dict[str, _Together] = {}

    def run(self, passes: Sequence[tuple[Member, Pass]]) -> None:
        """Run the programs of each pass, in order."""
        small: dict[str, list[Pass]] = {}
        for member, programs in passes:
            if all(map(self._fits_in_a_block, programs)):
                small.setdefault(member.trainer.network.dtype.name, []).append(programs)
            else:
                for program, times in programs:
                    program.run(times)
        for dtype, of_dtype in small.items():
            if dtype not in self._together:
                self._together[dtype] = _Together(self._backend)
            self._together[dtype].run(of_dtype)

    def _fits_in_a_block(self, part: tuple[Program, int]) -> bool:
        program, _ = part
        if program not in self._fits:
            self._fits[program] = self._backend.fits_in_a_block(program.ops or (), self._members)
        return self._fits[program]


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
