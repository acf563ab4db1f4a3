"""Advice on inputs and targets far from unit size, from which networks learn slowly or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np

from gradflow.layers import BatchNorm, EmbedColumns, LayerNorm
from gradflow.network import Sequential

LARGE = 10.0
"""A column is far from unit size if its root mean square is above this;"""
SMALL = 0.01
"""or below this, if no other column is larger."""


class Remedies(NamedTuple):
    """The terms in which advice names its remedies: those of `Trainer`, or of what trains with it.

    Attributes:
        inputs, targets: what to do about inputs and targets far from unit size.
        learning_rate: the setting of the learning rate.
        factor: the learning rate of the optimizer is this many times that setting.
        gradients: what to do about a gradient that vanishes.
        penalties: the setting of the penalties.
    """

    inputs: str = "Scale them first: network.preprocessing = gradflow.data.fit_preprocessing(x)"
    targets: str = "Pass standardize_targets=True to the trainer"
    learning_rate: str = "a learning rate"
    factor: float = 1.0
    gradients: str = "Try relu, BatchNorm or LayerNorm between the layers, Residual blocks, or fewer layers"
    penalties: str = "smaller penalties"

    def rate(self, comparison: str, learning_rate: float) -> str:
        """Return the advice to set a learning rate "above" or "below" that of the optimizer."""
        return f"{self.learning_rate} {comparison} {learning_rate / self.factor:g}"


_OF_TRAINER = Remedies()
REMEDIES: ContextVar[Remedies] = ContextVar("REMEDIES", default=_OF_TRAINER)
"""The terms of the fit that runs in this context."""


@contextmanager
def advising(remedies: Remedies) -> Iterator[None]:
    """Context in which advice has these terms."""
    token = REMEDIES.set(remedies)
    try:
        yield
    finally:
        REMEDIES.reset(token)


def far_inputs(network: Sequential, x: np.ndarray, names: Sequence[str] | None) -> str:
    """Return advice on inputs (rows, n_in) far from unit size; "" if none is needed.

    None is needed with preprocessing, if the first layer normalizes its inputs, or for the numbers of categories.

    Args:
        network: the network.
        x: inputs of its first layer.
        names: column names; None if there are none.
    """
    first = next(layer for layer in network.layers if not layer.training_only)
    if network.preprocessing is not None or isinstance(first, BatchNorm | LayerNorm):
        return ""
    if isinstance(first, EmbedColumns):
        x = x[:, : first.n_in - len(first.tables)]
    if x.shape[1] == 0:
        return ""
    sizes = _root_mean_squares(x)
    column = int(np.argmax(sizes))
    largest = float(abs(x[:, column]).max())
    remedy = REMEDIES.get().inputs
    if sizes[column] > LARGE:
        name = f"column {column if names is None else repr(names[column])}"
        return f"Inputs are far from unit size: {name} is up to {largest:.4g}. {remedy}"
    if 0 < sizes[column] < SMALL:
        return f"Inputs are far from unit size: none is above {largest:.2g}. {remedy}"
    return ""


def far_targets(network: Sequential, targets: np.ndarray) -> str:
    """Return advice on regression targets (rows, n_targets) far from unit size; "" if none is needed.

    None is needed for targets that are standardized or constant.
    """
    if network.output_scale is not None or targets.ndim != 2:
        return ""
    sizes, means, stds = _root_mean_squares(targets), targets.mean(axis=0), targets.std(axis=0)
    sizes = np.where(stds > 1e-6 * abs(means), sizes, 0)
    column = int(np.argmax(sizes))
    if not (sizes[column] > LARGE or 0 < sizes[column] < SMALL):
        return ""
    which = "they have" if targets.shape[1] == 1 else f"column {column} has"
    return (
        f"Targets are far from unit size: {which} mean {means[column]:.3g} and standard deviation "
        f"{stds[column]:.3g}. {REMEDIES.get().targets}"
    )


def _root_mean_squares(x: np.ndarray) -> np.ndarray:
    sizes: np.ndarray = np.sqrt((x**2).mean(axis=0))
    return sizes
