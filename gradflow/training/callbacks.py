"""What a program of one's own can do while a network trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradflow.errors import unknown_name

if TYPE_CHECKING:
    from gradflow.training.history import History
    from gradflow.training.trainer import Trainer

__all__ = ["Callback"]


class Callback:
    """Methods that `Trainer.fit` calls; a subclass overrides those that it needs.

    ``trainer.stop()`` inside one of them ends the training after that epoch.

    Raises:
        DataError: where a subclass defines a method whose name begins with "on_" and is none of these: nothing would
            call it.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        valid = [name for name in vars(Callback) if name.startswith("on_")]
        for name in vars(cls):
            if name.startswith("on_") and name not in valid:
                raise unknown_name(f"method of callback {cls.__name__}", name, valid)

    def on_fit_begin(self, trainer: Trainer, epochs: int) -> None:
        """Before the first epoch; ``epochs`` is how many there may be."""

    def on_epoch_end(self, trainer: Trainer, epoch: int, values: dict[str, float]) -> None:
        """After each epoch, counted from 1, with its values by name."""

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """After the last epoch, also when training diverged, was interrupted, or raised an error."""
