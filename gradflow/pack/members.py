"""The members of a pack while it is trained: shared out over threads, each on one of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context

from gradflow.errors import DivergedError, collecting_warnings, warn
from gradflow.pack.memory import training_bytes
from gradflow.training.signals import Interruption
from gradflow.training.step.epoch import Pass
from gradflow.training.trainer import PreparedFit, Trainer

OfMember = tuple[int, tuple[str, type[Warning]]]
"""The place of a member, with the text and the category of a warning of its training."""

_BETWEEN_LOOKS = 0.2  # seconds after which the main thread sees a signal, where it cannot wake a waiting thread


class Requests(Interruption):
    """The requests to end of a whole pack, as one of its members sees them.

    Args:
        whole: the requests to all members.
    """

    def __init__(self, whole: Interruption) -> None:
        super().__init__()
        self._whole = whole

    @property
    def requested(self) -> bool:
        return self._whole.requested

    @requested.setter
    def requested(self, value: bool) -> None:
        """Leave the decision to the whole pack."""


class Member:
    """A member that is being trained.

    Args:
        index: its place in the pack.
        trainer: its trainer.
        fit: its fit.
        whole: the requests to all members to end.
        hands_out: True to hand out passes over the data, where that is possible, in place of running them.

    Attributes:
        error: the error if it diverged.
        warnings: texts and categories of its warnings.
        is_done: True after the end of its training.
    """

    def __init__(
        self, index: int, trainer: Trainer, fit: PreparedFit, whole: Interruption, *, hands_out: bool = False
    ) -> None:
        self.index, self.trainer, self.fit = index, trainer, fit
        self.requests = Requests(whole)
        self.error: DivergedError | None = None
        self.warnings: list[tuple[str, type[Warning]]] = []
        self.is_done = False
        self._epochs: Generator[Pass, None, None] = trainer._epochs(fit, self.requests, hands_out=hands_out)

    @property
    def work(self) -> float:
        """Approximate work of all its epochs, in units of its own kind, to begin with the longest."""
        return float(self.fit.plan.epochs) * self.fit.plan.rows * self.trainer.network.n_parameters

    @property
    def n_bytes(self) -> int:
        """Approximate bytes that its training takes."""
        return training_bytes(self.trainer)

    def advance(self) -> Pass:
        """Train for an epoch, in this thread; the last call ends the training.

        If the member hands out passes, return one, which the caller must run before the next call; an empty one at the
        end of an epoch.
        """
        return self._run(lambda: next(self._epochs))

    def _run(self, train: Callable[[], Pass]) -> Pass:
        network = self.trainer.network
        collect = collecting_warnings(lambda message, category: self.warnings.append((message, category)))
        with collect, network.access.training_for(), network.backend.current():
            try:
                return train()
            except StopIteration:
                self._end()
            except DivergedError as error:
                self.error = error
                self._end()
            except BaseException as error:
                error.add_note(f"in member {self.index} of the pack")
                self._end()
                raise
        return ()

    def finish(self) -> None:
        """Train to the end, in this thread."""
        if not self.is_done:
            self._run(self._finish)

    def _finish(self) -> Pass:
        for programs in self._epochs:
            for program, times in programs:
                program.run(times)
        self._end()
        return ()

    def close(self) -> None:
        """Give up a training that has not ended, and with it its run folder."""
        self._epochs.close()

    def _end(self) -> None:
        self.is_done = True
        self.requests.wakers = []
        self._epochs.close()


class Crew:
    """Threads that train members side by side.

    Args:
        threads: their number; with 1 the calling thread trains.
        interruption: the requests to all members to end; an error of one of them requests it of the others.
    """

    def __init__(self, threads: int, interruption: Interruption) -> None:
        self._threads, self._interruption = threads, interruption

    def do(self, work: Sequence[Callable[[], object]]) -> None:
        """Do pieces of work, in this order as threads become free.

        Raises:
            Exception: the first error, after all pieces that had begun have ended.
        """
        if min(self._threads, len(work)) == 1:
            for piece in work:
                piece()
            return
        with ThreadPoolExecutor(self._threads) as pool:
            futures = [pool.submit(copy_context().run, piece) for piece in work]
            try:
                _wait_for(futures)
            except BaseException:
                self._interruption.requested = True
                for wake in self._interruption.wakers:
                    wake()
                pool.shutdown(cancel_futures=True)
                raise


def _wait_for(futures: Sequence[Future[object]]) -> None:
    """Wait until all have ended, or one has failed, whose error is raised."""
    waiting = set(futures)
    while waiting:
        ended, waiting = wait(waiting, timeout=_BETWEEN_LOOKS, return_when="FIRST_EXCEPTION")
        for future in ended:
            future.result()


def train_to_the_end(members: Sequence[Member], crew: Crew) -> None:
    """Train all members, one after the other in each thread, so that few are in memory at a time; longest first."""
    crew.do([member.finish for member in sorted(members, key=lambda member: -member.work)])


def train_in_rounds(members: Sequence[Member], crew: Crew, after_round: Callable[[bool], bool]) -> None:
    """Train all members epoch by epoch.

    Args:
        members: the members; of several ranks, one may have none.
        crew: the threads.
        after_round: called after each epoch of all, with True if one of them goes on; it returns True if one does on
            any rank.
    """
    alive, is_going_on = list(members), True
    while is_going_on:
        if alive:
            crew.do([member.advance for member in sorted(alive, key=lambda member: -member.work)])
        alive = [member for member in members if not member.is_done]
        is_going_on = after_round(bool(alive))


def of_all_or_none(warnings: Sequence[OfMember], category: type[Warning], members: int) -> Sequence[OfMember]:
    """Return warnings without those of a category, unless each of so many members has one.

    An ensemble that is chosen leaves out members that learn nothing: those are no cause to warn.
    """
    places = {place for place, (_, of_warning) in warnings if of_warning is category}
    return warnings if len(places) == members else [each for each in warnings if each[1][1] is not category]


def warn_together(warnings: Sequence[OfMember]) -> None:
    """Give the warnings of members, by their places, each text once."""
    of_members: dict[tuple[str, type[Warning]], list[int]] = {}
    for place, warning in warnings:
        of_members.setdefault(warning, []).append(place)
    for (message, category), places in of_members.items():
        warn(f"{named(places)}: {message}", category)


def named(places: Sequence[int]) -> str:
    """Name members in a message: "member 3", "members 1, 2, 5"; of many the first ones."""
    distinct = sorted(set(places))
    listed = ", ".join(map(str, distinct[:8])) + (f" and {len(distinct) - 8} more" if len(distinct) > 8 else "")
    return f"member{'s' if len(distinct) > 1 else ''} {listed}"
