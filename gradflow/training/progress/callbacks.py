"""`Callback`: hooks that `Trainer.fit` calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradflow.errors import unknown_name

if TYPE_CHECKING:
    from gradflow.training.progress.history import History


class Callback:
    """Base class for hooks that `Trainer.fit` calls; override the methods that you need.

    Calling ``trainer.stop()`` in one of them ends the training after that epoch.

    Raises:
        DataError: if a subclass defines any other method whose name begins with "on_": it would never be called.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        valid = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and name not in valid:
                raise unknown_name(f"method of callback {cls.__name__}", name, valid)

    def on_fit_begin(self, trainer: Any, epochs: int) -> None:
        """Called before the first epoch; ``epochs`` is the maximum number of epochs."""

    def on_epoch_end(self, trainer: Any, epoch: int, values: dict[str, float]) -> None:
        """Called after each epoch, counted from 1, with its values by name."""

    def on_fit_end(self, trainer: Any, history: History) -> None:
        """Called after the last epoch, even if training diverged, was interrupted, or raised an error."""
