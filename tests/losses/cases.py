"""One case for each form of a loss: targets, and the same loss in PyTorch. A new loss adds one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradflow as gf
from gradflow.losses import Loss

ROWS, COLUMNS = 6, 4


def labels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, COLUMNS, ROWS)


def probabilities(rng: np.random.Generator) -> np.ndarray:
    t = rng.random((ROWS, COLUMNS))
    t[0] = np.eye(COLUMNS)[2]
    return t / t.sum(axis=1, keepdims=True)


def fractions(rng: np.random.Generator) -> np.ndarray:
    return rng.random((ROWS, COLUMNS)).round(1)


def numbers(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(ROWS, COLUMNS))


def counts(rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(3.0, (ROWS, COLUMNS))


def two_targets(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(ROWS, COLUMNS // 2))


@dataclass(frozen=True)
class LossCase:
    """A loss, and the same loss in PyTorch.

    Attributes:
        loss: the loss.
        targets: draws targets.
        in_torch: returns the loss of each row, from ``torch.nn.functional``, outputs and targets.
        largest_scale: the largest standard deviation of outputs that it is compared for.
    """

    loss: Loss
    targets: Callable[[np.random.Generator], np.ndarray]
    in_torch: Callable[[Any, Any, Any], Any]
    largest_scale: float = 1e4


def of_each_row(name: str, **settings: Any) -> Callable[[Any, Any, Any], Any]:
    """Return the row losses of a PyTorch loss: the mean over a row's outputs if it returns one loss per output."""

    def loss(functional: Any, outputs: Any, targets: Any) -> Any:
        values = getattr(functional, name)(outputs, targets, reduction="none", **settings)
        return values.mean(dim=1) if values.ndim == 2 else values

    return loss


def pinball(functional: Any, outputs: Any, targets: Any) -> Any:
    import torch

    levels = torch.tensor([0.2, 0.9] * 2, dtype=outputs.dtype)
    error = targets.repeat_interleave(2, dim=1) - outputs
    return torch.maximum(levels * error, (levels - 1) * error).mean(dim=1)


def smoothed_binary(functional: Any, outputs: Any, targets: Any) -> Any:
    return of_each_row("binary_cross_entropy_with_logits")(functional, outputs, 0.7 * targets + 0.15)


def focal_softmax(functional: Any, outputs: Any, targets: Any) -> Any:
    if targets.ndim == 1:
        targets = functional.one_hot(targets, COLUMNS)
    log_p = functional.log_softmax(outputs, dim=1)
    return -(targets * (1 - log_p.exp()) ** 2 * log_p).sum(dim=1)


def focal_binary(functional: Any, outputs: Any, targets: Any) -> Any:
    log_p, log_q = functional.logsigmoid(outputs), functional.logsigmoid(-outputs)
    return -(targets * log_q.exp() ** 2 * log_p + (1 - targets) * log_p.exp() ** 2 * log_q).mean(dim=1)


CROSS_ENTROPY = gf.SoftmaxCrossEntropy
LOSS_CASES = {
    "mean_squared_error": LossCase(gf.MeanSquaredError(), numbers, of_each_row("mse_loss")),
    "half_squared_error": LossCase(
        gf.HalfSquaredError(), numbers, lambda *arguments: of_each_row("mse_loss")(*arguments) * COLUMNS / 2
    ),
    "mean_absolute_error": LossCase(gf.MeanAbsoluteError(), numbers, of_each_row("l1_loss")),
    "huber": LossCase(gf.HuberLoss(0.7), numbers, of_each_row("huber_loss", delta=0.7)),
    "quantile": LossCase(gf.QuantileLoss([0.2, 0.9]), two_targets, pinball),
    "poisson": LossCase(
        gf.PoissonLoss(),
        counts,
        of_each_row("poisson_nll_loss"),
        largest_scale=30.0,  # exp(1e4) is infinite in both
    ),
    "binary_cross_entropy": LossCase(
        gf.BinaryCrossEntropy(), fractions, of_each_row("binary_cross_entropy_with_logits")
    ),
    "binary_cross_entropy smoothed": LossCase(gf.BinaryCrossEntropy(label_smoothing=0.3), fractions, smoothed_binary),
    "binary_cross_entropy focal": LossCase(gf.BinaryCrossEntropy(focal_gamma=2), fractions, focal_binary),
    "softmax_cross_entropy": LossCase(CROSS_ENTROPY(), labels, of_each_row("cross_entropy")),
    "softmax_cross_entropy of probabilities": LossCase(CROSS_ENTROPY(), probabilities, of_each_row("cross_entropy")),
    "softmax_cross_entropy smoothed": LossCase(
        CROSS_ENTROPY(label_smoothing=0.3), labels, of_each_row("cross_entropy", label_smoothing=0.3)
    ),
    "softmax_cross_entropy of probabilities smoothed": LossCase(
        CROSS_ENTROPY(label_smoothing=0.3), probabilities, of_each_row("cross_entropy", label_smoothing=0.3)
    ),
    "softmax_cross_entropy focal": LossCase(CROSS_ENTROPY(focal_gamma=2), labels, focal_softmax),
    "softmax_cross_entropy of probabilities focal": LossCase(
        CROSS_ENTROPY(focal_gamma=2), probabilities, focal_softmax
    ),
}
