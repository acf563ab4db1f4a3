"""The losses, one file for each family: what is averaged, its gradient, and the targets it takes."""

from __future__ import annotations

from gradflow.errors import DataError, unknown_name
from gradflow.losses.absolute_error import MeanAbsoluteError
from gradflow.losses.base import LOSSES, Loss
from gradflow.losses.binary_cross_entropy import BinaryCrossEntropy
from gradflow.losses.huber import HuberLoss
from gradflow.losses.poisson import PoissonLoss
from gradflow.losses.quantile import QuantileLoss
from gradflow.losses.softmax_cross_entropy import SoftmaxCrossEntropy
from gradflow.losses.squared_error import HalfSquaredError, MeanSquaredError

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "HalfSquaredError",
    "HuberLoss",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PoissonLoss",
    "QuantileLoss",
    "SoftmaxCrossEntropy",
    "get_loss",
]


def get_loss(loss: str | Loss) -> Loss:
    """A loss from its name, or the loss itself.

    Raises:
        DataError: for an unknown name (the nearest valid one is suggested) or anything else.
    """
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str):
        raise DataError(f"a loss is a name or a gradflow Loss, got {loss!r}")
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    return LOSSES[loss]()
