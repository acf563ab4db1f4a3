"""The losses, one file per family: the averaged quantity, its gradient, and the accepted targets."""

from __future__ import annotations

from gradflow.checks import is_function, object_or_name
from gradflow.errors import DataError
from gradflow.losses.absolute_error import MeanAbsoluteError as MeanAbsoluteError
from gradflow.losses.base import LOSSES as LOSSES
from gradflow.losses.base import OUTPUT_ACTIVATIONS as OUTPUT_ACTIVATIONS
from gradflow.losses.base import Loss as Loss
from gradflow.losses.binary_cross_entropy import BinaryCrossEntropy as BinaryCrossEntropy
from gradflow.losses.function import FunctionLoss, LossFunction
from gradflow.losses.huber import HuberLoss as HuberLoss
from gradflow.losses.poisson import PoissonLoss as PoissonLoss
from gradflow.losses.quantile import QuantileLoss as QuantileLoss
from gradflow.losses.softmax_cross_entropy import SoftmaxCrossEntropy as SoftmaxCrossEntropy
from gradflow.losses.squared_error import HalfSquaredError as HalfSquaredError
from gradflow.losses.squared_error import MeanSquaredError as MeanSquaredError


def get_loss(loss: str | Loss | LossFunction) -> Loss:
    """Return the loss of this name, or of this function, or the loss itself.

    Raises:
        DataError: if the name is unknown (the most similar valid one is suggested), the loss does not define its output
            activation, or the argument is anything else.
    """
    if is_function(loss):
        return FunctionLoss(loss)
    found = object_or_name("loss", loss, Loss, LOSSES)
    return _complete(LOSSES[found]() if isinstance(found, str) else found)


def _complete(loss: Loss) -> Loss:
    """Return the loss after checking that it has the required attributes."""
    activation = getattr(loss, "output_activation", None)
    if activation not in OUTPUT_ACTIVATIONS:
        raise DataError(
            f"the output_activation of loss {loss!r} must be one of {', '.join(OUTPUT_ACTIVATIONS)}, got {activation!r}"
        )
    if not isinstance(getattr(loss, "has_accuracy", None), bool):
        raise DataError(f"loss {loss!r} must set has_accuracy to True or False: whether it counts correct predictions")
    return loss
