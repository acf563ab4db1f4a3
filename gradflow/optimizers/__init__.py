"""The optimizers, one file per family: a rule on the flat parameter vector, and clipping."""

from __future__ import annotations

from gradflow.checks import object_or_name
from gradflow.errors import DataError
from gradflow.optimizers.adagrad import Adagrad as Adagrad
from gradflow.optimizers.adam import Adam as Adam
from gradflow.optimizers.adam import AdamW as AdamW
from gradflow.optimizers.base import OPTIMIZERS as OPTIMIZERS
from gradflow.optimizers.base import Optimizer as Optimizer
from gradflow.optimizers.lbfgs import LBFGS as LBFGS
from gradflow.optimizers.lion import Lion as Lion
from gradflow.optimizers.muon import Muon as Muon
from gradflow.optimizers.rmsprop import RMSprop as RMSprop
from gradflow.optimizers.sgd import SGD as SGD
from gradflow.optimizers.sgd import GradientDescent as GradientDescent


def get_optimizer(optimizer: str | Optimizer, learning_rate: float | None = None) -> Optimizer:
    """Return the optimizer of this name, or the optimizer itself.

    Args:
        optimizer: a name from `OPTIMIZERS`, or an optimizer.
        learning_rate: the learning rate, if ``optimizer`` is a name; None takes the class's `default_learning_rate`.

    Raises:
        DataError: if the name is unknown (the most similar valid one is suggested), or the argument is anything else.
    """
    found = object_or_name("optimizer", optimizer, Optimizer, OPTIMIZERS)
    if isinstance(found, Optimizer):
        return found
    cls = OPTIMIZERS[found]
    if issubclass(cls, LBFGS):
        if learning_rate is not None:
            raise DataError(f"lbfgs uses a line search and takes no learning rate; omit it, got {learning_rate!r}")
        return cls()
    return cls(cls.default_learning_rate if learning_rate is None else learning_rate)
