"""The learning-rate range test: the loss as the learning rate grows from step to step."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradflow.checks import instance, integer, positive, positive_integer
from gradflow.errors import DataError
from gradflow.figures import empty_figure
from gradflow.schedules import Schedule
from gradflow.schedules.base import EpochValues
from gradflow.training.data.prepare import prepare_data, target_scale
from gradflow.training.progress.history import History
from gradflow.training.step.training_step import TrainingStep
from gradflow.training.trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_STEPS = 1_000_000


class RangeTest(NamedTuple):
    """The results of a range test.

    Attributes:
        rates: the learning rate of each step before the first loss that is not finite, float64 (steps,).
        losses: the loss of each step's batch, float64 (steps,).
        smoothed: the moving average of the losses over a twentieth of the steps to each side.
        proposed: the rate at which the smoothed loss falls fastest against the logarithm of the rate; None if it never
            falls.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    proposed: float | None

    def __repr__(self) -> str:
        proposed = "none" if self.proposed is None else f"{self.proposed:.3g}"
        return f"RangeTest({len(self.rates)} steps, rates {self.rates[0]:.3g} to {self.rates[-1]:.3g}, {proposed=!s})"

    def plot(self) -> Figure:
        """Plot loss against learning rate as a matplotlib figure, with the proposed rate marked.

        Raises:
            GradflowError: if matplotlib is missing.
        """
        figure, axes = empty_figure()
        axes.plot(self.rates, self.losses, color="#56B4E9", linewidth=0.8, label="each step")
        axes.plot(self.rates, self.smoothed, color="#0072B2", label="smoothed")
        if self.proposed is not None:
            axes.axvline(self.proposed, color="#D55E00", linestyle="--", label=f"proposed: {self.proposed:.2g}")
        axes.set(xlabel="learning rate", ylabel="loss", xscale="log", ylim=(None, 1.5 * self.smoothed[0]))
        axes.legend(frameon=False)
        return figure


def learning_rate_range_test(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    steps: int = 200,
    batch_size: int = 32,
) -> RangeTest:
    """Train a copy of the network while the learning rate grows geometrically (Smith, 2017, section 3.3).

    The rate of step s is lowest (highest / lowest)^(s / (steps - 1)). With too low a rate nothing is learned, with too
    high a rate the loss grows; the rate in between at which it falls fastest is proposed. The network is not changed.

    Args:
        trainer: the trainer, whose network, loss, optimizer and penalties are used.
        x, y: data as for `Trainer.fit`.
        lowest: the first rate, above 0.
        highest: the last rate, above ``lowest``.
        steps: the number of steps, from 10 to a million.
        batch_size: rows per step.

    Raises:
        DataError: for invalid data or settings, or if fewer than ten steps had a finite loss.
    """
    instance("trainer", trainer, Trainer, "a gradflow.Trainer")
    lowest, highest = positive("lowest", lowest), positive("highest", highest)
    if lowest >= highest:
        raise DataError(f"highest must be above lowest, which is {lowest!r}, got {highest!r}")
    steps = integer("steps", steps, least=10, most=_MOST_STEPS)
    network = trainer.network.copy()
    scale = network.output_scale
    if trainer.standardize_targets and scale is None:
        scale = network.output_scale = target_scale(network, trainer.loss, x, y).without_limits
    data = prepare_data(network, trainer.loss, x, y, scale=scale, finds_classes=True)
    size = min(positive_integer("batch_size", batch_size), len(data))
    per_epoch = -(-len(data) // size)
    optimizer = copy.copy(trainer.optimizer)
    optimizer.schedule = _Geometric(lowest, highest, (steps - 1) / per_epoch)
    objective = trainer.objective._replace(
        network=network, optimizer=optimizer, average=None, metrics=(), layer_statistics=False
    )
    epochs = -(-steps // per_epoch)
    step = TrainingStep(objective, data, batch_size=size, epochs=epochs)
    losses: list[float] = []
    for epoch in range(epochs):
        step.update.begin_epoch(epoch, History())
        step.run()
        of_rows = network.backend.to_host(step.epoch.results.losses).astype(np.float64)
        losses += [float(of_rows[start : start + size].mean()) for start in range(0, len(data), size)]
        if not np.isfinite(losses).all():
            break
    finite = np.array(losses[:steps])
    finite = finite[: int(np.argmin(np.isfinite(finite)))] if not np.isfinite(finite).all() else finite
    if len(finite) < 10:
        raise DataError(f"only {len(finite)} steps had a finite loss; start with a rate below lowest={lowest:g}")
    rates = lowest * (highest / lowest) ** (np.arange(len(finite)) / (steps - 1))
    smoothed = _moving_average(finite, max(1, steps // 20))
    return RangeTest(rates, finite, smoothed, _steepest(rates, smoothed))


class _Geometric(Schedule):
    name = "geometric"

    def __init__(self, lowest: float, highest: float, epochs: float) -> None:
        self._lowest, self._highest, self._epochs = lowest, highest, epochs

    def rates(self, times: np.ndarray, epochs: int, history: EpochValues) -> np.ndarray:
        return self._lowest * (self._highest / self._lowest) ** np.minimum(times / self._epochs, 1)


def _moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Return the mean over a window of up to ``width`` values before and after each value, truncated at the ends."""
    kernel = np.ones(2 * min(width, (len(values) - 1) // 2) + 1)
    sums, counts = (np.convolve(part, kernel, mode="same") for part in (values, np.ones_like(values)))
    means: np.ndarray = sums / counts
    return means


def _steepest(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    falling = slice(0, int(np.argmin(smoothed)) + 1)
    if falling.stop < 2:
        return None
    slopes = np.gradient(smoothed[falling], np.log(rates[falling]))
    return float(rates[int(np.argmin(slopes))])
