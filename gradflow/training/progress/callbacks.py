"""`Callback`: hooks that `Trainer.fit` calls."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gradflow.checks import any_number, positive_integer
from gradflow.errors import DataError, shown, unknown_name

if TYPE_CHECKING:
    from gradflow.training.progress.history import History


class Callback:
    """Base class for hooks that `Trainer.fit` calls; override the methods that you need.

    Calling ``trainer.stop()`` in `on_step_end` ends the training after that step, elsewhere after that epoch.

    Of several ranks that train together (`gradflow.distributed`), each calls its callbacks, but only rank 0 those with
    ``first_rank_only = True``.

    Raises:
        DataError: if a subclass defines any other method whose name begins with "on_": it would never be called.
    """

    every_steps: int | None = 1
    """`on_step_end` is called after every so many steps, counted over all epochs; None never calls it."""
    first_rank_only: ClassVar[bool] = False
    """True for a callback that prints or writes files."""
    one_run_only: ClassVar[bool] = False
    """True for a callback that keeps what it knows of the fit that runs: members of a pack may not share it."""

    def _of_member(self, place: int) -> Callback:
        """Return the callback that stands for this one in the member of a pack at this place."""
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        valid = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and name not in valid:
                raise unknown_name(f"method of callback {cls.__name__}", name, valid)

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        """Called before the first epoch; ``epochs`` is the maximum number of epochs."""

    def on_step_end(self, trainer: Any, step: int, loss: float) -> None:
        """Called after steps whose number, counted from 1 over all epochs, is a multiple of `every_steps`.

        ``loss`` is the mean over the rows of the last `every_steps` steps, without those of earlier epochs. The call
        waits for these steps, and training waits for the call: without it, a small network takes hundreds of steps
        in a row outside Python.
        """

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> Mapping[str, float] | None:
        """Called after each epoch, counted from 1, with its values by name.

        It may return values of its own, by names that are the same in each epoch: they go into the history, into its
        files and curves, and to the callbacks that come later in the list.
        """

    def _epochs_at_once(self) -> int:
        """Return how many epochs may run before `on_epoch_end` is called for them, one after the other: it then sees
        the network of the last one."""
        return sys.maxsize if type(self).on_epoch_end is Callback.on_epoch_end else 1

    def on_fit_end(self, trainer: Any, history: History) -> None:
        """Called after the last epoch, even if training diverged, was interrupted, or raised an error.

        ``history.stopped_by`` says which.
        """


def step_interval(callback: Callback) -> int | None:
    """Return the number of steps between two calls of `Callback.on_step_end`; None if it is never called.

    Raises:
        DataError: if ``every_steps`` is neither None nor an integer above 0.
    """
    if type(callback).on_step_end is Callback.on_step_end or callback.every_steps is None:
        return None
    return positive_integer(f"every_steps of callback {type(callback).__name__}", callback.every_steps)


class Looker(Callback):
    """A callback that hears of the progress within an epoch, at no cost for the steps."""

    def look(self, epochs_done: int, step: int, steps: int, rows: int) -> None:
        """Receive the number of epochs, and of steps in the current one, that have run, and the rows of an epoch."""


def is_own_name(name: str) -> bool:
    """True if a value that a callback returns may have this name."""
    return bool(name) and not name.startswith("val_") and "/" not in name


def may_return_values(callback: Callback) -> bool:
    """True if a callback, or that which it stands for in a pack, may return values of its own after an epoch."""
    of = getattr(callback, "turn_of", callback)
    return type(of).on_epoch_end is not Callback.on_epoch_end and not isinstance(of, Looker)


class Calls:
    """Calls the callbacks of a fit, and gathers the values of their own.

    Args:
        callbacks: the callbacks.
        trainer: the trainer, which they receive.
        rank: the rank of this process. The steps that any callback hears of end on all ranks.
    """

    def __init__(self, callbacks: Sequence[Callback], trainer: Any, rank: int = 0) -> None:
        self._callbacks = [callback for callback in callbacks if rank == 0 or not callback.first_rank_only]
        self._trainer = trainer
        self._begun: list[Callback] = []
        self._lookers = [callback for callback in self._callbacks if isinstance(callback, Looker)]
        is_called = {id(callback) for callback in self._callbacks}
        intervals = [
            (callback if id(callback) in is_called else None, step_interval(callback)) for callback in callbacks
        ]
        self._of_steps = [(callback, every) for callback, every in intervals if every is not None]
        self._taken: Collection[str] = ()
        self._own: list[str] | None = None

    @property
    def has_steps(self) -> bool:
        """True if a callback hears of steps."""
        return bool(self._of_steps)

    @property
    def epochs_at_once(self) -> int:
        """The number of epochs that may run before the next call of `epoch_ended`."""
        return min((callback._epochs_at_once() for callback in self._callbacks), default=sys.maxsize)

    def begin(self, epochs: int, taken: Collection[str], own: list[str] | None, step: int) -> None:
        """Call `Callback.on_fit_begin`.

        Args:
            epochs: the maximum number of epochs.
            taken: names of the values in the history that are not those of callbacks.
            own: names of the callbacks' values in the history of a resumed run; None before the first epoch.
            step: the number of steps done.
        """
        self._taken, self._own, self._step = taken, own, step
        for callback in self._callbacks:
            callback.on_fit_begin(self._trainer, epochs)
            self._begun.append(callback)

    def look(self, epochs_done: int, step: int, steps: int, rows: int) -> None:
        """Call `Looker.look`."""
        for looker in self._lookers:
            looker.look(epochs_done, step, steps, rows)

    def step_ended(self, step: int, mean_loss: Callable[[int], float]) -> None:
        """Call `Callback.on_step_end`, if that is due and this step is a new one.

        Args:
            step: the number of steps done.
            mean_loss: returns the mean loss of the last steps, given their number.
        """
        if step > self._step:
            self._step = step
            for callback, every in self._of_steps:
                if step % every == 0:
                    loss = mean_loss(every)  # on all ranks, which put theirs together
                    if callback is not None:
                        callback.on_step_end(self._trainer, step, loss)

    def steps_allowed(self, step: int) -> int:
        """Return the number of steps before the next call of `step_ended`."""
        return min((every - step % every for _, every in self._of_steps), default=sys.maxsize)

    def epoch_ended(self, epoch: int, values: dict[str, float], history: History) -> dict[str, float]:
        """Call `Callback.on_epoch_end`, append the values that callbacks return to the history, and return them.

        Raises:
            DataError: if a name is taken, a value is not a number, or the names are not those of earlier epochs.
        """
        own: dict[str, float] = {}
        try:
            for callback in self._callbacks:
                returned = callback.on_epoch_end(self._trainer, epoch, {**values, **own})
                if returned is not None:
                    own |= self._checked(callback, returned, own)
            if missing := [name for name in self._own or () if name not in own]:
                raise DataError(
                    f"no callback returned a value for {', '.join(map(repr, missing))} after epoch {epoch}, as after "
                    "earlier epochs; return all values after each epoch (NaN where there is none), and pass a resumed "
                    "run its callbacks"
                )
        finally:  # after an error too, since all values of a history have the same number of epochs
            history.append({name: own.get(name, math.nan) for name in (own if self._own is None else self._own)})
        self._own = list(own)
        return own

    def _checked(self, callback: Callback, returned: Any, own: Collection[str]) -> dict[str, float]:
        """Return the values that a callback returned, as floats."""
        method = f"on_epoch_end of callback {type(callback).__name__}"
        if not isinstance(returned, Mapping):
            raise DataError(f"{method} must return None or a dict of values by name, got {shown(returned)}")
        for name in returned:
            if not isinstance(name, str) or not is_own_name(name):
                raise DataError(
                    f"{method} must name its values by texts without '/' and without 'val_' in front, got {shown(name)}"
                )
            if name in self._taken or name in own or name == "epoch":
                raise DataError(f"{method} returned a value {name!r}, but the history has one already; rename it")
            if self._own is not None and name not in self._own:
                raise DataError(
                    f"{method} returned a value {name!r} that it did not return after the first epoch; return all "
                    "values after each epoch, NaN where there is none"
                )
        return {name: any_number(f"the value {name!r} of {method}", value) for name, value in returned.items()}

    def end(self, history: History) -> None:
        """Call `Callback.on_fit_end` of all callbacks that have begun."""
        begun, self._begun = self._begun, []
        for callback in begun:
            callback.on_fit_end(self._trainer, history)
